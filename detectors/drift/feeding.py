"""Many BettingSR that have columns of different lengths to take in: side by side while it pays."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.drift.bank_block import TICKS, BankBlock
from detectors.drift.betting_sr import BettingSR
from detectors.drift.betting_state import BettingState

Column = NDArray[np.float64]

_BLOCK: Final = 1250  # streams whose numbers stay in the cache together
LEAST_COLUMN: Final = 64
"""A shorter column is sooner taken value by value than moved into arrays."""


def feed_columns(watches: Sequence[BettingSR], columns: Sequence[Column]) -> list[tuple[BettingSR, int]]:
    """Return every detector after its column, and from which of its values on it had alarmed before.

    The numbers are those of :meth:`BettingSR.update`, one value after the other, to the last bit.

    Parameters
    ----------
    watches
        The detectors. Those with a short column, or the only long one, are carried on themselves, of the
        others a copy is.
    columns
        What each takes in, in [0, 1], in order.

    Raises
    ------
    ValueError
        If a value is not a finite number in [0, 1].

    Examples
    --------
    >>> watch = BettingSR(mean_low=0.9, mean_high=0.9, alpha=1e-2)
    >>> [(after, first)] = feed_columns([watch], [np.zeros(100)])
    >>> after.drift_detected, after.n, first
    (True, 100, 3)
    """
    found: list[tuple[BettingSR, int]] = [(watch, 0) for watch in watches]
    order = sorted(range(len(watches)), key=lambda index: -len(columns[index]))
    long = [index for index in order if len(columns[index]) >= LEAST_COLUMN]
    if len(long) < 2:
        long = []
    for index in order[len(long) :]:
        found[index] = watches[index], _feed(watches[index], columns[index])
    for start in range(0, len(long), _BLOCK):
        chosen = long[start : start + _BLOCK]
        fed = _feed_block([watches[index] for index in chosen], [columns[index] for index in chosen])
        for index, result in zip(chosen, fed, strict=True):
            found[index] = result
    return found


def _feed(watch: BettingSR, column: Column) -> int:
    after = 0 if watch.drift_detected else len(column)
    for index, value in enumerate(column.tolist()):
        watch.update(value)
        if after > index + 1 and watch.drift_detected:
            after = index + 1
    return after


def _feed_block(watches: Sequence[BettingSR], columns: Sequence[Column]) -> list[tuple[BettingSR, int]]:
    """Feed columns of falling length: those that have ended are the last, and are left out from there on."""
    if not all(((column >= 0.0) & (column <= 1.0)).all() for column in columns):
        raise ValueError("not a finite number in [0, 1]")
    before = [msgspec.convert(watch.to_state(), BettingState) for watch in watches]
    block = BankBlock(before)
    lengths = [len(column) for column in columns]
    rows = np.zeros((lengths[0], len(columns)))
    for stream, column in enumerate(columns):
        rows[: len(column), stream] = column
    done = 0
    for end in sorted(set(lengths)):
        width = sum(length >= end for length in lengths)
        part = block.part(width)
        for start in range(done, end, TICKS):
            part.run(rows[start : min(start + TICKS, end), :width])
        done = end
    return [_after(block.state(stream), was, lengths[stream]) for stream, was in enumerate(before)]


def _after(state: BettingState, was: BettingState, length: int) -> tuple[BettingSR, int]:
    watch = BettingSR.from_state(msgspec.to_builtins(state))
    record = watch.alarm_record
    if was.detected:
        return watch, 0
    return watch, length if record is None else int(record["total"]) - was.total
