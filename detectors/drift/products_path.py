"""Products of betting factors for many units at once, in the order and so to the bit of one by one."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

LEAST_UNITS: Final = 24
"""Fewer are sooner taken one by one than moved into arrays."""


def multiply_on(products: Sequence[float], factors: Numbers, cap: float = math.inf) -> Numbers:
    """Return `products` after each unit, one row a unit, given its factors; they are cut to `cap` after each.

    Examples
    --------
    >>> multiply_on([1.0, 2.0], np.array([[1.5, 1.0], [2.0, 0.5]])).tolist()
    [[1.5, 2.0], [3.0, 1.0]]
    """
    with np.errstate(over="ignore"):  # beyond where products are cut
        path: Numbers = np.multiply.accumulate(np.vstack([np.asarray(products), factors]), axis=0)[1:]
    if path.max(initial=0.0) > cap:
        before = np.asarray(products)
        for factor, after in zip(factors, path, strict=True):
            np.minimum(np.multiply(before, factor, out=after), cap, out=after)
            before = after
    return path


def add_across(path: Numbers) -> Numbers:
    """Return the sum of each row, added up from the left: numpy adds in another order, and rounds otherwise.

    Examples
    --------
    >>> add_across(np.array([[1.5, 2.0], [3.0, 1.0]])).tolist()
    [3.5, 4.0]
    """
    total = np.zeros(len(path))
    for column in path.T:
        total = total + column
    return total


def add_on(start: float, values: Numbers) -> float:
    """Return `start` with `values` added one after the other.

    Examples
    --------
    >>> add_on(0.1, np.array([0.2, 0.3])) == 0.1 + 0.2 + 0.3
    True
    """
    return float(np.add.accumulate(np.concatenate(([start], values)))[-1])


def count_until(stops: NDArray[np.bool_]) -> int:
    """Return how many come before the first that is true.

    Examples
    --------
    >>> count_until(np.array([False, True])), count_until(np.array([False]))
    (1, 1)
    """
    return int(stops.argmax()) if stops.any() else len(stops)
