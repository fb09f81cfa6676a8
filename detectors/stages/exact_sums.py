"""Exactly rounded sums of columns."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

_HIGH, _LOW = 2.0**32, 2.0**42
_UNITS: Final = 1 << 74  # of the lowest bit of what is added up as integers
_LEAST: Final = 64  # fewer are sooner added up one by one
_MOST: Final = 1 << 20  # more could overflow


def exact_sum(values: NDArray[np.float64]) -> float:
    """Return what ``math.fsum`` returns for `values` in [0, 1], in a fifth of its time.

    Each value is cut, without an error, into two integers of at most 32 and 42 bits, and integers add up
    exactly. A value with bits below 2**-74, which is 0 < value < 2**-21 if at all, has to be left to fsum.

    Examples
    --------
    >>> exact_sum(np.full(1_000, 0.1)), float(np.full(1_000, 0.1).cumsum()[-1])
    (100.0, 99.9999999999986)
    """
    if not _LEAST <= len(values) <= _MOST:
        return math.fsum(values.tolist())
    scaled = values * _HIGH
    high = np.floor(scaled)
    low = (scaled - high) * _LOW
    whole = np.floor(low)
    total = float(high.sum())  # exact: every partial sum is an integer of at most 52 bits
    if not 0.0 <= total <= len(values) * _HIGH or not (low == whole).all():
        return math.fsum(values.tolist())
    return ((int(total) << 42) + int(whole.astype(np.int64).sum())) / _UNITS
