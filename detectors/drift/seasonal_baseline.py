"""SeasonalBaseline: what was normal for each hour of the week, as far as the reference can tell."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from detectors.drift.bet_grid import Side, estimate_band
from detectors.drift.betting_sr import BettingSR
from detectors.drift.unit_value import read_unit_value

_HOUR_MS: Final = 3_600_000


class SeasonalBaseline(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    r"""How far each hour of the week lies from the mean, shrunk towards it; an immutable artefact.

    Slot b of the reference holds :math:`n_b` units with the mean :math:`m_b`; within slots the variance is
    :math:`s^2`, between them, beyond what sampling explains, :math:`\tau^2` (method of moments, never below
    0). The shift of a slot is :math:`B_b (m_b - m)` with :math:`B_b = \tau^2/(\tau^2 + s^2/n_b)`, the
    posterior mean under a normal prior: without a season all shifts are 0. A slot that the reference never
    saw has shift 0.

    The shift is known before the unit, so ``BettingSR.update(x, shift=baseline.shift(at_ms))`` bets on what
    is left beyond the season, and its promise holds as far as the shifts are right. Their own sampling error
    is paid for: units of one visit to a slot share the error of its shift, whose posterior variance is
    :math:`B_b s^2/n_b`, so a bet :math:`\lambda` gains on average :math:`\lambda^2 v/2` a unit by it, with
    :math:`v = B_b s^2/W_b` and :math:`W_b` the visits to the slot in the reference (weeks). ``watch`` hands v
    to the detector, which discounts every factor by that. First order and measured, like the discount for
    the mean.

    Parameters
    ----------
    mean, n
        Of all units of the reference.
    shifts
        One for each slot, in [-1, 1].
    shift_variance
        v above, averaged over the units of the reference.
    slot_ms
        Length of a slot in milliseconds; slots repeat after all of them.

    References
    ----------
    Morris (1983), "Parametric empirical Bayes inference: theory and applications", JASA 78.

    Examples
    --------
    >>> times = [hour * 3_600_000 for hour in range(24 * 28)]
    >>> values = [0.8 if hour % 24 < 8 else 0.95 for hour in range(24 * 28)]
    >>> baseline = SeasonalBaseline.fit(values, times)
    >>> round(baseline.mean, 2), round(baseline.shift(3 * 3_600_000), 2), round(baseline.shift(0), 2)
    (0.9, -0.1, -0.1)
    """

    mean: float
    n: int
    shifts: tuple[float, ...]
    shift_variance: float
    slot_ms: int = _HOUR_MS

    def __post_init__(self) -> None:
        read_unit_value(self.mean)
        if self.n < 1 or self.slot_ms < 1 or not self.shifts:
            raise ValueError("a baseline has units, slots, and slots of some length")
        if not all(-1.0 <= shift <= 1.0 for shift in self.shifts) or not 0.0 <= self.shift_variance <= 1.0:
            raise ValueError("shifts must be in [-1, 1], their variance in [0, 1]")

    @classmethod
    def fit(
        cls,
        values: Sequence[float],
        times_ms: Sequence[int],
        *,
        slots: int = 168,
        slot_ms: int = _HOUR_MS,
    ) -> "SeasonalBaseline":
        """Return the baseline of a reference: its units, each in [0, 1], and when they were, in any order.

        Raises
        ------
        ValueError
            Without units, for two lengths, for a unit outside [0, 1], or without slots.
        """
        if not values or len(values) != len(times_ms) or slots < 1 or slot_ms < 1:
            raise ValueError("need units, as many times as units, and slots")
        units: dict[int, list[float]] = defaultdict(list)
        visits: dict[int, set[int]] = defaultdict(set)
        for value, at_ms in zip(values, times_ms, strict=True):
            visit, slot = divmod(at_ms // slot_ms, slots)
            units[slot].append(read_unit_value(value))
            visits[slot].add(visit)
        n = len(values)
        mean = math.fsum(value for slot in sorted(units) for value in units[slot]) / n
        within, between = _variances(units, n, mean)
        shifts, spread = [0.0] * slots, 0.0
        for slot, members in sorted(units.items()):
            error = within / len(members)
            kept = between / (between + error) if between else 0.0
            shifts[slot] = kept * (math.fsum(members) / len(members) - mean)
            spread += len(members) / n * kept * within / len(visits[slot])
        return cls(
            mean=min(1.0, mean),
            n=n,
            shifts=tuple(shifts),
            shift_variance=min(1.0, spread),
            slot_ms=slot_ms,
        )

    def shift(self, at_ms: int) -> float:
        """Return how far the mean at `at_ms` (since the epoch) is expected from the overall one."""
        return self.shifts[at_ms // self.slot_ms % len(self.shifts)]

    def watch(self, *, tolerance: float, alpha: float = 1e-4, direction: Side = "both") -> BettingSR:
        """Return a detector for units fed with their ``shift``; parameters as in ``from_reference``.

        Raises
        ------
        ValueError
            For a negative `tolerance` or an `alpha` outside (0, 1).
        """
        low, high = estimate_band(self.n, self.mean, tolerance)
        return BettingSR(
            mean_low=low,
            mean_high=high,
            alpha=alpha,
            direction=direction,
            reference_units=self.n,
            shift_variance=self.shift_variance,
        )


def _variances(units: dict[int, list[float]], n: int, mean: float) -> tuple[float, float]:
    """Return the variance of the units within slots, and that of the slots' true means."""
    centres = {slot: math.fsum(members) / len(members) for slot, members in units.items()}
    inner = math.fsum((value - centres[slot]) ** 2 for slot in sorted(units) for value in units[slot])
    outer = math.fsum(len(units[slot]) * (centres[slot] - mean) ** 2 for slot in sorted(units))
    free = n - len(units)
    # With one unit in every slot nothing tells noise from season: all of it counts as noise.
    within = inner / free if free else outer / max(1, n - 1)
    spread = n - sum(len(members) ** 2 for members in units.values()) / n
    between = (outer - (len(units) - 1) * within) / spread if spread > 0.0 else 0.0
    return within, max(0.0, between)
