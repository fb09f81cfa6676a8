"""What could be seen at all: how many units, and so how many days, a change of a given size takes to find."""

import math
from collections.abc import Callable, Sequence
from random import Random
from statistics import fmean, stdev
from typing import Any, Final, Literal

import numpy as np
from msgspec import Struct

from detectors.drift.betting_sr import BettingSR
from detectors.drift.unit_value import read_unit_value

_LEAST_STREAMS: Final = 400


class Detectable(Struct, frozen=True, kw_only=True):
    """How long a change of the mean by ``change`` takes to find.

    ``units`` is the mean over simulated streams of coins, with standard error ``se``; a stream that was still
    silent at the horizon counts as the horizon, and ``missed`` is the share of those. So ``units`` is a lower
    bound wherever ``missed`` is not 0. ``least_units`` is what somebody would need who knows the size of the
    change and the baseline exactly, at the same `alpha`; less is not possible at any price. ``days`` is
    ``units`` at the traffic given.
    """

    change: float
    mean_after: float
    units: float
    se: float
    missed: float
    least_units: float
    days: float


def detectability(
    baseline: float,
    *,
    units_per_day: float,
    sizes: Sequence[float] = (0.02, 0.05, 0.1, 0.2),
    alpha: float = 1e-4,
    side: Literal["down", "up"] = "down",
    build: Callable[[], Any] | None = None,
    streams: int = 100,
    horizon: int = 20_000,
    seed: int = 0,
) -> list[Detectable]:
    """Return a row for each size, by simulation of the detector that is used.

    The units are coins, which vary most among all scores of one mean: a graded score is found sooner. The
    change begins with the stream.

    Parameters
    ----------
    baseline
        The mean in control, inside (0, 1).
    units_per_day
        Closed units of the stream a day, positive.
    sizes
        How far the mean moves, positive; ends beyond [.001, .999] are cut there.
    alpha
        False alarms per unit that are allowed, in (0, 1).
    side
        Which way.
    build
        Makes the detector, for instance from the pinned reference; by default a two-sided
        :class:`~detectors.drift.betting_sr.BettingSR` that knows the baseline.
    streams, horizon, seed
        Of the simulation: how many streams, how long at most, and which.

    Raises
    ------
    ValueError
        For a baseline or `alpha` not inside (0, 1), or a size or traffic that is not positive.

    Examples
    --------
    >>> table = detectability(0.9, units_per_day=100, sizes=(0.2,), streams=50)
    >>> 20 < table[0].least_units < table[0].units < 60, table[0].days < 1
    (True, True)
    """
    baseline = read_unit_value(baseline)
    if not (0.0 < baseline < 1.0 and 0.0 < alpha < 1.0):
        raise ValueError("baseline and alpha must be inside (0, 1)")
    if not units_per_day > 0.0 or not all(size > 0.0 for size in sizes):
        raise ValueError("traffic and sizes must be positive")
    make = build or (lambda: BettingSR(mean_low=baseline, mean_high=baseline, alpha=alpha))
    rows = []
    for size in sizes:
        after = min(0.999, max(0.001, baseline + (size if side == "up" else -size)))
        found = [_units_to_alarm(make(), Random(f"{seed}/{i}"), after, horizon) for i in range(streams)]  # noqa: S311
        units = fmean(horizon if taken is None else taken for taken in found)
        spread = stdev([float(taken or horizon) for taken in found]) if streams > 1 else 0.0
        rows.append(
            Detectable(
                change=after - baseline,
                mean_after=after,
                units=units,
                se=spread / math.sqrt(streams),
                missed=sum(taken is None for taken in found) / streams,
                least_units=_least_units(baseline, after, alpha, horizon, seed),
                days=units / units_per_day,
            )
        )
    return rows


def _units_to_alarm(detector: Any, random: Random, mean: float, horizon: int) -> int | None:
    for n in range(1, horizon + 1):
        detector.update(float(random.random() < mean))
        if detector.drift_detected:
            return n
    return None


def _least_units(before: float, after: float, alpha: float, horizon: int, seed: int) -> float:
    """Return the mean delay of the Shiryaev-Roberts sum of the likelihood ratio, which knows both means."""
    random, sums = np.random.default_rng(seed), np.zeros(_LEAST_STREAMS)
    good, bad = after / before, (1.0 - after) / (1.0 - before)
    taken = np.full(_LEAST_STREAMS, horizon)
    for n in range(1, horizon + 1):
        sums = (sums + 1.0) * np.where(random.random(_LEAST_STREAMS) < after, good, bad)
        taken[(sums >= 1.0 / alpha) & (taken == horizon)] = n
        sums[taken < horizon] = 0.0
        if not np.any(taken == horizon):
            break
    return float(taken.mean())
