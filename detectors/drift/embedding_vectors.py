"""Embeddings as whole numbers: every sum of products of them is exact, in any order and batch size."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""Rows of whole numbers, of length about :data:`SCALE`."""

SCALE: Final = 4000
"""Length of a vector. Products of two such vectors stay below 2 ** 24, where float32 holds every integer."""

_MOST_DIMENSIONS: Final = 8192
_PIECE: Final = 128  # rows read at once: they stay in the cache


def read_vectors(x: object, d: int) -> Vectors:
    """Return the rows of `x`, scaled to the same length and rounded to whole numbers.

    A row keeps its direction to about 1 part in 700 (d = 384): the length carries no meaning in embeddings,
    and the rounding is far below the differences between texts. What is gained: dot products of such rows
    are exact in float32, so one vector gives the same result alone, in a batch and on another machine.

    Parameters
    ----------
    x
        Shape (n, d): a float array, or sequences of floats.
    d
        Dimensions expected.

    Raises
    ------
    ValueError
        For another shape, for anything but floats, for a value that is not finite, and for a row whose
        length is 0 or too large to compute. The text holds no values.

    Examples
    --------
    >>> read_vectors([[3.0, 4.0]], 2)
    array([[2400., 3200.]], dtype=float32)
    """
    rows = _floats(x)
    if rows.ndim != 2 or rows.shape[1] != d:
        raise ValueError(f"vectors must have {d} values, got the shape {rows.shape}")
    whole = np.empty(rows.shape, dtype=np.float32)
    for start in range(0, len(rows), _PIECE):
        wide = np.array(rows[start : start + _PIECE], dtype=np.float64, order="C")
        squares = np.einsum("ij,ij->i", wide, wide)
        if not (squares.min() > 1e-200 and squares.max() < 1e200):  # NaN fails every comparison
            raise ValueError("a vector is not finite, or has no direction")
        wide *= (SCALE / np.sqrt(squares))[:, None]
        np.rint(wide, out=wide)
        whole[start : start + _PIECE] = wide
    return whole


def read_vector(x: object, d: int) -> Vectors:
    """Return the vector `x`, shape (d,), as the row that :func:`read_vectors` makes of it, but sooner.

    Raises
    ------
    ValueError
        As :func:`read_vectors`.

    Examples
    --------
    >>> read_vector([3.0, 4.0], 2)
    array([2400., 3200.], dtype=float32)
    """
    row = _floats(x)
    if row.shape != (d,):
        raise ValueError(f"a vector must have {d} values, got the shape {row.shape}")
    wide = row.astype(np.float64)
    square = float(np.einsum("i,i->", wide, wide))  # as for rows: another sum may differ in the last bit
    if not 1e-200 < square < 1e200:  # NaN fails every comparison
        raise ValueError("a vector is not finite, or has no direction")
    wide *= SCALE / math.sqrt(square)
    np.rint(wide, out=wide)
    return wide.astype(np.float32)


def _floats(x: object) -> NDArray[np.floating]:
    try:
        values = np.asarray(x)
    except (ValueError, TypeError) as error:
        raise ValueError("not an array of vectors") from error
    if values.dtype.kind != "f":
        raise ValueError(f"vectors must be floats, got {values.dtype.name}")
    return values


def read_reference(x: object, *, at_least: int) -> Vectors:
    """Return the rows of a reference, whose dimensions are not known beforehand; ValueError as above."""
    shape = np.shape(x) if isinstance(x, np.ndarray | Sequence) else ()
    if len(shape) != 2 or shape[0] < at_least or not 2 <= shape[1] <= _MOST_DIMENSIONS:
        raise ValueError(
            f"a reference needs the shape (n >= {at_least}, 2 <= d <= {_MOST_DIMENSIONS}), got {shape}"
        )
    return read_vectors(x, int(shape[1]))


def find_centroids(rows: Vectors, count: int, *, seed: int, rounds: int = 10) -> Vectors:
    """Return `count` directions around which `rows` lie: spherical k-means, as whole numbers.

    Starts as k-means++ does. A centroid that loses its last row keeps its place.

    Examples
    --------
    >>> rows = read_vectors([[1.0, 0.01 * i] for i in range(9)] + [[0.01 * i, -1.0] for i in range(9)], 2)
    >>> sorted(find_centroids(rows, 2, seed=0).round(-2).tolist())
    [[200.0, -4000.0], [4000.0, 200.0]]
    """
    random = np.random.default_rng(seed)
    units = rows / np.float32(SCALE)
    chosen = [int(random.integers(len(units)))]
    far = np.maximum(1.0 - units @ units[chosen[0]], 0.0)
    for _ in range(count - 1):
        far_sum = float(far.sum())
        weights = far / far_sum if far_sum > 0.0 else np.full(len(far), 1.0 / len(far))
        place = int(np.searchsorted(np.cumsum(weights), random.random()))
        chosen.append(min(place, len(far) - 1))
        far = np.minimum(far, np.maximum(1.0 - units @ units[chosen[-1]], 0.0))
    centroids = units[chosen].copy()
    for _ in range(rounds):
        owner = np.argmax(units @ centroids.T, axis=1)
        sums = np.zeros_like(centroids)
        np.add.at(sums, owner, units)
        lengths = np.linalg.norm(sums, axis=1)
        kept = lengths > 1e-6
        centroids[kept] = sums[kept] / lengths[kept, None]
    whole: Vectors = np.rint(centroids * SCALE).astype(np.float32)
    return whole
