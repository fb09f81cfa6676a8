"""A few example interactions beside every signal: bad and good, newest of the most extreme."""

from collections.abc import Iterable
from typing import Final

from detectors.records import Direction
from detectors.stages.units import UnitValue

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

    def add(self, values: Iterable[UnitValue], baseline: float) -> None:
        """Take in the units of a closed bucket, in their order."""
        for unit in values:
            distance = self._sign * (unit.value - baseline)
            if distance < -_FAR:
                self.bad = [*self.bad, *unit.interaction_ids][-KEPT:]
            elif distance >= 0.0:
                self.good = [*self.good, *unit.interaction_ids][-KEPT:]
