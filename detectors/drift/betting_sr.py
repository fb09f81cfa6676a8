"""BettingSR: a bounded mean has left its control band, with a promised time between false alarms."""

import math
from collections.abc import Iterator
from random import Random
from typing import Any, Final, Literal, Self

import msgspec
from river.base import DriftAndWarningDetector

from detectors.drift import detector
from detectors.drift.bet_grid import Side, estimate_band, largest_spread, lay_bets, number_bets, read_shift
from detectors.drift.betting_state import CONFIGURATION, BettingState
from detectors.drift.companion import Companion
from detectors.drift.saved_state import read_state
from detectors.drift.trial import Arguments, Trial
from detectors.drift.unit_value import read_unit_value
from detectors.records import Reference

_VERSION: Final = 3
_CAP, _CAP_EVERY = 1e200, 16  # keeps an alarm's statistic finite: no factor is above 1e6
_WARNING: Final = 0.1  # share of the alarm threshold


@detector("betting_sr")
class BettingSR(DriftAndWarningDetector):
    r"""Detects that the mean of a [0, 1] stream has left a band, by Shiryaev-Roberts sums of bets.

    In control, the mean of every observation given the past lies in ``[mean_low, mean_high]``; nothing else
    is assumed: any distribution on [0, 1], any dependence that leaves this conditional mean in the band.

    A bet that risks the share :math:`f` of its capital has the factor
    :math:`L_t = 1 + f\,(m_{low} - x_t)/(1 - m_{low})` (down) or
    :math:`L_t = 1 + f\,(x_t - m_{high})/m_{high}` (up), and a sum :math:`M_t = (M_{t-1} + w) L_t`,
    :math:`M_0 = 0`. The weights `w` of all bets add up to 1, and the statistic, the total of the sums,
    alarms at ``1 / alpha``.

    Graded observations say more. With a spread s below .2 the largest bet of a side is on squares, of 1 - x
    (down) or x (up): :math:`L_t = 1 + f\,((1 - x_t)^2/q - 1)`, q the mean square at the end m of the band,
    :math:`(1 - m)^2 + s\,m (1 - m)`. In control then means a mean in the band *and* a mean square of at most
    q, which a variance of at most s m (1 - m) gives. An alarm down says that the mean fell, or that the low
    tail grew at the same mean.

    **Promise.** With a band that holds the mean, the expected number of observations to an alarm is at least
    ``1 / alpha``, and the expected number of alarms among n observations, with a reset after each, is at
    most ``alpha * n``. Proof: in control :math:`E[L_t \mid past] \le 1`, so the total grows by at most 1 on
    average (on squares, as :math:`E[(1 - x_t)^2 \mid past] \le q`; alike up): total minus t is a
    supermartingale that starts at 0. At the alarm time T, stopped at n,
    :math:`P(T \le n)/\alpha \le E[M_{T \wedge n}] \le E[T \wedge n] \le E[T]`. Either T is infinite with
    positive probability, or the left side tends to :math:`1/\alpha`: so :math:`E[T] \ge 1/\alpha`. Summed
    over the cycles between resets the same inequality bounds the number of alarms.

    **Estimated bands.** With `reference_units` = N every factor is multiplied by a discount
    :math:`\exp(-\max(\ell/2, \ell - \log 100)/N)`, :math:`\ell = \log(1/\alpha)`, which pays for the error
    of a mean of N units; README.md of the package derives it to first order. That false alarms per
    observation, averaged over references, stay below `alpha` is then *measured*, not proved (N of 20 to
    20,000, means of .02 to .995). A bet that grows slower than the discount is lost.

    Parameters
    ----------
    mean_low, mean_high
        The band of means that count as normal, ``0 <= mean_low <= mean_high <= 1``. A low end above .999
        counts as .999 and a high end below .001 as .001, so that a constant stream stays quiet for ever.
    alpha
        At most this many false alarms per observation, in (0, 1).
    direction
        The side(s) watched. Both share `alpha` by their room on the scale (to the power of .75): at .9,
        .84 of it are for a fall.
    reference_units
        How many units the band was estimated from, at least 1; None: it is known.
    spread
        The variance in control as a share of the largest that its mean m allows, m (1 - m): 1 for coins,
        .09 for Beta(9, 1); the same wherever in the band m is, and at any `shift`. None: it is unknown.
    shift_variance
        Of the sampling error of a ``shift``, as :class:`~detectors.drift.seasonal_baseline.SeasonalBaseline`
        gives it, in [0, 1]; 0: there are no shifts, or they are known. It is paid for as the band's is.

    Notes
    -----
    Constant time, about 1 kB. After an alarm it keeps accumulating (capped at 1e200) and stays detected until
    ``reset``. ``warning_detected`` is live: the statistic is at a tenth of the threshold.

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

    _n: int
    _sums: list[float]
    _runs: list[float]
    _starts: list[int]
    _alarm: list[int | float | None] | None

    def __init__(
        self,
        *,
        mean_low: float,
        mean_high: float,
        alpha: float = 1e-4,
        direction: Side = "both",
        reference_units: int | None = None,
        shift_variance: float = 0.0,
        spread: float | None = None,
    ) -> None:
        super().__init__()
        self._sides = lay_bets(
            mean_low,
            mean_high,
            alpha=alpha,
            direction=direction,
            reference_units=reference_units,
            shift_variance=shift_variance,
            spread=spread,
        )
        self.mean_low = float(mean_low)
        self.mean_high = float(mean_high)
        self.alpha = float(alpha)
        self.direction: Side = direction
        self.reference_units = reference_units
        self.shift_variance = float(shift_variance)
        self.spread = None if spread is None else float(spread)
        self.refused = 0
        self._wagers = tuple(side.wagers for side in self._sides)
        self._lines = number_bets(self._sides)
        self._alarm_at = 1.0 / self.alpha
        self._total, self._life = 0, [0.0] * sum(len(wagers) for wagers in self._wagers)
        self._forget()

    @classmethod
    def from_reference(
        cls, reference: Reference, *, tolerance: float, alpha: float = 1e-4, direction: Side = "both"
    ) -> Self:
        """Return a detector whose band is the reference's mean -/+ `tolerance`, discounted for its size.

        Band and spread count one more unit at an end of the scale (Laplace): a reference of all ones pins no
        more than its size allows.

        Parameters
        ----------
        reference
            What normal was: its ``n``, ``mean`` and ``variance`` are read.
        tolerance
            The change of the mean that nobody wants to hear of, >= 0.
        alpha, direction
            As in the constructor.

        Raises
        ------
        ValueError
            For a reference without units or a negative `tolerance`.
        """
        low, high = estimate_band(reference.n, reference.mean, tolerance)
        return cls(
            mean_low=low,
            mean_high=high,
            alpha=alpha,
            direction=direction,
            reference_units=reference.n,
            spread=largest_spread(reference.n, reference.mean, reference.variance),
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
        new = cls(**{name: getattr(read, name) for name in CONFIGURATION})
        if {len(read.sums), len(read.runs), len(read.starts), len(read.life)} != {len(new._sums)}:
            raise ValueError("not a state of BettingSR: the numbers of bets differ")
        new._sums, new._runs, new._starts = list(read.sums), list(read.runs), list(read.starts)
        new._n, new.refused = read.n, read.refused
        new._total, new._life, new._alarm = read.total, list(read.life), read.alarm
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
            reference_units=self.reference_units,
            shift_variance=self.shift_variance,
            spread=self.spread,
            n=self._n,
            refused=self.refused,
            detected=self._drift_detected,
            warning=self._warning_detected,
            sums=self._sums,
            runs=self._runs,
            starts=self._starts,
            total=self._total,
            life=self._life,
            alarm=self._alarm,
        )
        built: dict[str, Any] = msgspec.to_builtins(state)
        return built

    def update(self, x: float, *, shift: float = 0.0) -> None:
        """Take the next observation.

        Parameters
        ----------
        x
            In [0, 1].
        shift
            How far the season moves the band for this observation, known before it; in [-1, 1]. The moved
            band stays on the scale.

        Raises
        ------
        ValueError
            If `x` is no finite number in [0, 1], or `shift` none in [-1, 1]: counted in ``refused``, no more.
        """
        try:
            x = read_unit_value(x)
            lines = self._lines if shift == 0.0 else number_bets(self._sides, read_shift(shift))
        except ValueError:
            self.refused += 1
            raise
        sums, runs, starts, life = self._sums, self._runs, self._starts, self._life
        n, total = self._n, 0.0
        self._total = age = self._total + 1
        late = 1.0 / (age * (age + 1.0))
        for end, slope, bend, wagers in lines:
            gain = (x - end) * (slope + bend * x)
            for j, weight, kept, risk in wagers:
                factor = kept + risk * gain
                sums[j] = grown = (sums[j] + weight) * factor
                total += grown
                life[j] = (life[j] + late) * factor
                run = runs[j]
                if run > 1.0:
                    runs[j] = run * factor
                else:  # the companion CUSUM starts again with this observation
                    runs[j] = factor
                    starts[j] = n
        self._n = n + 1
        if not age % _CAP_EVERY and max(total, max(runs, default=0.0), max(life, default=0.0)) > _CAP:
            for values in (sums, runs, life):
                values[:] = [min(value, _CAP) for value in values]
        self._judge(total)

    def reset(self) -> None:
        """Forget all observations, and with them the alarm; the band, ``refused`` and ``companion`` stay."""
        self._reset()  # river's own: lowers both flags
        self._forget()

    @property
    def n(self) -> int:
        """Observations taken since the start or the last reset."""
        return self._n

    @property
    def evidence(self) -> float:
        """log10 of the statistic; 0 while it is below 1."""
        return math.log10(max(1.0, sum(self._sums)))

    @property
    def threshold(self) -> float:
        """log10 of ``1 / alpha``, where it alarms."""
        return -math.log10(self.alpha)

    @property
    def side(self) -> Literal["down", "up"] | None:
        """The side that holds most of the evidence; None before there is any."""
        if not self._sums or sum(self._sums) <= 1.0:
            return None
        split = len(self._wagers[0])
        chief = self._sides[0 if sum(self._sums[:split]) >= sum(self._sums[split:]) else -1]
        return "down" if chief.down else "up"

    @property
    def began_index(self) -> int | None:
        """Index (from 0, among those counted by ``n``) of the observation at which the change began.

        An estimate: where the CUSUM of the bet with most evidence last started. None without evidence.
        """
        if not self._sums:
            return None
        best = max(range(len(self._sums)), key=self._sums.__getitem__)
        return self._starts[best] if self._runs[best] > 1.0 else None

    @property
    def alarm_record(self) -> dict[str, Any] | None:
        """What stood at the alarm: ``total``, ``evidence``, ``began_index``; None without one."""
        if self._alarm is None:
            return None
        return dict(zip(("total", "evidence", "began_index"), self._alarm, strict=True))

    @property
    def companion(self) -> Companion:
        """A copy of the e-process of the same bets that no reset touches."""
        weights = [wager.weight for wagers in self._wagers for wager in wagers] or [1.0]
        bets = len(weights)
        sums = [bets * weight * value for weight, value in zip(weights, self._life or [0.0], strict=True)]
        state = {"version": 1, "n": self._total, "sums": sums}
        return Companion.from_state(state, bets=bets)

    @classmethod
    def trial(cls) -> Trial:
        """Return how the shared checks try it: a rate of .9 that falls to .6."""

        def draw(rate: float, random: Random) -> Iterator[Arguments]:
            while True:
                yield {"x": float(random.random() < rate)}

        refused = (math.nan, math.inf, -math.inf, -0.001, 1.001, True, "0.5", None, 10**400)
        shifts = (math.nan, math.inf, -1.5, "0.1", None)
        return Trial(
            build=lambda: cls(mean_low=0.89, mean_high=0.91, alpha=1e-5),
            steady=lambda random: draw(0.9, random),
            changed=lambda random: draw(0.6, random),
            refused=(*({"x": x} for x in refused), *({"x": 0.5, "shift": shift} for shift in shifts)),
            patience=300,
            kept_by_reset=("total", "life"),
        )

    def _judge(self, total: float) -> None:
        """Set the flags from the sum over all bets."""
        self._warning_detected = total >= _WARNING * self._alarm_at
        if total >= self._alarm_at and not self._drift_detected:
            self._drift_detected = True
            self._alarm = [self._total, self.evidence, self.began_index]

    def _forget(self) -> None:
        bets = len(self._life)
        self._n, self._alarm = 0, None
        self._sums, self._runs, self._starts = [0.0] * bets, [0.0] * bets, [0] * bets
