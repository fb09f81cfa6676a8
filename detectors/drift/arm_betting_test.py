"""ArmBettingTest: the canary is worse than stable, judged by the router's known coin."""

import math
from collections.abc import Iterator
from random import Random
from typing import Any, Final, Literal, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from river.base import Base

from detectors.drift import arm_block, detector
from detectors.drift.arm_block import CENTRE_UNITS, STAKES
from detectors.drift.arm_state import ArmState, Worse
from detectors.drift.confidence_sequence import BettingSequence
from detectors.drift.products_path import LEAST_UNITS, Numbers, add_on, count_until
from detectors.drift.saved_state import read_state
from detectors.drift.share_betting_test import read_share
from detectors.drift.trial import Arguments, Trial
from detectors.drift.unit_value import read_unit_value
from detectors.records import Interval

_VERSION: Final = 3
_WEIGHTS: Final = (1 / 16, 6 / 16, 4 / 16, 3 / 16, 2 / 16)  # small effects need the head start
_CAP: Final = 1e200  # lowering a product keeps its promise and keeps it finite after an alarm
_WARNING: Final = 0.1  # share of the alarm threshold


@detector("arm_betting")
class ArmBettingTest(Base):
    r"""Tests, at any time, "the treated arm is not worse than the control arm by more than a tolerance".

    Each unit was routed to the treated arm by a coin of known probability :math:`\rho_t` (``share``), so
    :math:`A_t` is independent of everything else before it. Write :math:`y` for the score turned so that
    lower is worse, :math:`\varepsilon` for the tolerance and :math:`c_t` for a centre known before the unit
    (a running mean). Every bet :math:`\lambda_t`, fixed before the unit, gives a factor
    :math:`L_t = 1 - \lambda_t (A_t - \rho_t)(y_t + \varepsilon A_t - c_t)`. The statistic is a weighted mean
    over a grid of bets of the products of their factors; it alarms at ``1 / alpha``.

    **Promise.** If the treated arm is nowhere worse than the control arm by more than `tolerance`, the
    probability that an alarm is *ever* raised is at most `alpha`. Proof: with :math:`m_1, m_0` the means of
    the two arms for this unit given the past,
    :math:`E[L_t \mid past] = 1 - \lambda_t \rho_t (1 - \rho_t)(m_1 + \varepsilon - m_0) \le 1`: the centre
    cancels, and so does everything that moves both arms together (time of day, traffic mix, a change of
    ``share``). :math:`L_t > 0` as :math:`\lambda_t \max((1-\rho_t)(1+\varepsilon-c_t), \rho_t c_t) < 1`.
    So the average of the products is a nonnegative supermartingale that starts at 1, and Ville's
    inequality bounds the probability that it ever reaches :math:`1/\alpha`.

    The promise is one of the router: run a :class:`ShareBettingTest` beside it, on *every* unit, and believe
    no alarm once that one has found the assignment to differ from what was declared.

    A unit without a score is not fed. If the release changes nothing, whether a unit has a score does not
    depend on its arm, so among the scored units the coin is still the router's and the promise holds. If the
    release changes *which* units have a score, that is a change by the release: an alarm is then no false
    one, but its effect compares the units that each arm scored, not the same users under two releases.

    Parameters
    ----------
    worse
        Which way is worse for this metric.
    alpha
        Probability of ever raising a false alarm, in (0, 1).
    tolerance
        How much worse the treated arm may be, in the metric's own unit, in [0, 1).
    level
        Coverage of the interval of ``effect``, over all times together, in (0, 1).

    Notes
    -----
    One unit of randomisation is one observation. When a user is always routed to the same arm, feed each
    user once: the arm of a second visit is known beforehand and is no coin. Constant time, about 2 kB.

    References
    ----------
    Podkopaev and Ramdas (2023), "Sequential predictive two-sample and independence testing", NeurIPS,
    arXiv:2305.00143. Bets: Waudby-Smith and Ramdas (2024), JRSS B 86, arXiv:2010.09686.

    Examples
    --------
    >>> test = ArmBettingTest(worse="lower", alpha=0.01)
    >>> for i in range(2000):
    ...     canary = i % 10 == 0
    ...     test.update(float(i % 30 > 0 if canary else i % 7 > 0), treated=canary, share=0.1)
    >>> test.drift_detected, test.n_treated, test.n_control
    (True, 200, 1800)
    """

    def __init__(
        self,
        *,
        worse: Worse,
        alpha: float = 0.001,
        tolerance: float = 0.0,
        level: float = 0.95,
    ) -> None:
        if worse not in ("lower", "higher"):
            raise ValueError(f"worse must be 'lower' or 'higher', got {worse!r}")
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha must be in (0, 1), got {alpha}")
        if not 0.0 <= tolerance < 1.0:
            raise ValueError(f"tolerance must be in [0, 1), got {tolerance}")
        self.worse: Worse = worse
        self.alpha = float(alpha)
        self.tolerance = float(tolerance)
        self.level = float(level)
        self.refused = 0
        self.reset()

    def reset(self) -> None:
        """Forget all units, and with them the alarm; the parameters and ``refused`` stay."""
        self._n = 0
        self._detected = False
        self._centre = 0.5
        self._products = list(_WEIGHTS)
        self._lowest = list(_WEIGHTS)
        self._starts = [0] * len(_WEIGHTS)
        self._alarm: tuple[int, float, int | None] | None = None
        self._counts, self._totals = [0, 0], [0.0, 0.0]  # of the control arm, of the treated arm
        self._difference = BettingSequence(level=self.level)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the test that `state` was taken from; its future is the same to the last bit.

        Raises
        ------
        ValueError
            If `state` is of another version or has the wrong shape.
        """
        read = read_state(state, ArmState, of="ArmBettingTest", version=_VERSION)
        difference = BettingSequence.from_state(read.difference)
        new = cls(
            worse=read.worse,
            alpha=read.alpha,
            tolerance=read.tolerance,
            level=difference.level,
        )
        if {len(read.products), len(read.lowest), len(read.starts)} != {len(STAKES)}:
            raise ValueError("not a state of ArmBettingTest: the numbers of bets differ")
        new._products, new._lowest, new._starts = list(read.products), list(read.lowest), list(read.starts)
        new._n, new._centre = sum(read.counts), read.centre
        new._detected, new.refused, new._alarm = read.detected, read.refused, read.alarm
        new._counts, new._totals = list(read.counts), list(read.totals)
        new._difference = difference
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything as JSON-able built-ins; floats survive JSON exactly."""
        state = ArmState(
            version=_VERSION,
            worse=self.worse,
            alpha=self.alpha,
            tolerance=self.tolerance,
            refused=self.refused,
            detected=self._detected,
            centre=self._centre,
            products=self._products,
            lowest=self._lowest,
            starts=self._starts,
            counts=(self._counts[0], self._counts[1]),
            totals=(self._totals[0], self._totals[1]),
            difference=self._difference.to_state(),
            alarm=self._alarm,
        )
        built: dict[str, Any] = msgspec.to_builtins(state)
        return built

    def update(self, x: float, *, treated: bool, share: float) -> None:
        """Take the next unit: its score, its arm, and the probability with which it was treated.

        Raises
        ------
        ValueError
            If `x` is not a finite number in [0, 1], `treated` not a bool or `share` not in (0, 1). It is
            counted in ``refused``; nothing else changes.
        """
        try:
            x = read_unit_value(x)
            share = read_share(treated, share)
        except ValueError:
            self.refused += 1
            raise
        self._counts[treated] += 1
        self._totals[treated] += x
        y = x if self.worse == "lower" else 1.0 - x
        centre = self._centre
        tilt = y - centre if self.worse == "lower" else centre - y
        self._difference.update((treated - share) * tilt, treated * (1.0 - share))
        # What one unit can cost a bet of size 1, known before the unit: stakes are shares of it.
        cost = max((1.0 - share) * (1.0 + self.tolerance - centre), share * centre)
        gain = (share - treated) * (y + self.tolerance * treated - centre) / cost
        products, lowest, starts, total = self._products, self._lowest, self._starts, 0.0
        self._n = n = self._n + 1
        for j, stake in enumerate(STAKES):
            products[j] = product = products[j] * (1.0 + stake * gain)
            total += product
            if product < lowest[j]:  # evidence is counted from here: the companion CUSUM starts again
                lowest[j] = product
                starts[j] = n
        if total > _CAP:
            self._products = [min(product, _CAP) for product in products]
        self._centre = centre + (y - centre) / min(n + 1, CENTRE_UNITS)
        if total >= 1.0 / self.alpha and not self._detected:
            self._detected = True
            self._alarm = (n, self.evidence, self.began_index)

    def update_many(self, xs: Numbers, treated: NDArray[np.bool_], shares: Numbers) -> None:
        """Take units in their order, by column: what :meth:`update` makes of them, to the last bit.

        Raises
        ------
        ValueError
            As :meth:`update` does; the units before the one it is raised for are taken.
        """
        done = self._take(xs, treated, shares) if len(xs) >= LEAST_UNITS else 0
        rest = zip(xs[done:].tolist(), treated[done:].tolist(), shares[done:].tolist(), strict=True)
        for x, is_treated, share in rest:
            self.update(x, treated=is_treated, share=share)

    def _take(self, xs: Numbers, treated: NDArray[np.bool_], shares: Numbers) -> int:
        """Take the units before the first that is refused or moves more than numbers; return how many."""
        count = count_until(~((xs >= 0.0) & (xs <= 1.0) & (shares > 0.0) & (shares < 1.0)))
        ys = xs if self.worse == "lower" else 1.0 - xs
        arms = arm_block.Arms(ys, treated.astype(np.float64), shares).first(count)
        centres = arm_block.centres_of(arms.y, self._centre, self._n)
        # An alarm is judged by products that are not cut; after it nothing depends on their sum.
        cap, limit = (_CAP, math.inf) if self._detected else (math.inf, min(_CAP, 1.0 / self.alpha))
        path = arm_block.products_of(self._products, arms, centres[:-1], tolerance=self.tolerance, cap=cap)
        count = arm_block.count_below(path, limit)
        if not count:
            return 0
        arms, path = arms.first(count), path[:count]
        self._lowest, self._starts = arm_block.lowest_of(path, self._lowest, self._starts, self._n)
        tilts = arms.y - centres[:count] if self.worse == "lower" else centres[:count] - arms.y
        self._difference.update_many((arms.treated - arms.shares) * tilts, arms.treated * (1.0 - arms.shares))
        for arm in (False, True):
            ours = xs[:count][treated[:count] == arm]
            self._counts[arm] += len(ours)
            self._totals[arm] = add_on(self._totals[arm], ours)
        self._n += count
        self._products, self._centre = path[-1].tolist(), float(centres[count])
        return count

    def effect(self) -> tuple[float, Interval]:
        """Return how far the treated mean lies above the control mean, with an interval valid at all times.

        The difference is the one that balances the bets of :class:`BettingSequence`, not the difference of
        the plain means: it stays right under seasons and when ``share`` changes. The interval holds it.

        Raises
        ------
        ValueError
            While ``n_treated`` or ``n_control`` is 0.
        """
        difference = self._difference.estimate
        if difference is None or not self.n_control:
            raise ValueError("there is no effect before both arms have a unit")
        return difference, self._difference.interval()

    @property
    def n(self) -> int:
        """Units taken since the start or the last reset."""
        return self._n

    @property
    def n_treated(self) -> int:
        """Units of the treated arm."""
        return self._counts[True]

    @property
    def n_control(self) -> int:
        """Units of the control arm."""
        return self._counts[False]

    @property
    def mean_treated(self) -> float | None:
        """Mean score of the treated arm; None without units."""
        return self._totals[True] / self.n_treated if self.n_treated else None

    @property
    def mean_control(self) -> float | None:
        """Mean score of the control arm; None without units."""
        return self._totals[False] / self.n_control if self.n_control else None

    @property
    def drift_detected(self) -> bool:
        """Whether the treated arm was ever found worse; stays until ``reset``."""
        return self._detected

    @property
    def warning_detected(self) -> bool:
        """Whether the statistic is at a tenth of its threshold now."""
        return sum(self._products) >= _WARNING / self.alpha

    @property
    def state(self) -> Literal["steady", "warning", "drift"]:
        """The state of the test in one word."""
        return "drift" if self._detected else "warning" if self.warning_detected else "steady"

    @property
    def evidence(self) -> float:
        """log10 of the statistic; 0 while it is below 1."""
        return math.log10(max(1.0, sum(self._products)))

    @property
    def threshold(self) -> float:
        """log10 of ``1 / alpha``, where it alarms."""
        return -math.log10(self.alpha)

    @property
    def began_index(self) -> int | None:
        """Index (from 0, among those counted by ``n``) of the unit at which the difference began.

        An estimate: where the product of the bet with most evidence was lowest. None without evidence.
        """
        best = max(range(len(STAKES)), key=self._products.__getitem__)
        return self._starts[best] if self._products[best] > self._lowest[best] else None

    @property
    def alarm_record(self) -> dict[str, Any] | None:
        """What stood at the alarm: ``n``, ``evidence``, ``began_index``; None without one."""
        if self._alarm is None:
            return None
        return dict(zip(("n", "evidence", "began_index"), self._alarm, strict=True))

    @classmethod
    def trial(cls) -> Trial:
        """Return how the shared checks try it: both arms at .9, or the treated one at .6; share .2."""

        def draw(rate: float, random: Random) -> Iterator[Arguments]:
            while True:
                treated = random.random() < 0.2
                x = float(random.random() < (rate if treated else 0.9))
                yield {"x": x, "treated": treated, "share": 0.2}

        bad_x = [{"x": x, "treated": True, "share": 0.2} for x in (math.nan, math.inf, -0.1, 1.1, True, "1")]
        bad_share = [{"x": 0.5, "treated": True, "share": share} for share in (0.0, 1.0, math.nan, "1", -1)]
        return Trial(
            build=lambda: cls(worse="lower", alpha=1e-4),
            steady=lambda random: draw(0.9, random),
            changed=lambda random: draw(0.6, random),
            refused=(*bad_x, *bad_share, {"x": 0.5, "treated": 1, "share": 0.2}),
            patience=1500,
        )
