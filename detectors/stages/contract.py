"""What a stage is, for every runner."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from detectors.records.codec import Record

STATE_VERSION = 4
_COUNTS = "counts"


class Delivery(Struct, frozen=True, gc=False):
    """One record as it came off the log: its place, then itself."""

    partition: int
    offset: int
    record: Record


class Output(Struct, frozen=True, kw_only=True):
    """One record to append: by `key`, or to one named `partition`."""

    topic: str
    record: Record
    key: str = ""
    partition: int | None = None


class ForeignStateError(ValueError):
    """State written by another version of the code; the text says what to do."""


class StageState:
    """The state of one partition: small keyed blobs, of which only the changed ones are written.

    Live objects stay in memory; :meth:`put` and :meth:`drop` record what changed, and :meth:`take_changes`
    hands the changes to the runner, once.

    Examples
    --------
    >>> state = StageState({})
    >>> state.put("watermark", 7)
    >>> changes = state.take_changes()
    >>> StageState(changes).get("watermark")
    7
    >>> state.take_changes()
    {}
    """

    def __init__(self, stored: Mapping[str, bytes]) -> None:
        self._values: dict[str, Any] = {key: _unpack(key, blob) for key, blob in stored.items()}
        self._changed: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value under `key`."""
        return self._values.get(key, default)

    def put(self, key: str, value: Any) -> None:
        """Set `key` to `value`: lists, dicts, strings, numbers and None, or records that are packed so."""
        self._values[key] = value
        self._changed.add(key)

    def drop(self, key: str) -> None:
        """Forget `key`."""
        if key in self._values:
            del self._values[key]
            self._changed.add(key)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted."""
        return sorted(key for key in self._values if key.startswith(prefix))

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """What was counted instead of carried on: number by kind (``late``) and deployment."""
        counted: dict[str, dict[str, int]] = self.get(_COUNTS, {})
        return counted

    def count(self, kind: str, deployment: str, by: int = 1) -> None:
        """Add `by` to the count of `kind`."""
        # The table is replaced as a whole, so that another thread may read it meanwhile.
        of_kind = self.counts.get(kind, {})
        self.put(_COUNTS, {**self.counts, kind: {**of_kind, deployment: of_kind.get(deployment, 0) + by}})

    def take_changes(self) -> dict[str, bytes | None]:
        """Return what changed since the last call, packed; None marks a dropped key."""
        changes = {
            key: msgspec.msgpack.encode([STATE_VERSION, self._values[key]]) if key in self._values else None
            for key in sorted(self._changed)
        }
        self._changed.clear()
        return changes


class Stage(Protocol):
    """What a runner needs to know of a stage."""

    name: str
    source: str

    def restore(self, partition: int, stored: Mapping[str, bytes]) -> Any:
        """Return the live state of `partition` from its stored blobs (empty for a new partition)."""
        ...

    def step(self, state: Any, batch: Sequence[Delivery]) -> tuple[Any, list[Output]]:
        """Return the state after `batch` and what it brought forth, in order."""
        ...

    def changes(self, state: Any) -> dict[str, bytes | None]:
        """Return the blobs that changed since the last call; None means delete."""
        ...


def _unpack(key: str, blob: bytes | None) -> Any:
    if blob is None:
        raise ForeignStateError(f"state {key!r} has no value")
    version, value = msgspec.msgpack.decode(blob)
    if version != STATE_VERSION:
        raise ForeignStateError(
            f"state {key!r} is of version {version}, this code writes {STATE_VERSION}: "
            "run the version that wrote it, or start with a new data directory"
        )
    return value
