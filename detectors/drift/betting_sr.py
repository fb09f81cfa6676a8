"""BettingSR: a bounded mean has left its control band, with a promised time between false alarms."""

import math
from collections.abc import Iterator
from random import Random
from typing import Any, Final, Literal, Self

import msgspec
from msgspec import Struct
from river.base import DriftAndWarningDetector

from detectors.drift import detector
from detectors.drift.saved_state import read_state
from detectors.drift.trial import Arguments, Trial
from detectors.drift.unit_value import read_unit_value
from detectors.records import Reference

Side = Literal["both", "down", "up"]

_VERSION: Final = 1
_SMALLEST, _LARGEST = 0.02, 0.75  # bets as shares of the capital that one observation may cost
_EDGE: Final = 1e-3  # a band ends at least this far from the other end of the scale, so bets have a bound
_CAP: Final = 1e200  # lowering the statistic keeps its promise and keeps it finite after an alarm
_WARNING: Final = 0.1  # share of the alarm threshold


class BettingState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A :class:`BettingSR` at rest; one entry per bet in ``sums``, ``runs`` and ``starts``."""

    version: int
    mean_low: float
    mean_high: float
    alpha: float
    direction: Side
    bets: int
    n: int
    refused: int
    detected: bool
    warning: bool
    sums: list[float]
    runs: list[float]
    starts: list[int]


@detector("betting_sr")
class BettingSR(DriftAndWarningDetector):
    r"""Detects that the mean of a [0, 1] stream has left a band, by Shiryaev-Roberts sums of bets.

    In control, the mean of every observation given the past lies in ``[mean_low, mean_high]``; nothing else
    is assumed: any distribution on [0, 1], any dependence that leaves this conditional mean in the band.

    Each bet :math:`\lambda > 0` on a side gives a factor
    :math:`L_t = 1 + \lambda(m_{low} - x_t)` (down) or :math:`L_t = 1 + \lambda(x_t - m_{high})` (up), with
    :math:`\lambda` so small that :math:`L_t > 0`, and a sum :math:`M_t = (M_{t-1} + 1) L_t`, :math:`M_0 = 0`.
    The statistic is the average of `M` over all bets of all watched sides; it alarms at ``1 / alpha``.

    **Promise.** In control the expected number of observations to an alarm is at least ``1 / alpha``, and
    the expected number of alarms among n observations, with a reset after each, is at most ``alpha * n``.
    Proof: in control :math:`E[L_t \mid past] \le 1`, so :math:`E[M_t \mid past] \le M_{t-1} + 1` for every
    bet and for their average, and :math:`M_t - t` is a supermartingale that starts at 0. At the alarm time
    T, stopped at n, :math:`E[M_{T \wedge n}] \le E[T \wedge n]`. As :math:`M \ge 0`, and
    :math:`M_T \ge 1/\alpha` at an alarm, :math:`P(T \le n)/\alpha \le E[T \wedge n] \le E[T]`. Either T is
    infinite with positive probability, or the left side tends to :math:`1/\alpha`: so
    :math:`E[T] \ge 1/\alpha`. Summed over the cycles between resets the same inequality bounds the number
    of alarms among n observations by :math:`\alpha n`.

    Parameters
    ----------
    mean_low, mean_high
        The band of means that count as normal, ``0 <= mean_low <= mean_high <= 1``. A low end above .999
        counts as .999 and a high end below .001 as .001, so that a constant stream stays quiet for ever.
    alpha
        At most this many false alarms per observation, in (0, 1).
    direction
        The side(s) watched. Both sides share `alpha`.
    bets
        Bets per side, at least 1: a geometric grid from small shifts to large ones.

    Notes
    -----
    Constant time, about 1 kB of state. After an alarm it keeps accumulating (capped at 1e200) and stays
    detected until ``reset``. ``warning_detected`` is live: the statistic is at a tenth of the threshold.

    References
    ----------
    Shin, Ramdas and Rinaldo (2024), "E-detectors: a nonparametric framework for sequential change
    detection", New England Journal of Statistics in Data Science, arXiv:2203.03532. The bets are those of
    Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting", JRSS B 86.

    Examples
    --------
    >>> watch = BettingSR(mean_low=0.89, mean_high=0.91, alpha=1e-4, direction="down")
    >>> for i in range(200):
    ...     watch.update(1.0 if i % 10 else 0.0)
    >>> watch.drift_detected
    False
    >>> for i in range(100):
    ...     watch.update(float(i % 2))
    >>> watch.drift_detected, watch.began_index
    (True, 200)
    """

    def __init__(
        self,
        *,
        mean_low: float,
        mean_high: float,
        alpha: float = 1e-4,
        direction: Side = "both",
        bets: int = 10,
    ) -> None:
        super().__init__()
        if not 0.0 <= mean_low <= mean_high <= 1.0:
            raise ValueError(f"need 0 <= mean_low <= mean_high <= 1, got {mean_low} and {mean_high}")
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha must be in (0, 1), got {alpha}")
        if direction not in ("both", "down", "up"):
            raise ValueError(f"direction must be 'both', 'down' or 'up', got {direction!r}")
        if bets < 1:
            raise ValueError(f"bets must be at least 1, got {bets}")
        self.mean_low = float(mean_low)
        self.mean_high = float(mean_high)
        self.alpha = float(alpha)
        self.direction: Side = direction
        self.bets = bets
        self.refused = 0
        self._factors = _factors(self.mean_low, self.mean_high, direction, bets)
        self._alarm_at = len(self._factors) / self.alpha
        self._n = 0
        self._sums = [0.0] * len(self._factors)
        self._runs = [0.0] * len(self._factors)
        self._starts = [0] * len(self._factors)

    @classmethod
    def from_reference(
        cls,
        reference: Reference,
        *,
        tolerance: float,
        alpha: float = 1e-4,
        direction: Side = "both",
        band_z: float = 2.58,
    ) -> Self:
        """Return a detector whose band is the reference's mean -/+ (`tolerance` + `band_z` standard errors).

        Parameters
        ----------
        reference
            What normal was: its ``mean``, ``variance`` and ``n`` are read.
        tolerance
            The change of the mean that nobody wants to hear of, in the metric's own unit, >= 0.
        alpha, direction
            As in the constructor.
        band_z
            Standard errors added for the reference's own sampling error (2.58: about 99 %). The squared
            error includes ``(band_z / n) ** 2``, as in Wilson's interval, so a reference of all zeros or
            all ones still has a width of ``band_z ** 2 / n``.

        Raises
        ------
        ValueError
            For a reference without units or a negative `tolerance` or `band_z`.
        """
        if reference.n < 1:
            raise ValueError("the reference holds no units")
        if tolerance < 0 or band_z < 0:
            raise ValueError(f"tolerance and band_z must not be negative, got {tolerance} and {band_z}")
        error = math.sqrt(reference.variance / reference.n + (band_z / reference.n) ** 2)
        width = tolerance + band_z * error
        return cls(
            mean_low=max(0.0, reference.mean - width),
            mean_high=min(1.0, reference.mean + width),
            alpha=alpha,
            direction=direction,
        )

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the detector that `state` was taken from; its future is the same to the last bit.

        Raises
        ------
        ValueError
            If `state` is of another version or has the wrong shape.
        """
        read = read_state(state, BettingState, of="BettingSR", version=_VERSION)
        new = cls(
            mean_low=read.mean_low,
            mean_high=read.mean_high,
            alpha=read.alpha,
            direction=read.direction,
            bets=read.bets,
        )
        if {len(read.sums), len(read.runs), len(read.starts)} != {len(new._factors)}:
            raise ValueError("not a state of BettingSR: the numbers of bets differ")
        new._sums, new._runs, new._starts = list(read.sums), list(read.runs), list(read.starts)
        new._n, new.refused = read.n, read.refused
        new._drift_detected, new._warning_detected = read.detected, read.warning
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything as JSON-able built-ins; floats survive JSON exactly."""
        state = BettingState(
            version=_VERSION,
            mean_low=self.mean_low,
            mean_high=self.mean_high,
            alpha=self.alpha,
            direction=self.direction,
            bets=self.bets,
            n=self._n,
            refused=self.refused,
            detected=self._drift_detected,
            warning=self._warning_detected,
            sums=self._sums,
            runs=self._runs,
            starts=self._starts,
        )
        built: dict[str, Any] = msgspec.to_builtins(state)
        return built

    def update(self, x: float) -> None:
        """Take the next observation.

        Raises
        ------
        ValueError
            If `x` is not a finite number in [0, 1]. It is counted in ``refused``; nothing else changes.
        """
        try:
            x = read_unit_value(x)
        except ValueError:
            self.refused += 1
            raise
        # One plain loop: for twenty bets it is twice as fast as NumPy.
        sums, runs, starts, n, total = self._sums, self._runs, self._starts, self._n, 0.0
        for j, (intercept, slope) in enumerate(self._factors):
            factor = intercept + slope * x
            sums[j] = grown = (sums[j] + 1.0) * factor
            total += grown
            run = runs[j]
            if run > 1.0:
                runs[j] = run * factor
            else:  # the companion CUSUM starts again with this observation
                runs[j] = factor
                starts[j] = n
        self._n = n + 1
        if total > _CAP:
            self._sums = [min(value, _CAP) for value in sums]
            self._runs = [min(value, _CAP) for value in runs]
            total = sum(self._sums)
        self._judge(total)

    def reset(self) -> None:
        """Forget all observations, and with them the alarm; the band and ``refused`` stay."""
        self._reset()  # river's own: lowers both flags
        self._n = 0
        self._sums = [0.0] * len(self._factors)
        self._runs = [0.0] * len(self._factors)
        self._starts = [0] * len(self._factors)

    @property
    def n(self) -> int:
        """Observations taken since the start or the last reset."""
        return self._n

    @property
    def evidence(self) -> float:
        """log10 of the statistic; 0 while it is below 1."""
        return math.log10(max(1.0, sum(self._sums) / len(self._sums)))

    @property
    def threshold(self) -> float:
        """log10 of ``1 / alpha``, where it alarms."""
        return -math.log10(self.alpha)

    @property
    def side(self) -> Literal["down", "up"] | None:
        """The side that holds most of the evidence; None before there is any."""
        best = max(range(len(self._sums)), key=self._sums.__getitem__)
        if self._sums[best] <= 1.0:
            return None
        return "down" if self._factors[best][1] < 0.0 else "up"

    @property
    def began_index(self) -> int | None:
        """Index (from 0, among those counted by ``n``) of the observation at which the change began.

        An estimate: where the CUSUM of the bet with most evidence last started. None without evidence.
        """
        best = max(range(len(self._sums)), key=self._sums.__getitem__)
        return self._starts[best] if self._runs[best] > 1.0 else None

    @classmethod
    def trial(cls) -> Trial:
        """Return how the shared checks try it: a rate of .9 that falls to .6."""

        def draw(rate: float, random: Random) -> Iterator[Arguments]:
            while True:
                yield {"x": float(random.random() < rate)}

        refused = (math.nan, math.inf, -math.inf, -0.001, 1.001, True, "0.5", None, 10**400)
        return Trial(
            build=lambda: cls(mean_low=0.89, mean_high=0.91, alpha=1e-5),
            steady=lambda random: draw(0.9, random),
            changed=lambda random: draw(0.6, random),
            refused=tuple({"x": x} for x in refused),
            patience=300,
        )

    def _judge(self, total: float) -> None:
        """Set the flags from the sum over all bets."""
        self._warning_detected = total >= _WARNING * self._alarm_at
        if total >= self._alarm_at:
            self._drift_detected = True


def _factors(low: float, high: float, direction: Side, bets: int) -> tuple[tuple[float, float], ...]:
    """Return intercept and slope of every factor, which is a line in the observation.

    A side that no mean can leave (low = 0, high = 1) gets no bets; if none is left, the statistic stays 0.
    """
    ratio = (_LARGEST / _SMALLEST) ** (1.0 / max(1, bets - 1))
    shares = [_SMALLEST * ratio**k for k in range(bets)]
    lines: list[tuple[float, float]] = []
    if direction != "up" and low > 0.0:
        low = min(low, 1.0 - _EDGE)
        lines += [(1.0 + share / (1.0 - low) * low, -share / (1.0 - low)) for share in shares]
    if direction != "down" and high < 1.0:
        high = max(high, _EDGE)
        lines += [(1.0 - share, share / high) for share in shares]
    return tuple(lines) or ((0.0, 0.0),)
