"""Count, mean and variance of values in [0, 1], kept in three numbers."""

import numpy as np
from numpy.typing import ArrayLike

from detectors.stages.exact_sums import exact_sum


class Moments:
    """Running count, sum and sum of squares.

    Values are in [0, 1], so the textbook sums lose no more than a few units in the last place here.

    Examples
    --------
    >>> moments = Moments()
    >>> moments.add([0.0, 1.0, 1.0, 0.0])
    >>> moments.n, moments.mean, moments.variance
    (4, 0.5, 0.3333333333333333)
    """

    __slots__ = ("n", "square_sum", "total")

    def __init__(self, n: int = 0, total: float = 0.0, square_sum: float = 0.0) -> None:
        self.n, self.total, self.square_sum = n, total, square_sum

    def add(self, values: ArrayLike) -> None:
        """Take in `values`: each group is summed exactly and rounded once."""
        array = np.asarray(values, dtype=np.float64)
        self.n += len(array)
        self.total += exact_sum(array)
        self.square_sum += exact_sum(array * array)

    @property
    def mean(self) -> float | None:
        """The mean, None without values."""
        return self.total / self.n if self.n else None

    @property
    def variance(self) -> float:
        """The unbiased variance, 0 for fewer than two values."""
        if self.n < 2:
            return 0.0
        return max(0.0, (self.square_sum - self.total * self.total / self.n) / (self.n - 1))

    def to_state(self) -> list[float]:
        """Return the three numbers."""
        return [self.n, self.total, self.square_sum]

    @classmethod
    def from_state(cls, state: list[float]) -> "Moments":
        """Return the moments that `to_state` described."""
        return cls(int(state[0]), state[1], state[2])
