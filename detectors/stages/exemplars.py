"""A few example interactions beside every signal: bad and good, newest of the most extreme."""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.records import Direction
from detectors.stages.closed_units import Column

KEPT: Final = 5
_FAR: Final = 0.25


class Exemplars:
    """The latest interactions whose unit lies far from the baseline, on either side of it.

    Parameters
    ----------
    direction
        Of the metric; a neutral metric calls its low values good.
    bad, good
        What was kept so far, oldest first.
    """

    def __init__(self, direction: Direction, bad: Iterable[str] = (), good: Iterable[str] = ()) -> None:
        self._sign = 1.0 if direction == "higher" else -1.0
        self.bad, self.good = list(bad), list(good)

    def add(self, column: Column, baseline: float) -> None:
        """Take in the units of a closed bucket, in their order."""
        distance = self._sign * (column.values - baseline)
        self.bad = _latest(self.bad, column, np.flatnonzero(distance < -_FAR))
        self.good = _latest(self.good, column, np.flatnonzero(distance >= 0.0))


def _latest(kept: list[str], column: Column, rows: NDArray[np.int64]) -> list[str]:
    fresh = [one for row in rows[-KEPT:].tolist() for one in column.ids[row]]
    return [*kept, *fresh][-KEPT:] if fresh else kept
