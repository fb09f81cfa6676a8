"""Embeddings on a sphere: topics of unequal weight and width, and what a new release does to them."""

import math
from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.worlds.changes import Change, generator

Vectors = NDArray[np.float32]
EmbeddingChange = Literal["new_topic", "more_of_a_topic", "mean_shift"]

_CONE: Final = 0.6  # weight of the direction that all texts share: embeddings of one model fill a cone
_NOISE: Final = 0.7  # length of what is peculiar to one text, against a topic's direction of length 1
_DECAY: Final = 0.5  # the scale of the j-th coordinate of the noise falls as j ** -_DECAY
_PIECE: Final = 4096  # vectors drawn at once: bounds memory at any length


class EmbeddingWorld(Struct, frozen=True, kw_only=True):
    """One world: `topics` topics around a common direction, each with coordinates of very unequal noise.

    Topic weights fall as 1 / sqrt(rank). Every vector has length 1.

    Parameters
    ----------
    d
        Dimensions.
    topics
        Topics before the change.
    kind
        ``new_topic``: a share `size` of the texts is of a topic never seen. ``more_of_a_topic``: that share
        moves to one known topic. ``mean_shift``: every vector is moved by `size` in one direction, and
        brought back to the sphere.
    size
        A share, or a distance.
    change
        When, and how fast. In a ramp the share, or the distance, grows.

    Examples
    --------
    >>> world = EmbeddingWorld(d=8, size=0.3, change=Change(kind="abrupt", at=100))
    >>> x = world.stream(seed=10_000, length=200)
    >>> x.shape, x.dtype.name, bool(np.allclose(np.linalg.norm(x, axis=1), 1.0, atol=1e-5))
    ((200, 8), 'float32', True)
    """

    d: int = 384
    topics: int = 20
    kind: EmbeddingChange = "new_topic"
    size: float = 0.1
    change: Change = Change()

    def reference(self, *, seed: int, n: int) -> Vectors:
        """Return `n` vectors from before the change of the world called `seed`, shape (n, d)."""
        topics = _Topics(self, seed)
        random = generator(seed, 2)
        return np.concatenate([topics.draw(random, np.zeros(size)) for _, size in _pieces(n)])

    def stream(self, *, seed: int, length: int) -> Vectors:
        """Return the first `length` vectors of the world called `seed`, shape (length, d)."""
        return np.concatenate(list(self.batches(seed=seed, length=length)))

    def batches(self, *, seed: int, length: int) -> Iterator[Vectors]:
        """Return the stream in pieces of at most 4,096 vectors."""
        topics = _Topics(self, seed)
        random = generator(seed, 3)
        for start, size in _pieces(length):
            yield topics.draw(random, self.change.progress(start, size))


class _Topics:
    """The fixed part of a world: directions, widths and weights, drawn from its seed."""

    def __init__(self, world: EmbeddingWorld, seed: int) -> None:
        self._world = world
        random, count, d = generator(seed, 1), world.topics + 1, world.d  # the last is the topic to come
        cone = _unit(random.standard_normal((1, d)))
        own = _unit(random.standard_normal((count, d)))
        self._centres = (_CONE * cone + math.sqrt(1.0 - _CONE**2) * own).astype(np.float32)
        decay = np.arange(1, d + 1) ** -_DECAY
        decay *= _NOISE / math.sqrt(float(np.sum(decay**2)))
        self._scales = np.stack([random.permutation(decay) for _ in range(count)]).astype(np.float32)
        weights = np.arange(1, world.topics + 1) ** -0.5
        self._weights = weights / weights.sum()
        self._shift = _unit(random.standard_normal((1, d))).astype(np.float32)
        self._grown = int(random.integers(world.topics // 2, world.topics))

    def draw(self, random: np.random.Generator, there: NDArray[np.float64]) -> Vectors:
        """Return one vector for each entry of `there`, which says how much of the change is there."""
        world, n = self._world, len(there)
        of = random.choice(world.topics, size=n, p=self._weights)
        if world.kind != "mean_shift":
            to = world.topics if world.kind == "new_topic" else self._grown
            of = np.where(random.random(n) < world.size * there, to, of)
        x = random.standard_normal((n, world.d), dtype=np.float32)
        x *= self._scales[of]
        x += self._centres[of]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        if world.kind == "mean_shift":
            x += (world.size * there).astype(np.float32)[:, None] * self._shift
            x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = x / np.linalg.norm(x, axis=1, keepdims=True)
    return scaled


def _pieces(length: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, _PIECE):
        yield start, min(_PIECE, length - start)
