"""When a change began: an estimate, and a set that holds the truth with a promised probability."""

import base64
import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Literal, Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.drift.saved_state import read_state
from detectors.drift.unit_value import read_unit_value
from detectors.records import Interval

_VERSION: Final = 1
_LEVELS: Final = 65_535  # a kept unit takes two bytes: it is at most 8e-6 from the unit that was fed
_SHARES: Final = tuple(0.9 * 0.6**k for k in range(9))  # bets as shares of what one unit may cost

Logs = NDArray[np.float64]


class Onset(Struct, frozen=True, kw_only=True):
    """When a change began, in units counted from 0.

    ``index`` is the likeliest first changed unit. ``first`` to ``last`` hold the true one with probability
    ``level``; ``earlier`` says that it may also lie before what is remembered.
    """

    index: int
    first: int
    last: int
    earlier: bool
    level: float


class RecentState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """:class:`RecentUnits` at rest; ``kept`` is base64 of little-endian 16-bit numbers."""

    version: int
    size: int
    n: int
    kept: str


class RecentUnits:
    """The latest units of a stream, from which the onset is read when it alarms.

    Parameters
    ----------
    size
        How many, at least 2; two bytes each. A change that took longer to find than `size` units has an
        onset with ``earlier`` set.

    Examples
    --------
    >>> recent = RecentUnits(size=2)
    >>> for x in (0.0, 0.5, 1.0):
    ...     recent.update(x)
    >>> recent.n, recent.values().round(4).tolist()
    (3, [0.5, 1.0])
    """

    def __init__(self, *, size: int = 1024) -> None:
        if size < 2:
            raise ValueError(f"size must be at least 2, got {size}")
        self.size = size
        self._n = 0
        self._kept: deque[int] = deque(maxlen=size)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the units that `state` was taken from; ValueError if it is not one."""
        read = read_state(state, RecentState, of="RecentUnits", version=_VERSION)
        new = cls(size=read.size)
        try:
            kept = np.frombuffer(base64.b64decode(read.kept, validate=True), dtype="<u2")
        except ValueError as error:
            raise ValueError("not a state of RecentUnits: the units cannot be read") from error
        if len(kept) != min(read.n, read.size):
            raise ValueError("not a state of RecentUnits: the number of units differs")
        new._n = read.n
        new._kept.extend(kept.tolist())
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything as JSON-able built-ins."""
        kept = base64.b64encode(np.array(self._kept, dtype="<u2").tobytes()).decode()
        return {"version": _VERSION, "size": self.size, "n": self._n, "kept": kept}

    def update(self, x: float) -> None:
        """Take the next unit; ValueError, and no change, if it is not a finite number in [0, 1]."""
        self._kept.append(round(read_unit_value(x) * _LEVELS))
        self._n += 1

    def reset(self) -> None:
        """Forget all units."""
        self._n = 0
        self._kept.clear()

    @property
    def n(self) -> int:
        """Units taken."""
        return self._n

    def values(self) -> NDArray[np.float64]:
        """Return the units still remembered, oldest first."""
        return np.array(self._kept, dtype=np.float64) / _LEVELS


