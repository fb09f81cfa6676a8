"""Blocks of directions with exactly known chances, peeled off a reference ball by ball."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Final, Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.drift.block_jitter import jitters
from detectors.drift.blocks_of_numbers import SMALLEST_REFERENCE, SMALLEST_SHARE
from detectors.drift.embedding_vectors import Vectors, find_centroids, read_reference, read_vector

SMALLEST_EMBEDDING_REFERENCE: Final = 2 * SMALLEST_REFERENCE


class EmbeddingBlocks(Struct, frozen=True, kw_only=True, tag=True, dict=True):
    """Balls around directions, each without those before it, and the rest; made by :meth:`fit`.

    Every second vector of the reference, starting with the first, places the centroids and says how many
    vectors each ball is to hold; the other half sets the radii so that each ball holds exactly that many of
    those not yet held. A vector belongs to the first ball that it lies in.

    Parameters
    ----------
    d
        Dimensions of a vector.
    centroids
        Little-endian int16, one row of `d` for each ball.
    closeness, closeness_jitters
        Dot product with its centroid, and jitter, of the outermost reference vector in each ball.
    shares
        As those of :class:`NumberBlocks`; one more than there are balls.
    """

    d: int
    centroids: bytes
    closeness: tuple[float, ...]
    closeness_jitters: tuple[float, ...]
    shares: tuple[int, ...]

    @classmethod
    def fit(cls, vectors: object, *, blocks: int = 16, seed: int = 0) -> Self:
        """Return blocks for a reference of embeddings.

        Parameters
        ----------
        vectors
            Shape (n, d), floats; at least 40 rows.
        blocks
            How many blocks are wanted, at least 2. A small reference gets fewer.
        seed
            Of the first centroids and of the jitter.

        Raises
        ------
        ValueError
            For a reference that is too small, of the wrong shape, or with a row without direction.

        Examples
        --------
        >>> angle = np.linspace(0.0, 3.0, 400)
        >>> made = EmbeddingBlocks.fit(np.stack([np.cos(angle), np.sin(angle)], axis=1), blocks=4)
        >>> sum(made.shares), len(made.shares), made.locate([1.0, 0.0], 0.5) in range(4)
        (201, 4, True)
        """
        if blocks < 2:
            raise ValueError(f"blocks must be at least 2, got {blocks}")
        rows = read_reference(vectors, at_least=SMALLEST_EMBEDDING_REFERENCE)
        first, second = rows[0::2], rows[1::2]
        gaps = len(second) + 1
        balls = max(1, min(blocks, gaps // SMALLEST_SHARE) - 1)
        centroids = find_centroids(first, balls, seed=seed)
        owners = np.bincount(np.argmax(first @ centroids.T, axis=1), minlength=balls)
        order = np.argsort(-owners, kind="stable")
        sizes = _sizes(owners[order] / len(first), gaps)
        centroids = centroids[order][: len(sizes)]
        products = (second @ centroids.T).astype(np.float64)
        closeness, closeness_jitters = _peel(products, jitters(seed, len(second)), sizes)
        return cls(
            d=rows.shape[1],
            centroids=centroids.astype("<i2").tobytes(),
            closeness=closeness,
            closeness_jitters=closeness_jitters,
            shares=(*sizes, gaps - sum(sizes)),
        )

    @cached_property
    def matrix(self) -> Vectors:
        """The centroids, shape (balls, d)."""
        return np.frombuffer(self.centroids, dtype="<i2").reshape(-1, self.d).astype(np.float32)

    @cached_property
    def _limits(self) -> NDArray[np.float64]:
        return np.array(self.closeness)

    def locate(self, x: object, jitter: float) -> int:
        """Return the block of the vector `x`, of `d` floats; ValueError as :func:`read_vector`."""
        return self.locate_product(self.matrix.dot(read_vector(x, self.d)), lambda: jitter)

    def locate_product(self, products: NDArray[np.float32], noise: Callable[[], float]) -> int:
        """Return the block of one vector, given its dot products with all centroids, shape (balls,).

        `noise` gives its jitter; it is asked for ties only.
        """
        for block, (product, limit) in enumerate(zip(products.tolist(), self.closeness, strict=True)):
            if product > limit or (product == limit and noise() <= self.closeness_jitters[block]):
                return block
        return len(self.closeness)

    def locate_products(self, products: NDArray[np.float32], noise: Callable[[int], float]) -> list[int]:
        """Return the blocks of vectors, given their dot products with all centroids, shape (n, balls).

        `noise` gives the jitter of a row; it is asked for ties only.
        """
        limits = self._limits
        inside = products >= limits  # the outermost itself is decided by jitter, below
        found: list[int] = np.where(inside.any(axis=1), inside.argmax(axis=1), len(limits)).tolist()
        for row in np.flatnonzero((products == limits).any(axis=1)).tolist():
            found[row] = self.locate_product(products[row], partial(noise, row))
        return found


def _sizes(portions: NDArray[np.float64], gaps: int) -> list[int]:
    """Return how many gaps each ball gets, so that one share of equal size is left for the rest."""
    left = gaps - max(SMALLEST_SHARE, gaps // (len(portions) + 1))
    sizes: list[int] = []
    for portion in portions:
        size = max(SMALLEST_SHARE, int(portion * left))
        if sum(sizes) + size > gaps - SMALLEST_SHARE:
            break
        sizes.append(size)
    return sizes


def _peel(
    products: NDArray[np.float64], noise: NDArray[np.float64], sizes: list[int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return closeness and jitter of the outermost vector of each ball."""
    left = np.arange(len(products))
    limits: list[float] = []
    limit_noise: list[float] = []
    for ball, size in enumerate(sizes):
        nearest = np.lexsort((noise[left], -products[left, ball]))
        outermost = left[nearest[size - 1]]
        limits.append(float(products[outermost, ball]))
        limit_noise.append(float(noise[outermost]))
        left = np.sort(left[nearest[size:]])
    return tuple(limits), tuple(limit_noise)
