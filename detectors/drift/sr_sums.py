"""Shiryaev-Roberts sums with a companion CUSUM, for detectors whose bets all watch the same stream."""

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

CAP: Final = 1e200
"""Lowering a statistic keeps its promise, and keeps it finite after an alarm."""


class SumsState(Struct, frozen=True, forbid_unknown_fields=True):
    """A :class:`ShiryaevRobertsSums` at rest; one entry per bet."""

    n: int
    sums: list[float]
    runs: list[float]
    starts: list[int]


class ShiryaevRobertsSums:
    r"""Keeps :math:`M_t = (M_{t-1} + 1) L_t` for every bet; the statistic is their average.

    If :math:`E[L_t \mid past] \le 1` for every bet, the average grows by at most 1 per observation on
    average, so a detector that alarms when it reaches ``1 / alpha`` and restarts raises at most
    ``alpha * n`` false alarms on average among n observations.

    Parameters
    ----------
    bets
        How many sums are kept, at least 1.

    References
    ----------
    Shin, Ramdas and Rinaldo (2024), "E-detectors", arXiv:2203.03532.

    Examples
    --------
    >>> sums = ShiryaevRobertsSums(2)
    >>> sums.update([2.0, 0.5]), sums.update([2.0, 0.5]), sums.began
    (1.25, 3.375, 0)
    """

    __slots__ = ("n", "runs", "starts", "sums")

    def __init__(self, bets: int) -> None:
        self.n = 0
        self.sums = [0.0] * bets
        self.runs = [0.0] * bets
        self.starts = [0] * bets

    @classmethod
    def from_state(cls, state: SumsState, *, bets: int) -> "ShiryaevRobertsSums":
        """Return the sums that `state` was taken from; ValueError if they are not `bets` many."""
        if {len(state.sums), len(state.runs), len(state.starts)} != {bets}:
            raise ValueError("the numbers of bets differ")
        new = cls(bets)
        new.n, new.sums = state.n, list(state.sums)
        new.runs, new.starts = list(state.runs), list(state.starts)
        return new

    def to_state(self) -> SumsState:
        """Return everything there is to know."""
        return SumsState(self.n, list(self.sums), list(self.runs), list(self.starts))

    def update(self, factors: Sequence[float]) -> float:
        """Take one observation as the factors of all bets, each >= 0, and return the statistic."""
        sums, runs, n, total = self.sums, self.runs, self.n, 0.0
        for j, factor in enumerate(factors):
            sums[j] = grown = (sums[j] + 1.0) * factor
            total += grown
            run = runs[j]
            if run > 1.0:
                runs[j] = run * factor
            else:  # the companion CUSUM starts again with this observation
                runs[j] = factor
                self.starts[j] = n
        self.n = n + 1
        if total > CAP:
            self.sums = [min(value, CAP) for value in sums]
            self.runs = [min(value, CAP) for value in runs]
            total = sum(self.sums)
        return total / len(sums)

    @property
    def statistic(self) -> float:
        """The average over all bets."""
        return sum(self.sums) / len(self.sums)

    @property
    def evidence(self) -> float:
        """log10 of the statistic; 0 while it is below 1."""
        return math.log10(max(1.0, self.statistic))

    @property
    def began(self) -> int | None:
        """Index of the observation at which the CUSUM of the best bet last started; None without evidence."""
        best = max(range(len(self.sums)), key=self.sums.__getitem__)
        return self.starts[best] if self.runs[best] > 1.0 else None