def locate_onset(
    values: Sequence[float] | NDArray[np.float64],
    *,
    n: int,
    side: Literal["down", "up"],
    mean_low: float,
    mean_high: float,
    after: Interval | None = None,
    level: float = 0.95,
) -> Onset:
    r"""Return when the change began that was announced with the last of `values`.

    The estimate maximises the likelihood ratio of "in control before, another rate from here on" in the set.

    The set keeps every start T that neither of two bets refutes. Say the change is downward. *Backward*: if T
    is the start, the units before it are in control, so the capital of a bet on lower values, carried from T
    back into the past, is a nonnegative supermartingale. *Forward*: if T is the start, the units from T on
    have the new mean, which is at most ``after.high``, so the capital of a bet on values above that, carried
    from T to the alarm, is one too. By Ville's inequality either ever reaches ``3 / (1 - level)``, averaged
    over a grid of bets, with probability at most ``(1 - level) / 3``. A third of the error is left for
    `after`. Only the test of the true start matters, so many starts cost nothing.

    **Promise.** The probability that there is a change, that it is announced after it began, and that the
    set misses its start is at most ``1 - level``, if the units are independent, those before the change have
    a mean in the band, those after it one constant mean, and `after` comes from units behind the alarm with
    a level of at least ``1 - 2 (1 - level) / 3`` (:attr:`ConfirmationWindow.interval` does by default).
    Divide by the probability of no false alarm for the coverage given a true one. A ramp has no single
    start: there the set is about where its mean had gone.

    Where `values` no longer reach back to the start of the stream, earlier starts are refuted only with
    ``n ** 2`` times the capital, which pays for not knowing which unit the memory happens to begin with.

    Parameters
    ----------
    values
        The latest units, each in [0, 1], oldest first; the last one raised the alarm.
    n
        Units of the stream up to and with the alarm, at least ``len(values)``.
    side
        Where the mean went.
    mean_low, mean_high
        The band of means in control.
    after
        An interval for the mean after the change, from units behind the alarm. Without it the new mean is
        only known to be outside the band, and no early start can be refuted.
    level
        Coverage, in (0, 1).

    Raises
    ------
    ValueError
        Without values, for more values than `n`, or for a level outside (0, 1).

    References
    ----------
    Saha and Ramdas (2025), "Post-detection inference for sequential changepoint localization",
    arXiv:2502.06096: forward and backward e-processes. The bets and the use of units behind the alarm for the
    unknown new mean are ours; the proof is above.

    Examples
    --------
    >>> values = [1.0] * 9 + [0.0] + [1.0] * 90 + [0.0, 1.0] * 20
    >>> found = locate_onset(values, n=140, side="down", mean_low=0.9, mean_high=0.9,
    ...                      after=Interval(0.4, 0.6, 0.97))
    >>> found.index, found.first, found.last
    (100, 87, 112)
    """
    x = np.asarray(values, dtype=np.float64)
    if not 0 < len(x) <= n:
        raise ValueError(f"need between 1 and n values, got {len(x)} of {n}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be in (0, 1), got {level}")
    if side == "up":  # turn the scale: lower is where the mean went
        x, low = 1.0 - x, 1.0 - mean_high
        ceiling = low if after is None else min(low, 1.0 - after.low)
    else:
        low = mean_low
        ceiling = low if after is None else min(low, after.high)
    low, ceiling = min(max(low, 1e-3), 1.0 - 1e-3), min(max(ceiling, 1e-3), 1.0 - 1e-3)
    backward = _best_past(np.log1p(np.outer(_stakes(1.0 - low), low - x)))
    forward = _best_future(np.log1p(np.outer(_stakes(ceiling), x - ceiling)))
    limit = math.log(3.0 / (1.0 - level))
    kept = np.flatnonzero((backward < limit) & (forward < limit))
    offset, gains = n - len(x), _gains(x, low)
    if not kept.size:  # as improbable as a miss: say what is likeliest
        kept = np.array([int(np.argmax(gains))])
    estimate = int(kept[np.argmax(gains[kept])])
    earlier = offset > 0 and bool(forward[0] < limit + 2.0 * math.log(n))
    return Onset(
        index=offset + estimate,
        first=offset if earlier else offset + int(kept[0]),
        last=offset + int(kept[-1]),
        earlier=earlier,
        level=level,
    )


def _stakes(cost: float) -> Logs:
    """Return the bets of the grid where one unit may cost `cost` times the bet."""
    return np.array(_SHARES) / cost


def _best_past(logs: Logs) -> Logs:
    """Return for each start the largest log capital carried back from the unit before it."""
    behind = np.concatenate([np.zeros((len(logs), 1)), np.cumsum(logs, axis=1)], axis=1)[:, :-1]
    least = np.minimum.accumulate(behind, axis=1)
    return _average(behind - least, behind - behind[:, :1])


def _best_future(logs: Logs) -> Logs:
    """Return for each start the largest log capital carried from it towards the last unit."""
    total = np.concatenate([np.zeros((len(logs), 1)), np.cumsum(logs, axis=1)], axis=1)
    most = np.maximum.accumulate(total[:, ::-1], axis=1)[:, ::-1]
    return _average(most[:, 1:] - total[:, :-1], total[:, -1:] - total[:, :-1])


def _average(best: Logs, full: Logs) -> Logs:
    """Return a lower bound of the largest average over the bets: the best bet alone, or the end.

    The average's own maximum over time would take a pass for every start.
    """
    top = full.max(axis=0)
    whole = top + np.log(np.exp(full - top).sum(axis=0))
    average: Logs = np.maximum(best.max(axis=0), whole) - math.log(len(best))
    return average


def _gains(x: NDArray[np.float64], low: float) -> Logs:
    """Return for each start its log likelihood ratio: n kl(mean from there on, low), means cut at `low`."""
    n = np.arange(len(x), 0, -1)
    mean = np.minimum(np.cumsum(x[::-1])[::-1] / n, low)
    inside = np.clip(mean, 1e-12, 1.0 - 1e-12)
    gain = inside * np.log(inside / low) + (1.0 - inside) * np.log((1.0 - inside) / (1.0 - low))
    gains: Logs = n * gain
    return gains
