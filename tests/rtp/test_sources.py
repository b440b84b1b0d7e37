"""Where audio comes from."""

from __future__ import annotations

import numpy as np
import pytest

from rtp.sources import ArraySource, QueueSource


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


def test_a_queue_hands_out_what_was_written_across_chunks() -> None:
    source = QueueSource()
    assert source.total_samples is None
    for first in (0, 3, 6):
        assert source.write(np.arange(first, first + 3, dtype=np.int16))
    assert source.read(4).tolist() == [0, 1, 2, 3]
    assert source.queued_samples == 5
    assert source.read(9).tolist() == [4, 5, 6, 7, 8]
    assert source.read(1).tolist() == []
    assert not source.exhausted


def test_a_full_queue_refuses_and_counts() -> None:
    source = QueueSource(max_samples=5)
    assert source.write(np.zeros(5, np.int16))
    assert not source.write(np.zeros(1, np.int16))
    assert source.dropped_samples == 1


def test_a_queue_copies_what_is_written() -> None:
    source = QueueSource()
    samples = np.ones(2, np.int16)
    source.write(samples)
    samples[:] = 7
    assert source.read(2).tolist() == [1, 1]


def test_an_ended_queue_is_exhausted_when_it_is_empty() -> None:
    source = QueueSource()
    source.write(np.ones(2, np.int16))
    source.write(np.zeros(0, np.int16))
    source.end()
    assert not source.exhausted
    assert not source.write(np.ones(2, np.int16))
    source.read(2)
    assert source.exhausted
