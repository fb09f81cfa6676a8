"""Runs detectors over whole streams: one at a time, or in a bank."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.drift.bank import Bank
from detectors.drift.betting_sr import BettingSR
from detectors.worlds.numbers import Numbers

Build = Callable[[int], Any]
"""Makes the detector of the stream with this row number."""


_CHUNK: Final = 32


class InABank(Struct, frozen=True):
    """Runs one :class:`BettingSR` for each row, all of them in a :class:`Bank`: ten times as fast.

    After an alarm the rest of a chunk of 32 observations is left out, then the stream goes on.

    Parameters
    ----------
    build
        Makes the detector of a row.

    Examples
    --------
    >>> x = np.array([[0.9] * 100 + [0.1] * 100])
    >>> runner = InABank(lambda row: BettingSR(mean_low=0.9, mean_high=0.9, alpha=1e-3))
    >>> int(runner.run(x, until=100).argmax())
    101
    """

    build: Callable[[int], BettingSR]

    def run(self, x: Numbers, *, until: int | None = None) -> NDArray[np.bool_]:
        """Return where each row's detector alarmed; all end when each row has one at or after `until`."""
        bank = Bank([self.build(row) for row in range(x.shape[0])])
        alarms = np.zeros(x.shape, dtype=bool)
        columns = np.ascontiguousarray(x.T)
        for start in range(0, x.shape[1], _CHUNK):
            bank.update_many(columns[start : start + _CHUNK])
            rows = np.flatnonzero(bank.drift_detected)
            for row in rows.tolist():
                record = bank.detector(row).alarm_record
                if record is not None:
                    alarms[row, record["total"] - 1] = True
            bank.reset(rows)
            if until is not None and start > until and alarms[:, until:].any(axis=1).all():
                break
        return alarms


class OneByOne(Struct, frozen=True):
    """Runs one detector for each row, fed observation by observation.

    Parameters
    ----------
    build
        Makes the detector of a row.
    resets
        Whether an alarm stays until ``reset`` is called, as in this house. River's reset themselves.

    Examples
    --------
    >>> from river.drift import PageHinkley
    >>> x = np.array([[0.9] * 100 + [0.1] * 100])
    >>> OneByOne(lambda row: PageHinkley(threshold=10), resets=False).run(x).sum()
    np.int64(1)
    """

    build: Build
    resets: bool = True

    def run(self, x: Numbers, *, until: int | None = None) -> NDArray[np.bool_]:
        """Return where each row's detector alarmed; it is reset there and goes on, or ends after `until`."""
        alarms = np.zeros(x.shape[:2], dtype=bool)
        for row in range(x.shape[0]):
            for index in alarm_indices(self.build(row), x[row].tolist(), resets=self.resets):
                alarms[row, index] = True
                if until is not None and index >= until:
                    break
        return alarms


def alarm_indices(detector: Any, values: Iterable[Any], *, resets: bool = True) -> Iterator[int]:
    """Yield the indices in `values` at which `detector` alarms, reset after each.

    Examples
    --------
    >>> from detectors.drift.betting_sr import BettingSR
    >>> watch = BettingSR(mean_low=0.9, mean_high=0.9, alpha=1e-3)
    >>> next(alarm_indices(watch, [0.9] * 50 + [0.1] * 50))
    51
    """
    update = detector.update
    for index, value in enumerate(values):
        update(value)
        if detector.drift_detected:
            yield index
            if resets:
                detector.reset()
