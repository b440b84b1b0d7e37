"""The picture: drawn where matplotlib is, refused with a name where it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from service.demo.plot import Picture, PlottingMissing, Span, draw
from service.demo.sounds import RATE, chime

PNG = b"\x89PNG\r\n\x1a\n"


def picture(*, samples: int, packets: int) -> Picture:
    """A chime, heard, or nothing of it."""
    intervals = [0] * 101
    intervals[19] = packets
    return Picture(chime(), chime()[:samples], RATE, intervals, [Span(0.1, 0.3, "muted")], f"{packets} packets")


@pytest.mark.parametrize(("samples", "packets"), [(RATE, 50), (0, 0)], ids=["a call", "nothing heard"])
def test_a_png_of_1600_by_1000(tmp_path: Path, samples: int, packets: int) -> None:
    pytest.importorskip("matplotlib")
    draw(picture(samples=samples, packets=packets), tmp_path / "heard.png")
    data = (tmp_path / "heard.png").read_bytes()
    assert data.startswith(PNG)
    assert tuple(np.frombuffer(data[16:24], ">u4")) == (1600, 1000)


def test_without_matplotlib_it_says_so_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlottingMissing):
        draw(picture(samples=RATE, packets=50), tmp_path / "heard.png")
    assert list(tmp_path.iterdir()) == []
