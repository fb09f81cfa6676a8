"""The bets of :class:`~detectors.drift.betting_sr.BettingSR`: how much, on which side, with what weight."""

import math
from itertools import count
from numbers import Real
from typing import Final, Literal, NamedTuple

from msgspec import Struct

Side = Literal["both", "down", "up"]

BETS: Final = 7
"""Bets of a side."""

# Risk, the share of its capital that one observation may cost a bet, and taste, in proportion to which it
# counts: more where less evidence is left to be spent on the search.
_COINS: Final = ((0.0125, 2), (0.025, 4), (0.05, 22), (0.1, 16), (0.2, 12), (0.4, 18), (0.9, 34))
_GRADED: Final = ((0.0125, 2), (0.025, 4), (0.05, 12), (0.1, 14), (0.25, 16), (0.7, 66), (0.98, 86))
_GRADED_BELOW: Final = 0.2  # of the spread; observations near 0 and 1 alone are their own squares

_EDGE: Final = 1e-3
_ROOM: Final = 0.75  # between sharing alpha evenly (0) and by a uniform prior on the new mean (1)
_LOG_STARTS: Final = math.log(100.0)  # so many starts of a small bet share one alarm


Line = tuple[float, float, float, tuple[tuple[int, float, float, float], ...]]
"""End, slope and bend of a gain, and of each bet its place among all bets, its weight, kept and risk."""


class Wager(NamedTuple):
    """One bet: its `weight`, and its factor ``kept + risk * gain``."""

    weight: float
    kept: float
    risk: float


class WageredSide(Struct, frozen=True, array_like=True):
    """The bets of one side on a band whose end is `end`; ``gain = (x - end) * slope`` is at least -1.

    With a `spread`, the last bet is on the square of the distance to the far end of the scale instead.
    """

    down: bool
    end: float
    slope: float
    wagers: tuple[Wager, ...]
    spread: float | None = None

    def moved(self, shift: float) -> "WageredSide":
        """Return the same bets on the band moved by `shift`, kept on the scale."""
        end, slope = _line(self.end + shift, down=self.down)
        return WageredSide(self.down, end, slope, self.wagers, self.spread)

    @property
    def last(self) -> tuple[float, float, float]:
        """End, slope and bend of the last bet, whose gain is ``(x - end) * (slope + bend * x)``."""
        return (
            (self.end, self.slope, 0.0)
            if self.spread is None
            else _curve(self.end, self.spread, down=self.down)
        )


