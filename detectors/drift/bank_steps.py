"""The sums of many bets, carried through some observations at a time; every step is kept to be looked at."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SUMS, LIFE, RUNS = range(3)

_AHEAD: Final = 16
_NUMBERS: Final = 16_384  # more would not stay in the cache
_LINE: Final = 64  # bytes of a cache line


class Steps:
    """Room for some observations of the bets of a block, shape (sides, bets, streams).

    What is done step by step is three calls of NumPy; what can be done for all steps at once is left to
    whoever looks at :attr:`kept`.

    Parameters
    ----------
    weight
        Of every bet.

    Attributes
    ----------
    ahead
        How many observations there is room for, 1 to 16: fewer, the more bets there are.
    kept
        Shape (ahead + 1, 3, sides, bets, streams): sums, lives and runs before the first observation, and
        after each.
    factors
        Shape (ahead, sides, bets, streams): what every bet is multiplied with, to be filled in.
    """

    def __init__(self, weight: Floats) -> None:
        self.ahead = ahead = min(_AHEAD, max(1, _NUMBERS // max(1, weight.size)))
        self.kept = aligned_zeros((ahead + 1, 3, *weight.shape))
        self.factors = aligned_zeros((ahead, *weight.shape))
        added = aligned_zeros((ahead, 2, *weight.shape))
        added[:, 0] = weight
        self._late, self._caps = added[:, 1], aligned_zeros((ahead, *weight.shape))
        # Flat: a call of NumPy is over sooner where it finds one row of numbers.
        kept, put = self.kept.reshape(ahead + 1, 3, -1), added.reshape(ahead, 2, -1)
        self._rows = [
            (kept[at, :RUNS], put[at], kept[at + 1, :RUNS], kept[at, RUNS], kept[at + 1, RUNS], kept[at + 1])
            for at in range(ahead)
        ]
        self._factors, self._flat_caps = list(self.factors.reshape(ahead, -1)), self._caps.reshape(ahead, -1)

    def take(self, late: Floats, caps: Floats | None = None) -> None:
        """Take the observations whose factors are filled in; `late`, by step and stream, joins the lives.

        A number is what it would be after each operation alone, to the last bit. After each step it is at
        most what `caps` says of step and stream.
        """
        self._late[: len(late)] = late[:, None, None]
        if caps is not None:
            self._caps[: len(late)] = caps[:, None, None]
        for step, (row, factor) in enumerate(zip(self._rows[: len(late)], self._factors, strict=False)):
            before, put, after, runs, runs_after, all_after = row
            np.add(before, put, out=after)
            np.maximum(runs, 1.0, out=runs_after)  # a run of at most 1 starts again
            np.multiply(all_after, factor, out=all_after)
            if caps is not None:
                np.minimum(all_after, self._flat_caps[step], out=all_after)


def aligned_zeros(shape: tuple[int, ...]) -> Floats:
    """Return zeros that start at a cache line: sums over them take a fifth less time."""
    raw = np.zeros(8 * math.prod(shape) + _LINE, dtype=np.uint8)
    start = -raw.ctypes.data % _LINE
    aligned: Floats = raw[start : start + 8 * math.prod(shape)].view(np.float64).reshape(shape)
    return aligned
