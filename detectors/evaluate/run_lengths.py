"""What a detector is judged by: its time between false alarms, and its delay after a change."""

import math
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.worlds.numbers import Numbers

Counts = NDArray[np.int64]

Z: Final = 1.645
"""Standard errors of a one-sided bound at 95 %."""


class Runner(Protocol):
    """Feeds whole streams, each to a detector of its own."""

    def run(self, x: Numbers, *, until: int | None = None) -> NDArray[np.bool_]:
        """Return where the detectors alarmed, in the shape of `x`: one stream a row, reset at each alarm.

        With `until`, what follows the first alarm at or after that column may be left False.
        """
        ...


class RunLength(Struct, frozen=True, kw_only=True):
    """Time between false alarms: ``arl`` observations in control for each alarm.

    ``low`` is its one-sided lower 95 % bound. Where there was no alarm, ``arl`` is the exposure itself and
    is to be read as "more than".
    """

    observations: int
    alarms: int
    pairs: int
    arl: float
    low: float


class Delay(Struct, frozen=True, kw_only=True):
    """Mean time from the change to the alarm, in observations; a miss counts as the horizon.

    ``se`` is the standard error of the mean, ``missed`` the share of streams without an alarm.
    """

    mean: float
    se: float
    missed: float
    streams: int
    horizon: int


def run_length(alarms: Sequence[int] | Counts, horizon: int) -> RunLength:
    """Return the run length from the number of `alarms` of each stream of `horizon` observations.

    The bound is the wider of two: Poisson's, and one from how much the streams, each with its own reference,
    differ from each other.

    Raises
    ------
    ValueError
        Without a stream.

    Examples
    --------
    >>> found = run_length([1, 0, 2, 1], horizon=10_000)
    >>> found.arl, round(found.low)
    (10000.0, 4276)
    """
    counts = np.asarray(alarms, dtype=np.float64)
    if counts.size == 0:
        raise ValueError("no streams, no run length")
    total, observations = float(counts.sum()), horizon * counts.size
    # The square root of a Poisson count has a nearly constant error: within 2 % of the exact bound from 1 on.
    poisson = (math.sqrt(total + 1.0) + Z / 2.0) ** 2
    spread = float(counts.std(ddof=1)) if counts.size > 1 else 0.0
    most = max(poisson, total + Z * spread * math.sqrt(counts.size))
    return RunLength(
        observations=observations,
        alarms=int(total),
        pairs=counts.size,
        arl=observations / max(1.0, total),
        low=observations / most,
    )


def delay(delays: Sequence[float] | NDArray[np.float64], horizon: int) -> Delay:
    """Return the mean of `delays`, in which a miss is NaN.

    Examples
    --------
    >>> found = delay([10.0, 20.0, float("nan")], horizon=60)
    >>> found.mean, round(found.missed, 2)
    (30.0, 0.33)
    """
    given = np.asarray(delays, dtype=np.float64)
    if given.size == 0:
        raise ValueError("no streams, no delay")
    counted = np.where(np.isnan(given), float(horizon), given)
    return Delay(
        mean=float(counted.mean()),
        se=float(counted.std(ddof=1)) / math.sqrt(given.size) if given.size > 1 else 0.0,
        missed=float(np.isnan(given).mean()),
        streams=given.size,
        horizon=horizon,
    )


def delays_after(alarms: NDArray[np.bool_], at: int) -> NDArray[np.float64]:
    """Return, for each row, the observations from index `at` to the first alarm there; NaN if there is none.

    Examples
    --------
    >>> delays_after(np.array([[True, False, False, True], [False] * 4]), at=2).tolist()
    [2.0, nan]
    """
    after = alarms[:, at:]
    first = after.argmax(axis=1) + 1.0
    return np.where(after.any(axis=1), first, np.nan)
