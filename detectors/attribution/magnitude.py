"""How large a change is, judged by the units that come after its alarm."""

from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from detectors.drift.confidence_sequence import BettingSequence
from detectors.drift.saved_state import read_state
from detectors.drift.unit_value import read_unit_value
from detectors.records import Interval

_VERSION: Final = 1


class Magnitude(Struct, frozen=True, kw_only=True):
    """The mean after an alarm, and how far it lies from the baseline, over ``n`` confirming units.

    ``effect_interval`` takes the baseline as exact. ``complete`` is whether the window is full.
    """

    n: int
    mean: float
    effect: float
    effect_interval: Interval
    complete: bool


class WindowState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A :class:`ConfirmationWindow` at rest."""

    version: int
    baseline: float
    units: int
    sequence: dict[str, Any]


class ConfirmationWindow:
    """The next units after an alarm, and what they say about the size of the change.

    The units before an alarm are biased by having raised it: for a true .85, their mean is .76. Those after
    it are not. The interval holds at all times together, so it may be read at every unit. Once the window is
    full it takes no more, so that a recovery does not wash out what was confirmed.

    Parameters
    ----------
    baseline
        The mean in control, in [0, 1].
    units
        Length of the window, at least 1.
    level
        Coverage of the interval, in (0, 1). The default is what
        :func:`~detectors.attribution.onset.locate_onset` needs for a set that holds the onset in 95 %.

    Examples
    --------
    >>> window = ConfirmationWindow(baseline=0.9)
    >>> for i in range(500):
    ...     window.update(float(i % 5 != 0))
    >>> found = window.magnitude()
    >>> found.n, round(found.effect, 2), found.effect_interval.high < 0.0
    (400, -0.1, True)
    """

    def __init__(self, *, baseline: float, units: int = 400, level: float = 1.0 - 2.0 * 0.05 / 3.0) -> None:
        if units < 1:
            raise ValueError(f"units must be at least 1, got {units}")
        self.baseline = read_unit_value(baseline)
        self.units = units
        self._sequence = BettingSequence(level=level)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the window that `state` was taken from; ValueError if it is not one."""
        read = read_state(state, WindowState, of="ConfirmationWindow", version=_VERSION)
        sequence = BettingSequence.from_state(read.sequence)
        new = cls(baseline=read.baseline, units=read.units, level=sequence.level)
        new._sequence = sequence
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything as JSON-able built-ins."""
        state = WindowState(
            version=_VERSION,
            baseline=self.baseline,
            units=self.units,
            sequence=self._sequence.to_state(),
        )
        built: dict[str, Any] = msgspec.to_builtins(state)
        return built

    def update(self, x: float) -> None:
        """Take the next unit unless the window is full.

        Raises
        ------
        ValueError
            If `x` is not a finite number in [0, 1]; nothing changes then.
        """
        x = read_unit_value(x)
        if not self.complete:
            self._sequence.update(x - self.baseline, 1.0)

    @property
    def n(self) -> int:
        """Units in the window."""
        return self._sequence.n

    @property
    def complete(self) -> bool:
        """Whether the window is full."""
        return self._sequence.n >= self.units

    @property
    def interval(self) -> Interval:
        """An interval for the mean itself, inside [0, 1]; [0, 1] before the first unit."""
        found = self._sequence.interval()
        low, high = found.low + self.baseline, found.high + self.baseline
        return Interval(max(0.0, low), min(1.0, high), found.level)

    def magnitude(self) -> Magnitude | None:
        """Return what the window says so far; None before its first unit."""
        effect = self._sequence.estimate
        if effect is None:
            return None
        mean = self.interval
        return Magnitude(
            n=self.n,
            mean=self.baseline + effect,
            effect=effect,
            effect_interval=Interval(mean.low - self.baseline, mean.high - self.baseline, mean.level),
            complete=self.complete,
        )
