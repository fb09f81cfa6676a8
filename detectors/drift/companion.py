"""Companion: the e-process that is never reset, beside a detector that is."""

import math
from collections.abc import Sequence
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from detectors.drift.saved_state import read_state
from detectors.drift.sr_sums import CAP

_VERSION: Final = 1


class CompanionState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A :class:`Companion` at rest; one entry per bet in ``sums``."""

    version: int
    n: int
    sums: list[float]


class Companion:
    r"""Answers "has this stream ever changed?", with a bound for its whole life.

    A detector forgets its evidence at every reset; this one never does, so evidence of many streams can be
    compared and merged, as in e-BH. It takes the same factors :math:`L_t \ge 0` as the detector, one per bet
    j, with :math:`E[L_t \mid past] \le 1` in control, and keeps

    .. math:: W_t = L_t (W_{t-1} + \pi_t), \quad \pi_t = \frac{1}{t(t+1)}, \quad W_0 = 0.

    Its value is :math:`E_t = \mathrm{mean}_j W_t^{(j)} + 1/(t+1)`: a mixture of products that start at every
    time s with weight :math:`\pi_s`; those that have not started yet weigh :math:`1/(t+1)` and are worth 1.

    **Promise.** In control, the probability that the value *ever* reaches ``1 / alpha`` is at most `alpha`.
    Proof: :math:`E_0 = 1`, and as :math:`\pi_t + 1/(t+1) = 1/t`,
    :math:`E[E_t \mid past] \le \mathrm{mean}_j W_{t-1}^{(j)} + \pi_t + 1/(t+1) = E_{t-1}`. So it is a
    nonnegative supermartingale that starts at 1, and Ville's inequality applies. At any stopping time its
    expectation is at most 1: it is an e-value, also for e-BH under any dependence between streams.

    Parameters
    ----------
    bets
        How many factors an observation has, at least 1.

    References
    ----------
    Ville (1939); Shin, Ramdas and Rinaldo (2024), arXiv:2203.03532; Wang and Ramdas (2022), "False
    discovery rate control with e-values", JRSS B 84.

    Examples
    --------
    >>> life = Companion(bets=1)
    >>> for _ in range(20):
    ...     life.update([1.5])
    >>> life.value > 300, life.n
    (True, 20)
    """

    __slots__ = ("_n", "_sums")

    def __init__(self, *, bets: int) -> None:
        if bets < 1:
            raise ValueError(f"bets must be at least 1, got {bets}")
        self._n = 0
        self._sums = [0.0] * bets

    @classmethod
    def from_state(cls, state: dict[str, Any], *, bets: int) -> Self:
        """Return the companion of `bets` bets that `state` was taken from; same future to the last bit.

        Raises
        ------
        ValueError
            If `state` is of another version, has the wrong shape or another number of bets.
        """
        read = read_state(state, CompanionState, of="Companion", version=_VERSION)
        if len(read.sums) != bets:
            raise ValueError("not a state of Companion: the numbers of bets differ")
        new = cls(bets=bets)
        new._n, new._sums = read.n, list(read.sums)
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything as JSON-able built-ins; floats survive JSON exactly."""
        built: dict[str, Any] = msgspec.to_builtins(
            CompanionState(version=_VERSION, n=self._n, sums=self._sums)
        )
        return built

    def update(self, factors: Sequence[float]) -> None:
        """Take one observation as the factors of all bets.

        Raises
        ------
        ValueError
            For another number of factors than `bets`, or a factor that is not finite and >= 0. Nothing
            changes.
        """
        sums = self._sums
        if len(factors) != len(sums):
            raise ValueError(f"{len(factors)} factors for {len(sums)} bets")
        for factor in factors:
            if not 0.0 <= factor < math.inf:
                raise ValueError("a factor is not finite and >= 0")
        self._n = t = self._n + 1
        weight = 1.0 / (t * (t + 1.0))
        for j, factor in enumerate(factors):
            grown = factor * (sums[j] + weight)
            sums[j] = grown if grown < CAP else CAP

    @property
    def n(self) -> int:
        """Observations taken in its whole life."""
        return self._n

    @property
    def value(self) -> float:
        """The e-value: 1 before the first observation, on average at most 1 in control."""
        return sum(self._sums) / len(self._sums) + 1.0 / (self._n + 1.0)

    @property
    def evidence(self) -> float:
        """log10 of the value; 0 while it is below 1."""
        return math.log10(max(1.0, self.value))
