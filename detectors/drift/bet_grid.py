"""The bets of :class:`~detectors.drift.betting_sr.BettingSR`: how much, on which side, with what weight."""

import math
from itertools import count
from typing import Final, Literal, NamedTuple

from msgspec import Struct

Side = Literal["both", "down", "up"]

RISKS: Final = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.9)
"""The bets of a side, as shares of their capital that one observation may cost."""

_TASTES: Final = (2, 4, 22, 16, 12, 18, 34)
WEIGHTS: Final = tuple(taste / sum(_TASTES) for taste in _TASTES)
"""What each bet of a side counts, in sum 1: more where less evidence is left to be spent on the search."""

_EDGE: Final = 1e-3
_ROOM: Final = 0.75  # between sharing alpha evenly (0) and by a uniform prior on the new mean (1)
_LOG_STARTS: Final = math.log(100.0)  # so many starts of a small bet share one alarm


Line = tuple[float, float, tuple[tuple[int, float, float, float], ...]]
"""End and slope of a side, and of each bet its place among all bets, its weight, kept and risk."""


class Wager(NamedTuple):
    """One bet: its `weight`, and its factor ``kept + risk * gain``."""

    weight: float
    kept: float
    risk: float


class WageredSide(Struct, frozen=True, array_like=True):
    """The bets of one side on a band whose end is `end`; ``gain = (x - end) * slope`` is at least -1."""

    down: bool
    end: float
    slope: float
    wagers: tuple[Wager, ...]

    def moved(self, shift: float) -> tuple[float, float]:
        """Return end and slope of the band moved by `shift`, kept on the scale."""
        return _line(self.end + shift, down=self.down)


def lay_bets(
    mean_low: float,
    mean_high: float,
    *,
    alpha: float,
    direction: Side = "both",
    reference_units: int | None = None,
    shift_variance: float = 0.0,
) -> tuple[WageredSide, ...]:
    r"""Return the watched sides with their bets; all weights add up to 1.

    A side's weight is its room, the distance from the band to the end of the scale, to the power of .75: a
    mean of .9 can fall by much and rise by little. A side without room, that no mean can leave, gets no bets.

    Every factor is multiplied by :math:`\exp(-d)`, with :math:`d` what the sampling error of the band may
    gain for the bet in one observation, on average over references; see :class:`BettingSR`.

    Parameters
    ----------
    mean_low, mean_high, alpha, direction, reference_units, shift_variance
        As in :class:`BettingSR`.

    Raises
    ------
    ValueError
        For one of them outside its range.

    Examples
    --------
    >>> down, up = lay_bets(0.9, 0.9, alpha=1e-4)
    >>> round(sum(wager.weight for wager in down.wagers), 2), round(up.slope, 2)
    (0.84, 1.11)
    """
    _check(
        mean_low=mean_low,
        mean_high=mean_high,
        alpha=alpha,
        direction=direction,
        reference_units=reference_units,
        shift_variance=shift_variance,
    )
    room = {True: mean_low**_ROOM, False: (1.0 - mean_high) ** _ROOM}
    watched = [
        down for down in (True, False) if direction in ("both", "down" if down else "up") and room[down]
    ]
    total = sum(room[down] for down in watched)
    evidence = -math.log(alpha)
    pinned = max(evidence / 2.0, evidence - _LOG_STARTS) / reference_units if reference_units else 0.0
    sides: list[WageredSide] = []
    for down in watched:
        end, slope = _line(mean_low if down else mean_high, down=down)
        share = room[down] / total
        wagers: list[Wager] = []
        for risk, weight in zip(RISKS, WEIGHTS, strict=True):
            kept = math.exp(-pinned - (risk * slope) ** 2 * shift_variance / 2.0)
            wagers.append(Wager(weight * share, kept, kept * risk))
        sides.append(WageredSide(down, end, slope, tuple(wagers)))
    return tuple(sides)


def number_bets(sides: tuple[WageredSide, ...], shift: float | None = None) -> tuple[Line, ...]:
    """Return the sides as lines, moved by `shift` if there is one: what an update walks through, fast.

    Examples
    --------
    >>> down, up = number_bets(lay_bets(0.9, 0.9, alpha=1e-4))
    >>> down[0], len(down[2]), up[2][0][0]
    (0.9, 7, 7)
    """
    places, lines = count(), []
    for side in sides:
        end, slope = (side.end, side.slope) if shift is None else side.moved(shift)
        lines.append((end, slope, tuple((next(places), *wager) for wager in side.wagers)))
    return tuple(lines)


def _line(end: float, *, down: bool) -> tuple[float, float]:
    """Return the end of a band, kept on the scale and off its far end, and the slope of the gain there."""
    if down:
        end = min(max(end, 0.0), 1.0 - _EDGE)
        return end, -1.0 / (1.0 - end)
    end = max(min(end, 1.0), _EDGE)
    return end, 1.0 / end


def _check(
    *,
    mean_low: float,
    mean_high: float,
    alpha: float,
    direction: str,
    reference_units: int | None,
    shift_variance: float,
) -> None:
    if not 0.0 <= mean_low <= mean_high <= 1.0:
        raise ValueError(f"need 0 <= mean_low <= mean_high <= 1, got {mean_low} and {mean_high}")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")
    if direction not in ("both", "down", "up"):
        raise ValueError(f"direction must be 'both', 'down' or 'up', got {direction!r}")
    if reference_units is not None and reference_units < 1:
        raise ValueError(f"reference_units must be at least 1, got {reference_units}")
    if not 0.0 <= shift_variance <= 1.0:
        raise ValueError(f"shift_variance must be in [0, 1], got {shift_variance}")
