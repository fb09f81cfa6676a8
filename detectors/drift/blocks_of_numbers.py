"""Blocks of the line with exactly known chances, cut at order statistics of a reference."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from numbers import Real
from typing import Final, Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.drift.block_jitter import jitters

SMALLEST_REFERENCE: Final = 20
"""With fewer observations two blocks of a useful size cannot be made, and a reference is refused."""

SMALLEST_SHARE: Final = 5
"""A block holds at least this many of the gaps between reference observations."""


class NumberBlocks(Struct, frozen=True, kw_only=True, tag=True):
    """Intervals of the line between order statistics of a reference; made by :meth:`fit`.

    Block k holds the numbers after cut k - 1 up to cut k. A cut is an observation of the reference together
    with its jitter, so equal numbers are split as a coin would: a reference that is constant or full of
    ties has blocks with exact chances too.

    Parameters
    ----------
    cuts, cut_jitters
        The cuts in order, and their jitters.
    shares
        How many of the gaps between reference observations lie in each block; one more than `cuts`. Their
        sum is the size of the reference plus 1.
    """

    cuts: tuple[float, ...]
    cut_jitters: tuple[float, ...]
    shares: tuple[int, ...]

    @classmethod
    def fit(cls, values: Sequence[float] | NDArray[np.float64], *, blocks: int = 8, seed: int = 0) -> Self:
        """Return blocks of (nearly) equal chances.

        Parameters
        ----------
        values
            The reference: at least 20 finite numbers.
        blocks
            How many blocks are wanted, at least 2. A small reference gets fewer: each holds at least 5 gaps.
        seed
            Of the jitter of the reference.

        Raises
        ------
        ValueError
            For a reference that is too small or holds a number that is not finite.

        Examples
        --------
        >>> NumberBlocks.fit([float(i) for i in range(99)], blocks=4).shares
        (25, 25, 25, 25)
        >>> NumberBlocks.fit([0.0] * 30).shares
        (5, 5, 5, 5, 5, 6)
        """
        if blocks < 2:
            raise ValueError(f"blocks must be at least 2, got {blocks}")
        gaps = len(values) + 1
        count = max(2, min(blocks, gaps // SMALLEST_SHARE))
        return cls.at_ranks(values, [gaps * k // count for k in range(1, count)], seed=seed)

    @classmethod
    def at_ranks(
        cls, values: Sequence[float] | NDArray[np.float64], ranks: Sequence[int], *, seed: int = 0
    ) -> Self:
        """Return blocks cut at the given ranks (from 1, increasing) of the reference `values`.

        The ranks must not depend on `values` other than on how many there are.

        Raises
        ------
        ValueError
            As :meth:`fit`, and for ranks that do not increase within 1 ... len(values).
        """
        reference = np.asarray(values, dtype=np.float64)
        if reference.ndim != 1 or len(reference) < SMALLEST_REFERENCE:
            raise ValueError(f"a reference needs at least {SMALLEST_REFERENCE} numbers")
        if not np.isfinite(reference).all():
            raise ValueError("the reference holds a number that is not finite")
        edges = [0, *ranks, len(reference) + 1]
        if any(after <= before for before, after in pairwise(edges)):
            raise ValueError("ranks must increase within 1 ... len(values)")
        noise = jitters(seed, len(reference))
        order = np.lexsort((noise, reference))[np.array(ranks, dtype=np.intp) - 1]
        return cls(
            cuts=tuple(reference[order].tolist()),
            cut_jitters=tuple(noise[order].tolist()),
            shares=tuple(after - before for before, after in pairwise(edges)),
        )

    def locate(self, x: object, jitter: float) -> int:
        """Return the block of `x`, whose ties with cuts `jitter`, uniform on [0, 1), decides.

        Raises
        ------
        ValueError
            If `x` is not a finite number; a bool is not one. The text names the type only.
        """
        if type(x) is not float:
            x = _number(x)
        if not -math.inf < x < math.inf:
            raise ValueError("not a finite number")
        cuts = self.cuts
        block = bisect_left(cuts, x)
        while block < len(cuts) and cuts[block] == x and self.cut_jitters[block] < jitter:
            block += 1
        return block


def _number(x: object) -> float:
    if not isinstance(x, bool) and isinstance(x, Real):
        try:
            return float(x)
        except OverflowError:  # an integer of 400 digits
            return math.inf
    raise ValueError(f"not a number: a {type(x).__name__}")
