"""What WitnessSR knows of normal embeddings: a whitening projection, its centre and its sampling error."""

import math
from functools import cached_property
from hashlib import blake2b
from typing import Final, Self

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.drift.blocks_of_numbers import SMALLEST_REFERENCE
from detectors.drift.embedding_vectors import SCALE, Vectors, read_reference

Matrix = NDArray[np.float64]

_MAIN: Final = 32  # directions of most variance, which are shrunk
_REACH: Final = 0.99  # share of the reference that is not drawn in
_ROUNDS: Final = 6


class WitnessReference(Struct, frozen=True, kw_only=True, tag=True, dict=True):
    """A projection of embeddings to points of length <= 1 around 0; made by :meth:`fit`.

    The first half of the reference (every second vector) chooses a linear map: the 32 directions of most
    variance, which are those in which topics differ, are shrunk to the variance of the others, and what is
    left is projected to a random subspace. It also chooses a centre, and a reach: points that are further
    from the centre are drawn in to it. The second half says what the mean of such points is.

    Parameters
    ----------
    d, dimensions
        Of a vector, and of its projection.
    projection
        Little-endian int16, shape (dimensions, d).
    centre, reach, unit
        Where points are centred, and how far they go, in products of whole numbers; the length that counts
        as 1.
    mean
        Mean of the second half, in units of `unit`.
    margin
        Standard error of that mean, as a length: the trace of the covariance over the size of that half,
        under a root. Means that differ by less are not told apart.
    """

    d: int
    dimensions: int
    projection: bytes
    centre: tuple[float, ...]
    reach: float
    unit: float
    mean: tuple[float, ...]
    margin: float

    @classmethod
    def fit(cls, vectors: object, *, dimensions: int = 64, seed: int = 0) -> Self:
        """Return the reference made of `vectors`.

        Parameters
        ----------
        vectors
            Shape (n, d), floats; at least 40 rows.
        dimensions
            Of the projection, at least 1; at most d are used. More find shifts slightly sooner; the state
            of a stream grows by 11 bytes for each.
        seed
            Of the random subspace.

        Raises
        ------
        ValueError
            For a reference that is too small, of the wrong shape, with a row without direction, or constant.

        Examples
        --------
        >>> vectors = np.random.default_rng(1).standard_normal((400, 10))
        >>> made = WitnessReference.fit(vectors, dimensions=4)
        >>> made.dimensions, 0.03 < made.margin < 0.06
        (4, True)
        """
        if dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, got {dimensions}")
        rows = read_reference(vectors, at_least=2 * SMALLEST_REFERENCE)
        projection = _projection(rows[0::2], min(dimensions, rows.shape[1]), seed)
        first, second = (_products(half, projection) for half in (rows[0::2], rows[1::2]))
        centre = np.rint(first.mean(axis=0))
        reach = float(np.quantile(np.linalg.norm(first - centre, axis=1), _REACH))
        if reach < SCALE:  # the rounding of a constant reference
            raise ValueError("the reference is constant: its vectors differ in nothing that is kept")
        points = _draw_in(second - centre, reach)
        mean = points.mean(axis=0)
        margin = math.sqrt(float(((points - mean) ** 2).sum()) / len(points)) / math.sqrt(len(points))
        unit = reach + float(np.linalg.norm(mean)) + margin
        return cls(
            d=rows.shape[1],
            dimensions=len(projection),
            projection=projection.astype("<i2").tobytes(),
            centre=tuple(centre.tolist()),
            reach=reach,
            unit=unit,
            mean=tuple((mean / unit).tolist()),
            margin=margin / unit,
        )

    @cached_property
    def matrix(self) -> Vectors:
        """The projection, shape (dimensions, d)."""
        return np.frombuffer(self.projection, dtype="<i2").reshape(-1, self.d).astype(np.float32)

    @cached_property
    def name(self) -> str:
        """A short name that two references share only if they are the same."""
        return blake2b(msgspec.msgpack.encode(self), digest_size=8).hexdigest()

    @cached_property
    def _centre(self) -> Matrix:
        return np.array(self.centre)

    @cached_property
    def _mean(self) -> Matrix:
        return np.array(self.mean)

    def points(self, products: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the points of vectors, given their exact products with ``matrix``; each shorter than 1."""
        inside = _draw_in(products.astype(np.float64) - self._centre, self.reach)
        return (inside / self.unit - self._mean).astype(np.float32)

    def point(self, products: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the point of one vector, given its products: that of :meth:`points`, but sooner."""
        inside = products - self._centre
        length = math.sqrt(float(inside.dot(inside)))  # whole numbers: exact in any order
        if length > self.reach:
            inside *= self.reach / max(length, 1.0)
        inside /= self.unit
        inside -= self._mean
        return inside.astype(np.float32)


def _products(rows: Vectors, projection: Vectors) -> Matrix:
    return (rows @ projection.T).astype(np.float64)


def _draw_in(points: Matrix, reach: float) -> Matrix:
    # The entries are whole numbers, and so are their sums of squares: exact in any order.
    lengths = np.sqrt(np.einsum("ij,ij->i", points, points))
    drawn: Matrix = points * np.minimum(1.0, reach / np.maximum(lengths, 1.0))[:, None]
    return drawn


def _projection(rows: Vectors, dimensions: int, seed: int) -> Vectors:
    """Return the linear map as rows of whole numbers, each at most about ``SCALE`` long."""
    random = np.random.default_rng(seed)
    d = rows.shape[1]
    centred = (rows - rows.mean(axis=0)) / np.float32(SCALE)
    main, variances = _main_directions(centred, min(_MAIN, d // 2), random)
    others = max(float((centred.astype(np.float64) ** 2).sum()) / len(rows) - float(variances.sum()), 0.0)
    shrink = 1.0 - np.sqrt(np.minimum(1.0, others / (d - len(variances)) / np.maximum(variances, 1e-12)))
    subspace = np.linalg.qr(random.standard_normal((d, dimensions)))[0].T
    mapped = subspace - (subspace @ main) * shrink @ main.T
    whole: Vectors = np.rint(mapped * SCALE).astype(np.float32)
    return whole


def _main_directions(centred: Vectors, count: int, random: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Return the directions of most variance, shape (d, count), and their variances; subspace iteration."""
    wide = min(count + 8, centred.shape[1])
    basis = np.linalg.qr(random.standard_normal((centred.shape[1], wide)))[0]
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(centred.T @ (centred @ basis.astype(np.float32)).astype(np.float32))[0]
    seen = (centred @ basis).astype(np.float64)
    variances, turn = np.linalg.eigh(seen.T @ seen / len(centred))
    main = basis.astype(np.float64) @ turn[:, ::-1][:, :count]
    return main, variances[::-1][:count]
