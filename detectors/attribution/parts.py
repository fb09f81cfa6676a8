"""Which topics and which dimensions of an embedding moved."""

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray


class BlockExcess(Struct, frozen=True, kw_only=True):
    """One block (topic, category, range of values): its share after a change less its share before it.

    ``errors`` is the excess in standard errors of a share drawn in control, the reference's own included.
    """

    block: int
    share_before: float
    share_after: float
    excess: float
    errors: float


def block_excesses(counts: Sequence[int], sizes: Sequence[int]) -> list[BlockExcess]:
    r"""Return the blocks by how far their share lies from that of the reference, furthest first.

    Parameters
    ----------
    counts
        Units in each block since the onset.
    sizes
        Reference points in each block, all together N + 1 (one block holds the open end): the share of a
        block in control is then Beta with mean ``size / (N + 1)``.

    Raises
    ------
    ValueError
        If the two are not equally long, or there are no units or no reference points.

    Examples
    --------
    >>> found = block_excesses([10, 30, 60], [50, 25, 26])
    >>> [(one.block, round(one.excess, 2)) for one in found]
    [(0, -0.4), (2, 0.34), (1, 0.05)]
    """
    n, whole = sum(counts), sum(sizes)
    if len(counts) != len(sizes) or n < 1 or whole < 1:
        raise ValueError("need as many counts as sizes, and at least one unit and one reference point")
    found = []
    for block, (count, size) in enumerate(zip(counts, sizes, strict=True)):
        before, after = size / whole, count / n
        error = math.sqrt(before * (1.0 - before) * (1.0 / n + 1.0 / (whole + 1.0)))
        found.append(
            BlockExcess(
                block=block,
                share_before=before,
                share_after=after,
                excess=after - before,
                errors=(after - before) / error if error > 0.0 else 0.0,
            )
        )
    return sorted(found, key=lambda one: (-abs(one.errors), one.block))


def shifted_dimensions(
    mean_after: ArrayLike, mean_before: ArrayLike, variance: ArrayLike, *, n: int, n_ref: int, top: int = 10
) -> list[tuple[int, float, float]]:
    """Return the dimensions whose mean moved most: ``(dimension, shift, standard errors)``, largest first.

    Parameters
    ----------
    mean_after, mean_before, variance
        Of each dimension, shape (d,): the mean since the onset, and mean and variance of the reference.
    n, n_ref
        Vectors behind the two means.
    top
        How many to return.

    Raises
    ------
    ValueError
        For shapes that differ, or without vectors.

    Examples
    --------
    >>> shifted_dimensions([0.1, 0.5], [0.1, 0.1], [0.04, 0.04], n=100, n_ref=10_000, top=1)
    [(1, 0.4, 19.9)]
    """
    after, before, spread = (np.asarray(a, dtype=np.float64) for a in (mean_after, mean_before, variance))
    if not after.shape == before.shape == spread.shape or after.ndim != 1 or n < 1 or n_ref < 1:
        raise ValueError("need three vectors of one length, and vectors behind both means")
    shift = after - before
    error = np.sqrt(spread * (1.0 / n + 1.0 / n_ref))
    errors: NDArray[np.float64] = np.divide(shift, error, out=np.zeros_like(shift), where=error > 0.0)
    order = np.argsort(-np.abs(errors), kind="stable")[:top]
    return [(int(j), round(float(shift[j]), 6), round(float(errors[j]), 1)) for j in order]
