"""Bank: thousands of BettingSR at once, with the very numbers that each would have alone."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, Never, Self

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.drift.bank_block import TICKS, BankBlock, Flags, Floats
from detectors.drift.betting_sr import BettingSR
from detectors.drift.betting_state import BettingState
from detectors.drift.saved_state import read_state

_VERSION: Final = 1
_ONE_BITS: Final = int(np.float64(1.0).view(np.uint64))
_BLOCK: Final = 1250  # streams whose numbers stay in the cache together


class BankState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A :class:`Bank` at rest: the states of its detectors, in order."""

    version: int
    streams: list[dict[str, Any]]


class Bank:
    """Runs many :class:`BettingSR` side by side, one observation of each at a time.

    Every number is computed by the same operations in the same order as in a single detector, so statistics,
    alarms, onsets, companions and states are equal to the last bit: a stream can move in and out at any
    time. NumPy does them for up to 1,250 streams at once.

    Parameters
    ----------
    detectors
        The detectors that move in, at least one, with all they have seen; they are read, not changed.

    Notes
    -----
    A stream takes about 1 kB: 14 bets with four numbers that change and three that do not, and some room to
    work. ``update_many`` is faster than ``update``, above all for more than 1,000 streams.

    References
    ----------
    Those of :class:`BettingSR`.

    Examples
    --------
    >>> bank = Bank([BettingSR(mean_low=0.9, mean_high=0.9) for _ in range(3)])
    >>> for i in range(60):
    ...     bank.update([0.9, 0.9, 0.5])
    >>> bank.drift_detected.tolist(), bank.detector(2).began_index
    ([False, False, True], 0)
    """

    def __init__(self, detectors: Sequence[BettingSR]) -> None:
        if not detectors:
            raise ValueError("a bank needs at least one detector")
        states = [msgspec.convert(detector.to_state(), BettingState) for detector in detectors]
        count = -(-len(states) // _BLOCK)
        self._edges = [len(states) * block // count for block in range(count + 1)]
        self._blocks = [BankBlock(states[first:last]) for first, last in self._spans()]

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the bank that `state` was taken from; its future is the same to the last bit.

        Raises
        ------
        ValueError
            If `state`, or that of a detector in it, is of another version or has the wrong shape.
        """
        read = read_state(state, BankState, of="Bank", version=_VERSION)
        return cls([BettingSR.from_state(stream) for stream in read.streams])

    def to_state(self) -> dict[str, Any]:
        """Return the states of all detectors as JSON-able built-ins."""
        streams = [self.detector(stream).to_state() for stream in range(len(self))]
        return {"version": _VERSION, "streams": streams}

    def detector(self, stream: int) -> BettingSR:
        """Return a copy of the detector of `stream` (from 0), as it stands; IndexError beyond the last."""
        for block, (first, last) in zip(self._blocks, self._spans(), strict=True):
            if first <= stream < last:
                return BettingSR.from_state(msgspec.to_builtins(block.state(stream - first)))
        raise IndexError(f"no stream {stream} among {len(self)}")

    def update(self, x: object) -> None:
        """Take the next observation of every stream, shape (streams,); ValueError as `update_many`."""
        self.update_many(np.asarray(x)[None])

    def update_many(self, x: object) -> None:
        """Take several observations of every stream, shape (observations, streams), the earliest first.

        Raises
        ------
        ValueError
            For another shape or type, and if an observation is not a finite number in [0, 1]. Then none is
            taken, and each stream with such a number has one more ``refused``. The text holds no values.
        """
        rows = np.asarray(x)
        if rows.dtype.kind not in "fiu" or rows.ndim != 2 or rows.shape[1] != len(self):
            raise ValueError(f"need numbers of shape (n, {len(self)}), got {rows.dtype.name} {rows.shape}")
        rows = rows.astype(np.float64, copy=False)
        # Numbers in [0, 1] but for -0.0, and no others, have bits up to those of 1: one fast pass tells.
        if rows.size and rows.view(np.uint64).max() > _ONE_BITS:
            # NaN fails every comparison.
            bad: Flags = np.asarray(~((rows >= 0.0) & (rows <= 1.0)).all(axis=0))
            if bad.any():
                self._refuse(bad)
        for block, (first, last) in zip(self._blocks, self._spans(), strict=True):
            for start in range(0, len(rows), TICKS):
                block.run(rows[start : start + TICKS, first:last])

    def reset(self, streams: Sequence[int] | NDArray[np.intp] | Flags) -> None:
        """Reset the detectors of `streams`, indices or flags, as their own ``reset`` does."""
        chosen = np.zeros(len(self), dtype=bool)
        chosen[streams] = True
        for block, (first, last) in zip(self._blocks, self._spans(), strict=True):
            block.reset(chosen[first:last])

    def __len__(self) -> int:
        return self._edges[-1]

    @property
    def drift_detected(self) -> Flags:
        """Which streams have alarmed since their last reset, shape (streams,)."""
        return np.concatenate([block.detected for block in self._blocks])

    @property
    def warning_detected(self) -> Flags:
        """Which streams are at a tenth of their threshold now."""
        return np.concatenate([block.warning for block in self._blocks])

    @property
    def evidence(self) -> Floats:
        """log10 of every statistic; 0 while it is below 1."""
        return np.array([evidence for block in self._blocks for evidence in block.evidence()])

    @property
    def refused(self) -> NDArray[np.int64]:
        """Observations refused, per stream."""
        return np.concatenate([block.refused for block in self._blocks])

    @property
    def n(self) -> NDArray[np.int64]:
        """Observations taken since the start or the last reset, per stream."""
        return np.concatenate([block.n for block in self._blocks])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays of all streams, room to work included."""
        return sum(block.nbytes for block in self._blocks)

    def _refuse(self, bad: Flags) -> Never:
        """Count a refusal for each stream in `bad`, and raise."""
        for block, (first, last) in zip(self._blocks, self._spans(), strict=True):
            block.refused += bad[first:last]
        raise ValueError(f"not a finite number in [0, 1] in {np.count_nonzero(bad)} streams")

    def _spans(self) -> list[tuple[int, int]]:
        return list(pairwise(self._edges))
