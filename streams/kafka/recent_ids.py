"""Which ids were seen lately in one partition: bounded, and cheap to keep in the state of a stage.

An id and the content it came with are 64-bit hashes. Every batch appends a small piece to the state; pieces
that fill a chunk are written once more as one, sorted, and are then never touched again. At the bound the
oldest chunk goes, and what it held is counted: such an id would be taken for a new one.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors.stages import StageState

SHED: Final = "ids_shed"
"""The count of ids that were forgotten at the bound."""

_CHUNK_IDS: Final = 8_192  # 131 kB in the state
_CHUNKS: Final = 16
_PREFIX: Final = "ids/"
_Hashes = NDArray[np.uint64]


class RecentIds:
    """The ids of one partition, inside the state of its stage.

    Two ids of one hash would be taken for one with other content: with 200,000 ids kept, once in 10^14
    arrivals.

    Parameters
    ----------
    state
        Where they are kept; changes are recorded in it.
    limit
        Most ids to remember; once more were seen, between this and an eighth less are.

    Examples
    --------
    >>> ids = RecentIds(StageState({}), limit=100)
    >>> ids.add([7], [1])
    >>> ids.find([7, 8])
    {7: 1}
    """

    def __init__(self, state: StageState, *, limit: int) -> None:
        self._state = state
        self._limit = limit
        self._chunk_ids = max(1, min(_CHUNK_IDS, limit // _CHUNKS))
        self._sealed: dict[int, tuple[_Hashes, _Hashes]] = {}
        self._open: dict[int, int] = {}
        self._pieces = 0
        for key in state.keys(_PREFIX):
            hashes = _halves(state.get(key))
            if "/" not in key.removeprefix(_PREFIX):
                self._sealed[int(key.removeprefix(_PREFIX))] = hashes
            else:
                self._open.update(zip(hashes[0].tolist(), hashes[1].tolist(), strict=True))
                self._pieces += 1
        self._number = int(state.get("ids_chunk", 0))

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._open) + sum(len(ids) for ids, _ in self._sealed.values())

    def find(self, ids: Sequence[int]) -> dict[int, int]:
        """Return the content hash of each of `ids` that was seen, by id."""
        found = {one: self._open[one] for one in ids if one in self._open}
        wanted = np.array(sorted(set(ids) - found.keys()), dtype=np.uint64)
        for known, contents in self._sealed.values():
            at = np.searchsorted(known, wanted)
            at[at == len(known)] = 0
            hits = known[at] == wanted
            found.update(zip(wanted[hits].tolist(), contents[at[hits]].tolist(), strict=True))
        return found

    def add(self, ids: Sequence[int], contents: Sequence[int]) -> None:
        """Remember `ids`, none of which is known, with the hashes of their contents."""
        for start in range(0, len(ids), self._chunk_ids):
            part = slice(start, start + self._chunk_ids)
            self._append(ids[part], contents[part])

    def _append(self, ids: Sequence[int], contents: Sequence[int]) -> None:
        self._open.update(zip(ids, contents, strict=True))
        if len(self._open) < self._chunk_ids:
            self._state.put(f"{_PREFIX}{self._number:010d}/{self._pieces:06d}", _blob(ids, contents))
            self._pieces += 1
            self._shed()
            return
        for piece in range(self._pieces):
            self._state.drop(f"{_PREFIX}{self._number:010d}/{piece:06d}")
        known = sorted(self._open)
        blob = _blob(known, [self._open[one] for one in known])
        self._state.put(f"{_PREFIX}{self._number:010d}", blob)
        self._sealed[self._number] = _halves(blob)
        self._open, self._pieces, self._number = {}, 0, self._number + 1
        self._state.put("ids_chunk", self._number)
        self._shed()

    def _shed(self) -> None:
        while len(self) > self._limit:
            oldest = min(self._sealed)
            self._state.count(SHED, "", len(self._sealed.pop(oldest)[0]))
            self._state.drop(f"{_PREFIX}{oldest:010d}")


def _blob(ids: Sequence[int], contents: Sequence[int]) -> bytes:
    return np.array([*ids, *contents], dtype="<u8").tobytes()


def _halves(blob: Any) -> tuple[_Hashes, _Hashes]:
    numbers = np.frombuffer(blob, dtype="<u8")
    middle = len(numbers) // 2
    return numbers[:middle], numbers[middle:]
