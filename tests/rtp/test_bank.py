"""Rows are handed out, taken back, grown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rtp.bank import USED_AT_ONCE, Bank, Column, Columns


class Sample(Columns):
    number: NDArray[np.int64]
    pair: NDArray[np.int16]

    LAYOUT: ClassVar[Mapping[str, Column]] = {"number": Column(np.int64), "pair": Column(np.int16, (2,), -1)}


def test_the_lowest_free_row_comes_first() -> None:
    bank = Bank(Sample(4), capacity=4)
    assert [bank.allocate() for _ in range(3)] == [0, 1, 2]
    bank.free(1)
    bank.free(0)
    assert [bank.allocate() for _ in range(3)] == [3, 0, 1]
    assert bank.capacity == 4


def test_rows_given_back_come_again_before_many_others_are_touched() -> None:
    bank = Bank(Sample(1000), capacity=1000)
    rows = set()
    for _ in range(500):
        row = bank.allocate()
        rows.add(row)
        bank.free(row)
    assert max(rows) < 2 * USED_AT_ONCE


def test_a_row_is_fresh_when_it_is_handed_out_again() -> None:
    sample = Sample(2)
    bank = Bank(sample, capacity=2)
    row = bank.allocate()
    sample.number[row], sample.pair[row] = 7, (1, 2)
    bank.free(row)
    assert {bank.allocate(), bank.allocate()} == {0, 1}
    assert sample.number[row] == 0
    assert sample.pair[row].tolist() == [-1, -1]


def test_growing_doubles_and_keeps_what_rows_hold() -> None:
    sample, other = Sample(2), Sample(2)
    bank = Bank(sample, other, capacity=2)
    for value in range(3):
        row = bank.allocate()  # may replace the arrays
        sample.number[row] = value
    assert bank.capacity == len(sample.number) == len(other.pair) == 4
    assert sample.number[:3].tolist() == [0, 1, 2]
    assert other.pair[3].tolist() == [-1, -1]
    assert bank.allocate() == 3


def test_there_is_a_smallest_capacity() -> None:
    assert Bank.capacity_for(0) == 16
    assert Bank.capacity_for(100) == 100
