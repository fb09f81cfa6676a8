"""A few interactions to look at: what went wrong, and what still goes right."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike

from detectors.records.scorecard import Direction


class Exemplar(Struct, frozen=True, kw_only=True):
    """One example; ``distance`` says how far it lies from the baseline, or from the topic's centre."""

    interaction_id: str
    kind: Literal["bad", "good"]
    distance: float


def choose_exemplars(
    ids: Sequence[str],
    values: ArrayLike,
    *,
    baseline: float,
    direction: Direction,
    count: int = 5,
) -> list[Exemplar]:
    """Return the `count` worst units since the onset and the `count` best, the most extreme first.

    Of equally extreme ones the newest come first. A unit on the good side of the baseline is never bad, and
    the other way round; of a neutral metric low is called good. So there may be fewer.

    Parameters
    ----------
    ids, values
        Interaction and value of each unit since the onset, oldest first.
    baseline
        The mean in control.
    direction
        Of the metric.

    Raises
    ------
    ValueError
        If there are not as many ids as values.

    Examples
    --------
    >>> found = choose_exemplars(["a", "b", "c"], [0.2, 1.0, 0.5], baseline=0.9, direction="higher", count=1)
    >>> [(one.kind, one.interaction_id) for one in found]
    [('bad', 'a'), ('good', 'b')]
    """
    x = np.asarray(values, dtype=np.float64)
    if x.shape != (len(ids),):
        raise ValueError("need one value for each id")
    worse = (baseline - x) if direction == "higher" else (x - baseline)
    newest = np.arange(len(x))[::-1]
    found: list[Exemplar] = []
    kinds: tuple[tuple[Literal["bad", "good"], float], ...] = (("bad", 1.0), ("good", -1.0))
    for kind, sign in kinds:
        order = newest[np.argsort(-sign * worse[newest], kind="stable")]
        chosen = [int(i) for i in order if (sign * worse[i] > 0.0 if kind == "bad" else worse[i] <= 0.0)]
        found += [
            Exemplar(interaction_id=ids[i], kind=kind, distance=float(abs(worse[i]))) for i in chosen[:count]
        ]
    return found
