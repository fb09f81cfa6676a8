"""ShareBettingTest: the assignment of units to arms contradicts the declared share."""

import math
from typing import Any, Final, Self

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.drift.products_path import LEAST_UNITS, Numbers, add_across, count_until, multiply_on
from detectors.drift.saved_state import read_state
from detectors.drift.unit_value import read_unit_value

_VERSION: Final = 1
_STAKES: Final = tuple((f, 1.0 - f) for f in (0.005, 0.015, 0.05, 0.15, 0.5))  # what a unit risks and keeps
_CAP: Final = 1e200


class ShareState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A :class:`ShareBettingTest` at rest."""

    version: int
    alpha: float
    mismatch: bool
    products: list[float]


class ShareBettingTest:
    r"""Tests, at any time, "each unit was treated with the declared probability" (sample ratio mismatch).

    Factors :math:`1 - f + f A_t/\rho_t` (more treated than declared) and
    :math:`1 - f + f (1 - A_t)/(1 - \rho_t)` (fewer), over a grid of `f` in (0, 1), have mean 1 given the
    past if the declaration is true. The average of their products is then a nonnegative martingale that
    starts at 1, and by Ville's inequality it *ever* reaches ``1 / alpha`` with probability at most `alpha`.

    Parameters
    ----------
    alpha
        Probability of ever doubting a true declaration, in (0, 1).

    References
    ----------
    Lindon and Malek (2022), "Anytime-valid inference for multinomial count data", NeurIPS,
    arXiv:2011.03567; the same question with a Dirichlet mixture.

    Examples
    --------
    >>> test = ShareBettingTest(alpha=1e-4)
    >>> for i in range(1000):
    ...     test.update(treated=i % 5 == 0, share=0.1)
    >>> test.mismatch
    True
    """

    def __init__(self, *, alpha: float = 1e-4) -> None:
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha must be in (0, 1), got {alpha}")
        self.alpha = float(alpha)
        self.mismatch = False
        self._products = [1.0] * (2 * len(_STAKES))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the test that `state` was taken from; ValueError if it is not one."""
        read = read_state(state, ShareState, of="ShareBettingTest", version=_VERSION)
        if len(read.products) != 2 * len(_STAKES):
            raise ValueError("not a state of ShareBettingTest: the number of products differs")
        new = cls(alpha=read.alpha)
        new.mismatch, new._products = read.mismatch, list(read.products)
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything as JSON-able built-ins; floats survive JSON exactly."""
        state = ShareState(
            version=_VERSION, alpha=self.alpha, mismatch=self.mismatch, products=self._products
        )
        built: dict[str, Any] = msgspec.to_builtins(state)
        return built

    def update(self, *, treated: bool, share: float) -> None:
        """Take the assignment of one unit; `share` in (0, 1) is its declared probability of treatment."""
        more = 1.0 / share if treated else 0.0
        fewer = 0.0 if treated else 1.0 / (1.0 - share)
        products, total = self._products, 0.0
        for k, (stake, kept) in enumerate(_STAKES):
            products[k] = product = products[k] * (kept + stake * more)
            total += product
        for k, (stake, kept) in enumerate(_STAKES, start=len(_STAKES)):
            products[k] = product = products[k] * (kept + stake * fewer)
            total += product
        if total > _CAP:
            self._products = [min(product, _CAP) for product in products]
        if total >= len(products) / self.alpha:
            self.mismatch = True

    def update_many(self, treated: NDArray[np.bool_], shares: Numbers) -> None:
        """Take assignments in their order, by column: what :meth:`update` makes of them, to the last bit."""
        done = self._take(treated, shares) if len(shares) >= LEAST_UNITS else 0
        for is_treated, share in zip(treated[done:].tolist(), shares[done:].tolist(), strict=True):
            self.update(treated=is_treated, share=share)

    def _take(self, treated: NDArray[np.bool_], shares: Numbers) -> int:
        """Take the units before the first that is both cut and judged; return how many."""
        more, fewer = np.where(treated, 1.0 / shares, 0.0), np.where(treated, 0.0, 1.0 / (1.0 - shares))
        factors = [kept + stake * odds for odds in (more, fewer) for stake, kept in _STAKES]
        # Doubt is judged by products that are not cut; once it is raised, nothing depends on their sum.
        path = multiply_on(self._products, np.column_stack(factors), _CAP if self.mismatch else math.inf)
        totals = add_across(path)
        count = len(path) if self.mismatch else count_until(totals > _CAP)
        if count:
            self._products = path[count - 1].tolist()
            self.mismatch = self.mismatch or bool((totals[:count] >= path.shape[1] / self.alpha).any())
        return count

    @property
    def evidence(self) -> float:
        """log10 of the statistic; 0 while it is below 1."""
        return math.log10(max(1.0, sum(self._products) / len(self._products)))

    @property
    def threshold(self) -> float:
        """log10 of ``1 / alpha``, where it doubts the share."""
        return -math.log10(self.alpha)


def read_share(treated: object, share: object) -> float:
    """Return `share` as a float inside (0, 1).

    Raises
    ------
    ValueError
        If it is not one, or if `treated` is not a bool: without a known coin there is nothing to compare.
    """
    value = read_unit_value(share) if isinstance(treated, bool) else math.nan
    if not 0.0 < value < 1.0:
        raise ValueError("need a bool for treated and a share inside (0, 1)")
    return value
