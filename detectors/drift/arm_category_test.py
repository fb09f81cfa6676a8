"""ArmCategoryTest: the canary answers with other labels than stable, judged by the router's coin."""

import math
from collections.abc import Iterator
from random import Random
from typing import Any, Final, Self

import msgspec

from detectors.drift import detector
from detectors.drift.betting_products import ProductsState, ProductTest
from detectors.drift.saved_state import read_state
from detectors.drift.share_betting_test import read_share
from detectors.drift.trial import Arguments, Trial

OTHER: Final = "other"
"""The name under which labels beyond ``most`` are counted."""

_VERSION: Final = 1
_PRIORS: Final = (5.0, 30.0, 200.0)  # units of equality in both arms before the first, one bet each


class CategoryArmState(ProductsState, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An :class:`ArmCategoryTest` at rest; ``counts`` holds control and treated units of each label."""

    version: int
    most: int
    counts: dict[str, tuple[int, int]]


@detector("arm_category")
class ArmCategoryTest(ProductTest):
    r"""Tests, at any time, "the label of a unit does not depend on its arm", under a coin of known share.

    From the units before it, each bet forms the odds that a unit with label x was treated: the coin's
    :math:`\rho_t/(1-\rho_t)` times the ratio of the label's frequency in the two arms, each pulled towards
    the frequency in both by a prior of 5, 30 or 200 units. With :math:`q_t(x)` the probability that makes,
    the factor is :math:`q_t(x)/\rho_t` for a treated unit, :math:`(1 - q_t(x))/(1 - \rho_t)` for a control.

    **Promise.** If label and arm are independent given the past, the probability that an alarm is *ever*
    raised is at most `alpha`: given x and the past, the mean of the factor over the coin is
    :math:`\rho_t q_t/\rho_t + (1-\rho_t)(1-q_t)/(1-\rho_t) = 1`, whatever the seasons, the mix of traffic
    and the changes of `share`. Every difference of the labels counts, for better or worse: open a ticket
    with it, do not page.

    Parameters
    ----------
    alpha
        Probability of ever raising a false alarm, in (0, 1).
    most
        Labels that are told apart, at least 2; later ones are counted as ``other``.

    Notes
    -----
    One unit of randomisation is one observation; see :class:`ArmBettingTest`. Constant time.

    References
    ----------
    Podkopaev and Ramdas (2023), "Sequential predictive two-sample and independence testing", NeurIPS,
    arXiv:2305.00143.

    Examples
    --------
    >>> test = ArmCategoryTest(alpha=0.01)
    >>> for i in range(2000):
    ...     treated = i % 10 == 0
    ...     label = "refusal" if i % (20 if treated else 7) == 0 else "answer"
    ...     test.update(label, treated=treated, share=0.1)
    >>> test.drift_detected
    True
    """

    def __init__(self, *, alpha: float = 0.001, most: int = 50) -> None:
        if most < 2:
            raise ValueError(f"most must be at least 2, got {most}")
        self.most = most
        super().__init__(alpha=alpha, bets=len(_PRIORS))

    def reset(self) -> None:
        """Forget all units, and with them the alarm; the parameters and ``refused`` stay."""
        super().reset()
        self._counts: dict[str, list[int]] = {}
        self._units = [0, 0]

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the test that `state` was taken from; ValueError if it is not one."""
        read = read_state(state, CategoryArmState, of="ArmCategoryTest", version=_VERSION)
        new = cls(alpha=read.alpha, most=read.most)
        new._resume(read)
        new._counts = {label: list(counts) for label, counts in read.counts.items()}
        new._units = [sum(counts[arm] for counts in new._counts.values()) for arm in (0, 1)]
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything as JSON-able built-ins; floats survive JSON exactly."""
        counts = {label: (count[0], count[1]) for label, count in self._counts.items()}
        state = CategoryArmState(version=_VERSION, most=self.most, counts=counts, **self._fields())
        built: dict[str, Any] = msgspec.to_builtins(state)
        return built

    def update(self, x: str, *, treated: bool, share: float) -> None:
        """Take the next unit: its label, its arm, and the probability with which it was treated.

        Raises
        ------
        ValueError
            If `x` is not text of 1 to 64 characters, `treated` not a bool or `share` not in (0, 1). It is
            counted in ``refused``; nothing else changes.
        """
        try:
            x = read_label(x)
            share = read_share(treated, share)
        except ValueError:
            self.refused += 1
            raise
        if x not in self._counts and len(self._counts) >= self.most - 1:
            x = OTHER
        counts = self._counts.get(x, [0, 0])
        both = (counts[0] + counts[1] + 0.5) / (self._units[0] + self._units[1] + 1.0)
        factors: list[float] = []
        for prior in _PRIORS:
            in_control = (counts[0] + prior * both) / (self._units[0] + prior)
            in_treated = (counts[1] + prior * both) / (self._units[1] + prior)
            scale = share * in_treated + (1.0 - share) * in_control
            factors.append((in_treated if treated else in_control) / scale)
        self._take(factors)
        self._counts.setdefault(x, [0, 0])[treated] += 1
        self._units[treated] += 1

    @classmethod
    def trial(cls) -> Trial:
        """Return how the shared checks try it: a refusal in fifty, in one arm one in five; share .2."""

        def draw(rate: float, random: Random) -> Iterator[Arguments]:
            while True:
                treated = random.random() < 0.2
                refusal = random.random() < (rate if treated else 0.02)
                label = "refusal" if refusal else random.choice(("answer", "question"))
                yield {"x": label, "treated": treated, "share": 0.2}

        bad_x = [{"x": x, "treated": True, "share": 0.2} for x in ("", "x" * 65, 1, None, b"a", "\ud800")]
        bad_share = [{"x": "a", "treated": True, "share": share} for share in (0.0, 1.0, math.nan, "1", -1)]
        return Trial(
            build=lambda: cls(alpha=1e-4),
            steady=lambda random: draw(0.02, random),
            changed=lambda random: draw(0.2, random),
            refused=(*bad_x, *bad_share, {"x": "a", "treated": 1, "share": 0.2}),
            patience=2000,
        )


def read_label(x: object) -> str:
    """Return `x` as a label: text of 1 to 64 characters that UTF-8 can hold.

    Raises
    ------
    ValueError
        If it is none; the error names the type only, because `x` may hold a person's text.
    """
    if not isinstance(x, str) or not 0 < len(x) <= 64 or any("\ud800" <= one <= "\udfff" for one in x):
        raise ValueError(f"not a label of 1 to 64 characters: a {type(x).__name__}")
    return x
