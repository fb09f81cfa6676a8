"""Is a metric back after an alarm? Judged by whole status periods after it, never by a single one."""

from typing import Final

from detectors.drift.betting_sr import BettingSR
from detectors.stages.moments import Moments

MIN_PERIODS: Final = 5
MIN_UNITS: Final = 100
_PATIENCE: Final = 4


class Recovery:
    """Pools the status periods after an alarm, and looks at each pool once, when it is large enough.

    A pool holds at least :data:`MIN_PERIODS` periods and `needed` units: four times as many as it took to
    raise the alarm, and at least :data:`MIN_UNITS`. A small change takes many units to see, and more to see
    that it is gone; with fewer it would clear and alarm in turns. The metric is back when the mean of the
    pool lies inside the band of the reference, or on its better side.

    Parameters
    ----------
    needed
        Units of a pool.
    """

    def __init__(self, needed: int = MIN_UNITS) -> None:
        self._needed = max(MIN_UNITS, needed)
        self._periods, self._n, self._total = 0, 0, 0.0

    @classmethod
    def of(cls, watch: BettingSR) -> "Recovery":
        """Return the recovery to wait for, after `watch` has just alarmed."""
        return cls(_PATIENCE * (watch.n - (watch.began_index or 0)))

    def add(self, period: Moments, watch: BettingSR) -> bool:
        """Take in a period; return whether it completes a pool that is back inside the band of `watch`."""
        self._periods, self._n = self._periods + 1, self._n + period.n
        self._total += period.total
        if self._periods < MIN_PERIODS or self._n < self._needed:
            return False
        mean = self._total / self._n
        self._periods, self._n, self._total = 0, 0, 0.0
        low_enough = watch.direction == "down" or mean <= watch.mean_high
        high_enough = watch.direction == "up" or mean >= watch.mean_low
        return low_enough and high_enough

    def to_state(self) -> list[float]:
        """Return everything as plain numbers."""
        return [self._needed, self._periods, self._n, self._total]

    @classmethod
    def from_state(cls, state: list[float]) -> "Recovery":
        """Return what `to_state` described."""
        recovery = cls(int(state[0]))
        recovery._periods, recovery._n, recovery._total = int(state[1]), int(state[2]), state[3]
        return recovery
