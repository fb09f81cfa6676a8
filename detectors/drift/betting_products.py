"""Products of bets that ever alarm with probability at most alpha: what two-sample arm tests share."""

import math
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct
from river.base import Base

_CAP: Final = 1e200  # lowering a product keeps its promise and keeps it finite after an alarm
_WARNING: Final = 0.1  # share of the alarm threshold


class ProductsState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The common part of a state; one entry per bet in ``products``, ``lowest`` and ``starts``."""

    alpha: float
    n: int
    refused: int
    detected: bool
    alarm: tuple[int, float, int | None] | None
    products: list[float]
    lowest: list[float]
    starts: list[int]


class ProductTest(Base):
    """Average of the products of bets; it alarms at ``1 / alpha`` and stays so until reset.

    A test built on it hands the factors of one unit to ``_take``. If each has a mean of at most 1 given the
    past, the average is a nonnegative supermartingale that starts at 1, and by Ville's inequality the
    probability that it *ever* alarms is at most `alpha`.
    """

    def __init__(self, *, alpha: float, bets: int) -> None:
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha must be in (0, 1), got {alpha}")
        self.alpha = float(alpha)
        self.refused = 0
        self._bets = bets
        self.reset()

    def reset(self) -> None:
        """Forget all units, and with them the alarm; the parameters and ``refused`` stay."""
        self._n = 0
        self._detected = False
        self._alarm: tuple[int, float, int | None] | None = None
        self._products = [1.0] * self._bets
        self._lowest = [1.0] * self._bets
        self._starts = [0] * self._bets

    @property
    def n(self) -> int:
        """Units taken since the start or the last reset."""
        return self._n

    @property
    def drift_detected(self) -> bool:
        """Whether a difference was ever found; stays until ``reset``."""
        return self._detected

    @property
    def warning_detected(self) -> bool:
        """Whether the statistic is at a tenth of its threshold now."""
        return sum(self._products) >= _WARNING * self._bets / self.alpha

    @property
    def evidence(self) -> float:
        """log10 of the statistic; 0 while it is below 1."""
        return math.log10(max(1.0, sum(self._products) / self._bets))

    @property
    def threshold(self) -> float:
        """log10 of ``1 / alpha``, where it alarms."""
        return -math.log10(self.alpha)

    @property
    def began_index(self) -> int | None:
        """Index (from 0) of the unit at which the difference began, estimated; None without evidence.

        It is where the product of the bet with most evidence was lowest.
        """
        best = max(range(self._bets), key=self._products.__getitem__)
        return self._starts[best] if self._products[best] > self._lowest[best] else None

    @property
    def alarm_record(self) -> dict[str, Any] | None:
        """What stood at the alarm: ``n``, ``evidence``, ``began_index``; None without one."""
        if self._alarm is None:
            return None
        return dict(zip(("n", "evidence", "began_index"), self._alarm, strict=True))

    def _take(self, factors: Sequence[float]) -> None:
        self._n = n = self._n + 1
        for j, factor in enumerate(factors):
            self._products[j] = product = min(_CAP, self._products[j] * factor)
            if product < self._lowest[j]:
                self._lowest[j] = product
                self._starts[j] = n
        if sum(self._products) >= self._bets / self.alpha and not self._detected:
            self._detected = True
            self._alarm = (n, self.evidence, self.began_index)

    def _fields(self) -> dict[str, Any]:
        return {
            "alpha": self.alpha,
            "n": self._n,
            "refused": self.refused,
            "detected": self._detected,
            "alarm": self._alarm,
            "products": self._products,
            "lowest": self._lowest,
            "starts": self._starts,
        }

    def _resume(self, state: ProductsState) -> None:
        if {len(state.products), len(state.lowest), len(state.starts)} != {self._bets}:
            raise ValueError("the numbers of bets differ")
        self._n, self.refused, self._detected = state.n, state.refused, state.detected
        self._alarm = state.alarm
        self._products, self._lowest = list(state.products), list(state.lowest)
        self._starts = list(state.starts)
