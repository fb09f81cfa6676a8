"""Repeatable uniform numbers that break ties between equal observations."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_MASK: Final = (1 << 64) - 1
_STEP: Final = 0x9E3779B97F4A7C15
_UNIT: Final = 2.0**-53


def jitter(seed: int, index: int) -> float:
    """Return number `index` (>= 0) of the stream called `seed`, in [0, 1).

    A function of its two arguments: nothing needs to be saved to draw the same ones again. SplitMix64
    (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA).

    Examples
    --------
    >>> jitter(7, 0) == jitter(7, 0), jitter(7, 0) == jitter(7, 1)
    (True, False)
    """
    z = (seed * 0xD1342543DE82EF95 + (index + 1) * _STEP) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((z ^ (z >> 31)) >> 11) * _UNIT


def jitters(seed: int, count: int) -> NDArray[np.float64]:
    """Return the first `count` numbers of the stream called `seed`."""
    return np.array([jitter(seed, index) for index in range(count)], dtype=np.float64)
