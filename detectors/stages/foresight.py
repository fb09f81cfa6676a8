"""What a close will most likely feed to its reference streams, fed to copies of their detectors before."""

from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.drift.betting_sr import BettingSR
from detectors.drift.betting_state import BettingState
from detectors.drift.feeding import LEAST_COLUMN, feed_columns
from detectors.stages.reference_stream import ReferenceStream

Fed = tuple[BettingSR, int]
"""A detector after its column, and from which of its values on it had alarmed before."""

_Expected = tuple[ReferenceStream, NDArray[np.float64]]


class _Copy(Struct, frozen=True):
    """What was fed to a copy of a detector in the state `before`, and what became of it."""

    before: BettingState
    values: NDArray[np.float64]
    fed: Fed


class Foresight:
    """Detectors carried through what is expected; taken up only where exactly that happens.

    The work of a close is its detectors'. Half of the allowed lateness before it nearly all of its units are
    there, and most buckets stay as they are. Nothing is changed by looking ahead, and nothing depends on it:
    where a detector or its column is another one at the close, that one is fed then.

    Parameters
    ----------
    expected
        Streams, and the values that each is expected to take in.
    """

    def __init__(self, expected: Sequence[_Expected]) -> None:
        known = [
            (stream, stream.watch, values)
            for stream, values in expected
            if stream.watch is not None and len(values) >= LEAST_COLUMN
        ]
        self._copies: dict[ReferenceStream, _Copy] = {}
        if len(known) < 2:  # a single one would be carried on itself
            return
        before = [_state_of(watch) for _, watch, _ in known]
        fed = feed_columns([watch for _, watch, _ in known], [values for _, _, values in known])
        for (stream, _, values), was, after in zip(known, before, fed, strict=True):
            self._copies[stream] = _Copy(was, values, after)

    def __len__(self) -> int:
        """Return how many copies are left to be taken up."""
        return len(self._copies)

    def feed(self, given: Sequence[_Expected]) -> list[Fed]:
        """Return the detectors of the streams after their values, as :func:`feed_columns` would.

        Parameters
        ----------
        given
            Streams that have a detector, each once, and what they take in.
        """
        found = [self._take_up(stream, values) for stream, values in given]
        rest = [one for one, fed in zip(given, found, strict=True) if fed is None]
        watches = [stream.watch for stream, _ in rest if stream.watch is not None]
        late = iter(feed_columns(watches, [values for _, values in rest]))
        return [next(late) if fed is None else fed for fed in found]

    def _take_up(self, stream: ReferenceStream, values: NDArray[np.float64]) -> Fed | None:
        copy = self._copies.pop(stream, None)
        if copy is None or stream.watch is None:
            return None
        same = np.array_equal(copy.values, values) and copy.before == _state_of(stream.watch)
        return copy.fed if same else None


def _state_of(watch: BettingSR) -> BettingState:
    return msgspec.convert(watch.to_state(), BettingState)
