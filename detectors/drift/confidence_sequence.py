"""Intervals for a bounded mean: one that holds at every moment, and one for a fixed number of units."""

import math
from collections.abc import Callable
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from detectors.drift.unit_value import read_unit_value
from detectors.records import Interval

_VERSION: Final = 1
_LARGEST_BET: Final = 0.5  # the truncation c of the paper
_BISECTIONS: Final = 50


class SequenceState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An :class:`EmpiricalBernsteinSequence` at rest."""

    version: int
    level: float
    n: int
    refused: int
    total: float
    squares: float
    bets: float
    weighted: float
    penalty: float


class EmpiricalBernsteinSequence:
    r"""A confidence sequence for the mean of [0, 1] observations: valid at all times at once.

    The probability that the interval *ever* misses the mean is at most ``1 - level``, so it may be looked
    at after every observation and one may stop when it pleases. It needs the mean of each observation given
    the past to be the same. Where that mean moves, what is covered is its average weighted by the bets
    :math:`\lambda_t`, which favours early observations; for this reason intervals of different times are
    not intersected.

    It is the predictable plug-in empirical-Bernstein sequence: with running mean :math:`\hat\mu` and
    variance :math:`\hat\sigma^2`, each shrunk by one pseudo-observation,
    :math:`\lambda_t = \min(1/2, \sqrt{2 \log(2/\alpha) / (\hat\sigma^2_{t-1}\, t \log(t+1))})` and the
    radius is :math:`(\log(2/\alpha) + \sum (x_i - \hat\mu_{i-1})^2 \psi(\lambda_i)) / \sum \lambda_i`
    with :math:`\psi(\lambda) = -\log(1-\lambda) - \lambda`, about
    :math:`\sum \lambda_i x_i / \sum \lambda_i`.

    Parameters
    ----------
    level
        Coverage over all times together, in (0, 1).

    Notes
    -----
    Constant time, six numbers of state.

    References
    ----------
    Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting", Journal of
    the Royal Statistical Society B 86(1), Theorem 2. arXiv:2010.09686.

    Examples
    --------
    >>> sequence = EmpiricalBernsteinSequence(level=0.95)
    >>> for i in range(1000):
    ...     sequence.update(float(i % 10 != 0))
    >>> found = sequence.interval()
    >>> found.low < 0.9 < found.high, round(found.high - found.low, 2)
    (True, 0.07)
    """

    def __init__(self, *, level: float = 0.95) -> None:
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must be in (0, 1), got {level}")
        self.level = float(level)
        self.refused = 0
        self._log_term = math.log(2.0 / (1.0 - self.level))
        self._n = 0
        self._total = self._squares = 0.0
        self._bets = self._weighted = self._penalty = 0.0

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the sequence that `state` was taken from; its future is the same to the last bit.

        Raises
        ------
        ValueError
            If `state` is of another version or has the wrong shape.
        """
        try:
            read = msgspec.convert(state, SequenceState)
        except msgspec.ValidationError as error:
            raise ValueError(f"not a state of EmpiricalBernsteinSequence: {error}") from error
        if read.version != _VERSION:
            raise ValueError(f"state version {read.version} is not {_VERSION}")
        new = cls(level=read.level)
        new.refused, new._n = read.refused, read.n
        new._total, new._squares = read.total, read.squares
        new._bets, new._weighted, new._penalty = read.bets, read.weighted, read.penalty
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything as JSON-able built-ins; floats survive JSON exactly."""
        state = SequenceState(
            version=_VERSION,
            level=self.level,
            n=self._n,
            refused=self.refused,
            total=self._total,
            squares=self._squares,
            bets=self._bets,
            weighted=self._weighted,
            penalty=self._penalty,
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
        # Bet and centre come from the past alone: that is what makes the sequence valid.
        past = self._n + 1
        centre = (0.5 + self._total) / past
        variance = (0.25 + self._squares) / past
        spread = variance * past * math.log(past + 1.0)
        bet = min(_LARGEST_BET, math.sqrt(2.0 * self._log_term / spread))
        self._bets += bet
        self._weighted += bet * x
        self._penalty += (x - centre) ** 2 * (-math.log1p(-bet) - bet)
        self._n = past
        self._total += x
        self._squares += (x - (0.5 + self._total) / (past + 1)) ** 2

    def interval(self) -> Interval:
        """Return the interval now; [0, 1] before the first observation."""
        if self._n == 0:
            return Interval(0.0, 1.0, self.level)
        centre = self._weighted / self._bets
        radius = (self._log_term + self._penalty) / self._bets
        return Interval(max(0.0, centre - radius), min(1.0, centre + radius), self.level)

    @property
    def n(self) -> int:
        """Observations taken."""
        return self._n

    @property
    def mean(self) -> float | None:
        """The plain mean of the observations; None before the first."""
        return self._total / self._n if self._n else None


def mean_interval(n: int, mean: float, variance: float, level: float = 0.95) -> Interval:
    r"""Return an interval for the mean of `n` independent [0, 1] units, for this one n only.

    It is the intersection of two, each with half of the error: the Chernoff interval
    :math:`\{\mu: n\,\mathrm{kl}(\bar x, \mu) \le \log(4/\alpha)\}`, which is
    narrow near 0 and 1 and is for any bounded distribution what Clopper-Pearson is for a rate, and the
    empirical-Bernstein interval, which is narrow for a small variance.

    Parameters
    ----------
    n
        Number of units; 0 gives [0, 1].
    mean, variance
        Of the units, both in [0, 1]; the variance is divided by n.
    level
        Coverage, in (0, 1).

    Raises
    ------
    ValueError
        For a negative `n`, or a `mean`, `variance` or `level` outside its range.

    References
    ----------
    Hoeffding (1963), Theorem 1; Maurer and Pontil (2009), "Empirical Bernstein bounds and sample variance
    penalization", Theorem 4.

    Examples
    --------
    >>> found = mean_interval(400, 0.9, 0.09)
    >>> round(found.low, 3), round(found.high, 3)
    (0.85, 0.939)
    >>> mean_interval(50, 1.0, 0.0).high
    1.0
    """
    if n < 0 or not 0.0 < level < 1.0:
        raise ValueError(f"need n >= 0 and 0 < level < 1, got {n} and {level}")
    mean, variance = read_unit_value(mean), read_unit_value(variance)
    if n == 0:
        return Interval(0.0, 1.0, level)
    log_term = math.log(4.0 / (1.0 - level))
    low = _bisect(lambda m: _divergence(mean, m) <= log_term / n, inside=mean, outside=0.0)
    high = _bisect(lambda m: _divergence(mean, m) <= log_term / n, inside=mean, outside=1.0)
    if n > 1:
        log_term += math.log(2.0)  # Theorem 4 spends half of its error on the variance
        radius = math.sqrt(2.0 * variance * log_term / (n - 1)) + 7.0 * log_term / (3.0 * (n - 1))
        low, high = max(low, mean - radius), min(high, mean + radius)
    return Interval(low, high, level)


def _divergence(mean: float, other: float) -> float:
    """Return the Kullback-Leibler divergence between two coins."""
    if other in (0.0, 1.0):
        return 0.0 if mean == other else math.inf
    heads = mean * math.log(mean / other) if mean > 0.0 else 0.0
    tails = (1.0 - mean) * math.log((1.0 - mean) / (1.0 - other)) if mean < 1.0 else 0.0
    return heads + tails


def _bisect(holds: Callable[[float], bool], *, inside: float, outside: float) -> float:
    """Return the point nearest to the edge of where `holds`, on its outer side: rounding only widens."""
    if holds(outside):
        return outside
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2.0
        if holds(middle):
            inside = middle
        else:
            outside = middle
    return outside
