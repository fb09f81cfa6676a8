"""When and how a world changes: the truth that a detector is judged by."""

from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Kind = Literal["none", "abrupt", "ramp", "shape"]


class Change(Struct, frozen=True, kw_only=True):
    """The truth about one stream.

    Parameters
    ----------
    kind
        ``abrupt``: everything from unit `at` on is changed. ``ramp``: the change grows evenly over `over`
        units. ``shape``: abrupt, the mean stays. ``none``: there is no change.
    at
        Index of the first changed unit.
    over
        Units that a ramp takes.

    Examples
    --------
    >>> Change(kind="ramp", at=2, over=4).progress(0, 8).tolist()
    [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """

    kind: Kind = "none"
    at: int = 0
    over: int = 1

    def __post_init__(self) -> None:
        if self.at < 0 or self.over < 1:
            raise ValueError(f"need at >= 0 and over >= 1, got {self.at} and {self.over}")

    def progress(self, start: int, length: int) -> NDArray[np.float64]:
        """Return how much of the change is there at the units ``start .. start + length - 1``, in [0, 1]."""
        if self.kind == "none":
            return np.zeros(length)
        over = self.over if self.kind == "ramp" else 1
        return np.clip((np.arange(start, start + length) - self.at + 1) / over, 0.0, 1.0)


def generator(seed: int, *purposes: int) -> np.random.Generator:
    """Return the random numbers of one purpose of one seed; other purposes are independent of it.

    Examples
    --------
    >>> generator(10_000, 1).random() == generator(10_000, 1).random()
    True
    """
    return np.random.default_rng([seed, *purposes])
