"""Streams of labels, one of a fixed list: intents, languages, refusal kinds."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.worlds.changes import Change

Labels = NDArray[np.int64]


class CategoryWorld(Struct, frozen=True, kw_only=True):
    """Independent labels 0, 1, ..., drawn with the probabilities `before`, then `after`.

    Raises
    ------
    ValueError
        If the probabilities are negative, do not sum to 1 (within 1e-9) or are not equally many.

    Examples
    --------
    >>> from detectors.worlds.changes import generator
    >>> world = CategoryWorld(before=(0.7, 0.3), after=(0.5, 0.5), change=Change(kind="abrupt", at=500))
    >>> labels = world.draw(generator(10_000), replications=100, length=1000)
    >>> labels.shape, round(float(labels[:, :500].mean()), 1), round(float(labels[:, 500:].mean()), 1)
    ((100, 1000), 0.3, 0.5)
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    change: Change = Change()

    def __post_init__(self) -> None:
        for shares in (self.before, self.after):
            if min(shares) < 0.0 or abs(sum(shares) - 1.0) > 1e-9:
                raise ValueError("probabilities must not be negative and must sum to 1")
        if len(self.before) != len(self.after):
            raise ValueError("as many categories after the change as before it")

    def draw(self, random: np.random.Generator, *, replications: int, length: int, start: int = 0) -> Labels:
        """Return the labels ``start .. start + length - 1`` of every stream, one stream a row."""
        there = self.change.progress(start, length)
        changed = random.random((replications, length)) < there
        uniform = random.random((replications, length))
        return np.where(changed, _look_up(self.after, uniform), _look_up(self.before, uniform))

    def reference(self, random: np.random.Generator, *, replications: int, n: int) -> Labels:
        """Return `n` labels from before the change for each stream, shape (replications, n)."""
        return _look_up(self.before, random.random((replications, n)))


def with_share(shares: tuple[float, ...], category: int, share: float) -> tuple[float, ...]:
    """Return `shares` with `category` at `share` and all others scaled alike.

    Examples
    --------
    >>> with_share((0.2, 0.4, 0.4), 0, 0.6)
    (0.6, 0.2, 0.2)
    """
    scale = (1.0 - share) / (1.0 - shares[category])
    return tuple(share if i == category else scale * old for i, old in enumerate(shares))


def _look_up(shares: tuple[float, ...], uniform: NDArray[np.float64]) -> Labels:
    edges = np.cumsum(shares)[:-1]
    return np.searchsorted(edges, uniform, side="right").astype(np.int64)
