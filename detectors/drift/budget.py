"""FalsePageBudget: "at most B false pages a week", shared by all the streams that may page."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

_LARGEST_ALPHA: Final = 0.5
_SLACK: Final = 1e-9  # rounding of a sum of weights


class FalsePageBudget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    r"""Spreads the false pages of a week over streams, by weight and traffic.

    A detector made of Shiryaev-Roberts sums raises at most :math:`\alpha n` false alarms on average among n
    observations. A stream with the share :math:`w_k` of the budget B and :math:`n_k` units a week gets
    :math:`\alpha_k = B w_k / n_k`, and so :math:`\sum_k \alpha_k n_k = B \sum_k w_k \le B` false pages are
    expected in a week, however the streams depend on each other.

    A stream's share is its metric's weight times its segment's weight within the metric. Shares are fixed
    when the budget is written: a metric or segment that is not named has no share, and a stream without a
    share cannot page. So adding a segment never raises the number of pages unnoticed: the weights that are
    there must leave it room, or :meth:`share` and :meth:`alpha` refuse.

    More traffic than ``alpha`` was asked for raises more false pages in that week. Where traffic grows, ask
    again and build the detector anew with the smaller `alpha`.

    Parameters
    ----------
    pages_per_week
        B, positive.
    metrics
        Weight of each metric that may page, each positive, together at most 1.
    segments
        For each metric, the weight of each of its segments, each positive, together at most 1. A metric
        without an entry is watched in the segment ``all`` alone, with weight 1.

    Raises
    ------
    ValueError
        For weights that are not positive or exceed 1 together, segments of an unknown metric, or a budget
        that is not positive and finite.

    Examples
    --------
    >>> budget = FalsePageBudget(
    ...     pages_per_week=0.5,
    ...     metrics={"helpful": 0.6, "harmless": 0.4},
    ...     segments={"helpful": {"all": 0.5, "plan=pro": 0.25}},
    ... )
    >>> budget.alpha("helpful", "plan=pro", units=1000)
    7.5e-05
    >>> round(budget.unspent, 2)
    0.15
    >>> budget.alpha("helpful", "plan=free", units=1000)
    Traceback (most recent call last):
        ...
    ValueError: 'helpful' in 'plan=free' has no share of the budget; of the metric, 0.25 is free
    """

    pages_per_week: float
    metrics: dict[str, float]
    segments: dict[str, dict[str, float]] = {}

    def __post_init__(self) -> None:
        if not 0.0 < self.pages_per_week < math.inf:
            raise ValueError(f"pages_per_week must be positive, got {self.pages_per_week}")
        _check_weights(self.metrics, "metrics")
        for metric, weights in self.segments.items():
            if metric not in self.metrics:
                raise ValueError(f"segments of {metric!r}, which has no weight")
            _check_weights(weights, f"segments of {metric!r}")

    def share(self, metric: str, segment: str = "all") -> float:
        """Return the share of the budget that `metric` has in `segment`, in (0, 1].

        Raises
        ------
        ValueError
            If it has none; the text says how much of the metric's weight is free.
        """
        weights = self.segments.get(metric, {"all": 1.0})
        if metric not in self.metrics or segment not in weights:
            free = 1.0 - sum(weights.values()) if metric in self.metrics else 0.0
            raise ValueError(
                f"{metric!r} in {segment!r} has no share of the budget; of the metric, {free:.2g} is free"
            )
        return self.metrics[metric] * weights[segment]

    def alpha(self, metric: str, segment: str = "all", *, units: float) -> float:
        """Return the `alpha` of one stream that sees `units` in a week; at most .5.

        Raises
        ------
        ValueError
            If it has no share, or for `units` that are not positive and finite.
        """
        if not 0.0 < units < math.inf:
            raise ValueError(f"units must be positive, got {units}")
        return min(_LARGEST_ALPHA, self.pages_per_week * self.share(metric, segment) / units)

    @property
    def unspent(self) -> float:
        """The share of the budget that no stream has, in [0, 1]."""
        spent = sum(
            weight * sum(self.segments.get(metric, {"all": 1.0}).values())
            for metric, weight in self.metrics.items()
        )
        return max(0.0, 1.0 - spent)

    def with_segment(self, metric: str, segment: str, weight: float) -> "FalsePageBudget":
        """Return the budget in which `segment` of `metric` has `weight`, its others scaled to make room.

        The metric's total does not grow beyond 1, nor does any other metric pay: what the new segment may
        page, its siblings may not.

        Raises
        ------
        ValueError
            For an unknown metric, a segment that is there, or a weight outside (0, 1).
        """
        if metric not in self.metrics:
            raise ValueError(f"unknown metric {metric!r}")
        weights = self.segments.get(metric, {"all": 1.0})
        if segment in weights or not 0.0 < weight < 1.0:
            raise ValueError(f"need a new segment and a weight in (0, 1), got {segment!r} and {weight}")
        scale = min(1.0, (1.0 - weight) / sum(weights.values()))
        made = {**{name: kept * scale for name, kept in weights.items()}, segment: weight}
        return FalsePageBudget(
            pages_per_week=self.pages_per_week,
            metrics=dict(self.metrics),
            segments={**self.segments, metric: made},
        )


def merge_evidence(statistics: Sequence[float], weights: Sequence[float]) -> float:
    r"""Return the statistic of a parent from those of its children: their weighted mean.

    With Shiryaev-Roberts sums :math:`M_k`, each growing by at most 1 on average per unit of its own, and
    weights in sum 1, the mean grows by at most :math:`\sum_k w_k n_k` over :math:`n_k` units of each child:
    the parent may alarm at ``1 / alpha`` and raises at most :math:`\alpha \sum_k w_k n_k` false alarms on
    average. With e-values of the children it is an e-value of "no child ever changed". Both hold under any
    dependence; a product would need independent children.

    Parameters
    ----------
    statistics
        One per child, each finite and >= 0.
    weights
        One per child, each >= 0, in sum 1; fixed before the data.

    Raises
    ------
    ValueError
        Without children, for two lengths, or a statistic or weight out of range.

    References
    ----------
    Vovk and Wang (2021), "E-values: calibration, combination and applications", Annals of Statistics 49.

    Examples
    --------
    >>> merge_evidence([0.5, 40.0], [0.75, 0.25])
    10.375
    """
    if not statistics or len(statistics) != len(weights):
        raise ValueError("need children, and as many weights as children")
    if not all(0.0 <= value < math.inf for value in (*statistics, *weights)):
        raise ValueError("statistics and weights must be finite and >= 0")
    if abs(math.fsum(weights) - 1.0) > _SLACK:
        raise ValueError(f"weights must add up to 1, got {math.fsum(weights)}")
    return math.fsum(w * value for w, value in zip(weights, statistics, strict=True))


def _check_weights(weights: Mapping[str, Any], what: str) -> None:
    if not weights or not all(0.0 < weight <= 1.0 for weight in weights.values()):
        raise ValueError(f"{what}: need weights in (0, 1]")
    if sum(weights.values()) > 1.0 + _SLACK:
        raise ValueError(f"{what}: the weights add up to more than 1")