def lay_bets(
    mean_low: float,
    mean_high: float,
    *,
    alpha: float,
    direction: Side = "both",
    reference_units: int | None = None,
    shift_variance: float = 0.0,
    spread: float | None = None,
) -> tuple[WageredSide, ...]:
    r"""Return the watched sides with their bets; all weights add up to 1.

    A side's weight is its room, the distance from the band to the end of the scale, to the power of .75: a
    mean of .9 can fall by much and rise by little. A side without room, that no mean can leave, gets no bets.

    Every factor is multiplied by :math:`\exp(-d)`, with :math:`d` what the sampling error of the band may
    gain for the bet in one observation, on average over references; see :class:`BettingSR`.

    Parameters
    ----------
    mean_low, mean_high, alpha, direction, reference_units, shift_variance, spread
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
        spread=spread,
    )
    graded = spread if spread is not None and spread < _GRADED_BELOW else None
    grid = _COINS if graded is None else _GRADED
    tastes = sum(taste for _, taste in grid)
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
        for bet, (risk, taste) in enumerate(grid, 1):
            pull = slope  # by how much an error of the mean moves a gain
            if graded is not None and bet == BETS:
                pull = _pull(end, graded, down=down)
            kept = math.exp(-pinned - (risk * pull) ** 2 * shift_variance / 2.0)
            wagers.append(Wager(taste / tastes * share, kept, kept * risk))
        sides.append(WageredSide(down, end, slope, tuple(wagers), graded))
    return tuple(sides)


def number_bets(sides: tuple[WageredSide, ...], shift: float | None = None) -> tuple[Line, ...]:
    """Return the sides as lines, moved by `shift` if there is one: what an update walks through, fast.

    Examples
    --------
    >>> down, up = number_bets(lay_bets(0.9, 0.9, alpha=1e-4))
    >>> down[0], len(down[3]), up[3][0][0]
    (0.9, 7, 7)
    >>> [len(line[3]) for line in number_bets(lay_bets(0.9, 0.9, alpha=1e-4, spread=0.1))]
    [6, 1, 6, 1]
    """
    places, lines = count(), list[Line]()
    for side in sides:
        at = side if shift is None else side.moved(shift)
        bets = tuple((next(places), *wager) for wager in at.wagers)
        if at.spread is None:
            lines.append((at.end, at.slope, 0.0, bets))
        else:
            lines.append((at.end, at.slope, 0.0, bets[:-1]))
            lines.append((*at.last, bets[-1:]))
    return tuple(lines)


def read_shift(shift: object) -> float:
    """Return `shift` as a number.

    Raises
    ------
    ValueError
        If it is not one in [-1, 1].
    """
    if isinstance(shift, bool) or not isinstance(shift, Real) or not -1.0 <= float(shift) <= 1.0:
        raise ValueError(f"shift must be a number in [-1, 1], got a {type(shift).__name__}")
    return float(shift)


def estimate_band(n: int, mean: float, tolerance: float) -> tuple[float, float]:
    """Return the ends of the band around the mean of `n` units, each counting one more unit at its own end.

    Raises
    ------
    ValueError
        Without units, or for a negative `tolerance`.

    Examples
    --------
    >>> estimate_band(9, 1.0, 0.0)
    (0.9, 1.0)
    """
    if n < 1 or tolerance < 0:
        raise ValueError(f"need units and tolerance >= 0, got {n} and {tolerance}")
    total = n * mean
    return max(0.0, total / (n + 1) - tolerance), min(1.0, (total + 1.0) / (n + 1) + tolerance)


def largest_spread(n: int, mean: float, variance: float) -> float:
    """Return the spread of `n` units, counted as if there were one more, at whichever end gives more.

    So a reference whose units are all alike says no more about their spread than its size allows.

    Examples
    --------
    >>> round(largest_spread(5000, 0.9, 0.09), 9), round(largest_spread(5000, 0.9, 0.00818), 3)
    (1.0, 0.093)
    """
    spreads = [0.0]
    for end in (0.0, 1.0):
        centre = (n * mean + end) / (n + 1)
        around = n / (n + 1) * (variance + (mean - end) ** 2 / (n + 1))
        most = centre * (1.0 - centre)
        spreads.append(around / most if most > 0.0 else 1.0)
    return min(1.0, max(spreads))


def _line(end: float, *, down: bool) -> tuple[float, float]:
    """Return the end of a band, kept on the scale and off its far end, and the slope of the gain there."""
    if down:
        end = min(max(end, 0.0), 1.0 - _EDGE)
        return end, -1.0 / (1.0 - end)
    end = max(min(end, 1.0), _EDGE)
    return end, 1.0 / end


def _square(end: float, spread: float, *, down: bool) -> float:
    """Return the mean square of the distance to the far end of the scale, at the end of a band."""
    far = 1.0 - end if down else end
    return far * far + spread * (end * (1.0 - end))


def _curve(end: float, spread: float, *, down: bool) -> tuple[float, float, float]:
    """Return end, slope and bend of a gain of squares.

    With the mean square q and its root r the gain down is ((1 - x)^2 - q)/q = (x - (1 - r))(x - (1 + r))/q,
    and up (x^2 - q)/q = (x - r)(x + r)/q.
    """
    square = _square(end, spread, down=down)
    root = math.sqrt(square)
    return (1.0 - root, -(1.0 + root) / square, 1.0 / square) if down else (root, root / square, 1.0 / square)


def _pull(end: float, spread: float, *, down: bool) -> float:
    """Return by how much the gain of squares changes with the mean, where the spread stays."""
    far = 1.0 - end if down else end
    return (2.0 * far + spread * (1.0 - 2.0 * far)) / _square(end, spread, down=down)


def _check(
    *,
    mean_low: float,
    mean_high: float,
    alpha: float,
    direction: str,
    reference_units: int | None,
    shift_variance: float,
    spread: float | None,
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
    if spread is not None and not 0.0 <= spread <= 1.0:
        raise ValueError(f"spread must be in [0, 1], got {spread}")
