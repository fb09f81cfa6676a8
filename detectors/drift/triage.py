"""The list of streams worth a look: e-BH, with a bound on the share of false entries."""

import math
from collections.abc import Mapping


def triage(evidence: Mapping[str, float], *, false_share: float = 0.1) -> list[str]:
    r"""Return the streams that have changed, strongest first; on average `false_share` of them have not.

    With K streams and e-values :math:`W_k`, it lists the `k` streams of largest e-value for the largest k
    with :math:`W_{(k)} \ge K / (q k)`. If every :math:`W_k` of an unchanged stream has a mean of at most 1,
    the false discovery rate is at most q, under any dependence between the streams. The companion's
    ``value`` of a detector is such an e-value at any time one cares to look, provided that the stream stays
    in control given the past of *all* streams.

    Parameters
    ----------
    evidence
        The e-value of each stream by its name, each >= 0; infinity is allowed.
    false_share
        q, in (0, 1).

    Returns
    -------
    list of str
        Names, by falling e-value, equal ones by name.

    Raises
    ------
    ValueError
        For an e-value that is negative or NaN, or a `false_share` outside (0, 1).

    References
    ----------
    Wang and Ramdas (2022), "False discovery rate control with e-values", JRSS B 84, arXiv:2009.02824.

    Examples
    --------
    >>> triage({"helpful/pro": 900.0, "helpful/free": 1.3, "harmless/pro": 25.0, "honest/all": 0.2})
    ['helpful/pro', 'harmless/pro']
    """
    if not 0.0 < false_share < 1.0:
        raise ValueError(f"false_share must be in (0, 1), got {false_share}")
    if not all(0.0 <= value <= math.inf for value in evidence.values()):
        raise ValueError("an e-value must be >= 0")
    ranked = sorted(evidence, key=lambda name: (-evidence[name], name))
    listed = 0
    for k, name in enumerate(ranked, start=1):
        if evidence[name] * false_share * k >= len(ranked):
            listed = k
    return ranked[:listed]
