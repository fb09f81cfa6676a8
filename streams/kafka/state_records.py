"""The state of one partition as records of a compacted topic. Pure.

A blob stands under its name, in chunks where it is large; beside all blobs stands one position, which every
transaction writes anew. A log that is read to its end, keeping the last value under every key, is the state.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

CHUNK_BYTES: Final = 262_144
FORMAT: Final = 1
_POSITION_KEY: Final = b"position"
_COUNT_BYTES: Final = 4


class StateFormatError(ValueError):
    """Records that are no state of this format; the text says why."""


class Position(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a stage is in one partition of its source, and what it keeps beside its own state.

    Parameters
    ----------
    place
        Of the next record.
    fences
        The last envelope taken of every origin, as ``[place, part]`` by ``stage/topic/partition``.
    flood
        The gauge of bad records, as plain lists.
    paged
        The place at which a flood was paged; below every place if none was.
    topic_id
        Of the source, as the cluster gave it when the topic was made; empty where it was not known.
    taken, repeated, buried
        Records taken, envelopes that a fence kept out, and dead letters written, since the beginning.
    """

    place: int
    fences: dict[str, tuple[int, int]] = {}
    flood: list[Any] = []
    paged: int = -1
    taken: int = 0
    repeated: int = 0
    buried: int = 0
    topic_id: str = ""
    format: int = FORMAT


_DECODER: Final = msgspec.json.Decoder(Position)
Row = tuple[bytes, bytes | None]
"""Key and value of a record of the state topic; None removes the key."""


def position_row(position: Position, prefix: str = "") -> Row:
    """Return the record of a position."""
    return prefix.encode() + _POSITION_KEY, msgspec.json.encode(position)


def blob_key(name: str, chunk: int = 0, prefix: str = "") -> bytes:
    """Return the key under which chunk number `chunk` of a blob stands.

    Examples
    --------
    >>> blob_key("watermark")
    b'blob/0/watermark'
    """
    return f"{prefix}blob/{chunk}/{name}".encode("utf-8", "surrogatepass")


def read_blob(value: bytes) -> bytes:
    """Return the beginning of a blob from the record of its first chunk; all of it, if it is not large."""
    return value[_COUNT_BYTES:]


def read_position(value: bytes) -> Position:
    """Return the position that a record holds.

    Raises
    ------
    StateFormatError
        If it holds something else, or another format.
    """
    try:
        position = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StateFormatError(f"a position that cannot be read ({type(error).__name__})") from error
    if position.format != FORMAT:
        raise StateFormatError(f"state of format {position.format}, this code reads {FORMAT}")
    return position


def is_position(key: bytes, prefix: str = "") -> bool:
    """Return whether `key` is that of a position."""
    return key == prefix.encode() + _POSITION_KEY


class StateRecords:
    """Translates between the blobs of a partition and the records of its state topic.

    Parameters
    ----------
    rows
        What was read of the state topic, by key; records with another prefix are passed by.
    prefix
        Of every key, where partitions of several sources share one of the state topic.

    Attributes
    ----------
    position
        What stood in `rows`, None if nothing did.
    blobs
        The blobs that stood in `rows`, by name.

    Raises
    ------
    StateFormatError
        If the records are not complete, or of another format.

    Examples
    --------
    >>> records = StateRecords({})
    >>> rows = dict(records.rows({"a": b"1"}, Position(place=7)))
    >>> again = StateRecords(rows)
    >>> again.blobs, again.position.place
    ({'a': b'1'}, 7)
    """

    def __init__(self, rows: Mapping[bytes, bytes], prefix: str = "") -> None:
        self._prefix = prefix
        self._large: dict[str, int] = {}  # number of chunks, of blobs with more than one
        start = f"{prefix}blob/0/".encode()
        held = rows.get(prefix.encode() + _POSITION_KEY)
        self.position = None if held is None else read_position(held)
        self.blobs: dict[str, bytes] = {}
        for key, value in rows.items():
            if key.startswith(start):
                name = key[len(start) :].decode("utf-8", "surrogatepass")
                self.blobs[name] = self._join(name, value, rows)
        if self.blobs and self.position is None:
            raise StateFormatError("state without a position")

    def _join(self, name: str, first: bytes, rows: Mapping[bytes, bytes]) -> bytes:
        count = int.from_bytes(first[:_COUNT_BYTES], "big")
        if count == 1:
            return read_blob(first)
        more = [rows.get(blob_key(name, chunk, self._prefix)) for chunk in range(1, count)]
        if count < 1 or None in more:
            raise StateFormatError("a large blob of which parts are missing")
        self._large[name] = count
        return read_blob(first) + b"".join(part for part in more if part is not None)

    def rows(self, changes: Mapping[str, bytes | None], position: Position) -> Iterator[Row]:
        """Yield the records that make `changes`, then the position; their order does not matter.

        The records are of one transaction, so that the chunks of a blob come into being together.
        """
        for name, blob in changes.items():
            before, count = self._large.pop(name, 1), 0
            if blob is not None:
                count = max(1, -(-len(blob) // CHUNK_BYTES))
                for chunk in range(count):
                    part = blob[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES]
                    head = b"" if chunk else count.to_bytes(_COUNT_BYTES, "big")
                    yield blob_key(name, chunk, self._prefix), head + part
            if count > 1:
                self._large[name] = count
            for chunk in range(count, before):
                yield blob_key(name, chunk, self._prefix), None
        yield position_row(position, self._prefix)
