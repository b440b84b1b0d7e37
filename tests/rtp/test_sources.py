"""Where audio comes from."""

from __future__ import annotations

import numpy as np
import pytest

from rtp.sources import ArraySource


def test_an_array_is_read_to_its_end() -> None:
    source = ArraySource(np.arange(10, dtype=np.int16))
    assert source.total_samples == 10
    assert source.read(6).tolist() == [0, 1, 2, 3, 4, 5]
    assert not source.exhausted
    assert source.read(6).tolist() == [6, 7, 8, 9]
    assert source.exhausted
    assert len(source.read(6)) == 0


@pytest.mark.parametrize("samples", [np.zeros(3, np.float32), np.zeros((2, 2), np.int16)])
def test_other_arrays_are_refused(samples: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> None:
    with pytest.raises(ValueError, match="not int16"):
        ArraySource(samples)
