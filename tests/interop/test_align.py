"""The judge of recordings, judged: it must find a whole signal, and must see every kind of damage."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tests.interop.kit.align import align, faults
from tests.interop.kit.sound import RATE, speech_like

PLAYED = speech_like(2.0, seed=1)
SILENCE = np.zeros(4000, dtype=np.int16)
CUT = 8000
"""Sample at which the damaged recordings are damaged, on a frame's border."""


def test_a_whole_signal_is_found_where_it_stands() -> None:
    recording = np.concatenate((SILENCE, PLAYED, SILENCE))
    found = align(recording, PLAYED)
    assert found.offset == len(SILENCE)
    assert found.correlation == pytest.approx(1.0)
    assert faults(recording, PLAYED, found.offset) == []


def test_companding_noise_is_no_fault() -> None:
    companded = np.asarray(np.round(PLAYED / 256) * 256, dtype=np.int16)
    found = align(companded, PLAYED)
    assert found.offset == 0
    assert found.correlation > 0.99
    assert faults(companded, PLAYED, 0) == []


def test_another_signal_does_not_correlate() -> None:
    assert align(speech_like(2.0, seed=2), PLAYED).correlation < 0.2


def test_silence_and_nothing_do_not_correlate() -> None:
    assert align(np.zeros(16000, dtype=np.int16), PLAYED).correlation == 0.0
    assert align(np.zeros(0, dtype=np.int16), PLAYED).correlation == 0.0


def test_a_signal_cut_off_in_the_middle_correlates_less() -> None:
    assert align(PLAYED[: len(PLAYED) // 2], PLAYED).correlation < 0.9


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(np.concatenate((PLAYED[:CUT], PLAYED[CUT + 160 :])), id="a lost packet"),
        pytest.param(np.concatenate((PLAYED[:CUT], SILENCE[:160], PLAYED[CUT:])), id="a gap"),
        pytest.param(np.concatenate((PLAYED[:CUT], PLAYED[CUT - 160 : CUT], PLAYED[CUT:])), id="a repeated packet"),
    ],
)
def test_a_shift_in_the_middle_is_a_fault(damaged: npt.NDArray[np.int16]) -> None:
    found = faults(damaged, PLAYED, 0)
    assert found[0].start == pytest.approx(CUT / RATE)
    assert sum(fault.duration for fault in found) > 0.5


def test_one_silenced_frame_is_a_fault_of_20_ms() -> None:
    damaged = PLAYED.copy()
    damaged[CUT : CUT + 160] = 0
    (fault,) = faults(damaged, PLAYED, 0)
    assert (fault.start, fault.duration) == pytest.approx((1.0, 0.02))
    assert align(damaged, PLAYED).correlation > 0.95, "correlation alone does not see it"
