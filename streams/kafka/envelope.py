"""One Kafka record for many of ours: envelopes, and the places of records within them. Pure.

A stage writes what one batch brought forth for one partition as few Kafka records, because Kafka's cost is
per record. The value is text, two lines for every run of records of one kind: the kind, and their JSON array.
Compact JSON never holds a line break, so that the lines need no parser; it is what the journal holds.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
from msgspec import Struct

from detectors.records.codec import TYPES, Record, encode

PLACE_STEP: Final = 65_536
"""How many places one Kafka record has; no envelope holds more records."""
FORMAT_HEADER: Final = "plumbline-format"
FORMAT: Final = b"envelope-1"
ORIGIN_HEADER: Final = "plumbline-origin"

_LIMIT: Final = 262_144
_DECODERS: Final = {name: msgspec.json.Decoder(list[kind]) for name, kind in TYPES.items()}  # type: ignore[valid-type]
_KINDS: Final = {kind: name.encode() for name, kind in TYPES.items()}


class EnvelopeError(ValueError):
    """A Kafka record that is not an envelope of this format; the text says why, and holds none of it."""


class Origin(Struct, frozen=True, array_like=True):
    """What brought an envelope forth: a stage, from its input up to `place`, as `part` of several.

    Later envelopes of one stage, topic and partition have a higher (`place`, `part`), so that a reader who
    keeps the highest knows a repetition.
    """

    stage: str
    topic: str
    partition: int
    place: int
    part: int = 0


_ORIGIN_DECODER: Final = msgspec.json.Decoder(Origin)


class Sealed(Struct, frozen=True):
    """An envelope as Kafka carries it."""

    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class RawMessage(Struct, frozen=True):
    """One Kafka record as it came; its key, value and headers may hold anything, and are not in its repr."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Name the place only: `rich` prints every field of a struct otherwise."""
        return [("topic", self.topic), ("partition", self.partition), ("offset", self.offset)]

    def __repr__(self) -> str:
        """Return the place of the record."""
        return f"RawMessage({self.topic}/{self.partition}@{self.offset})"


def place_of(offset: int, index: int = 0) -> int:
    """Return the place of record `index` in the Kafka record at `offset`.

    Examples
    --------
    >>> place_of(2, 5)
    131077
    """
    return offset * PLACE_STEP + index


def split_place(place: int) -> tuple[int, int]:
    """Return Kafka offset and index of `place`.

    Examples
    --------
    >>> split_place(131077)
    (2, 5)
    """
    return divmod(place, PLACE_STEP)


def seal(records: Sequence[Record], origin: Origin | None, *, limit: int = _LIMIT) -> list[Sealed]:
    r"""Return `records` as envelopes, in order; each has at most `limit` bytes, or one record.

    Parameters
    ----------
    records
        What one batch brought forth for one partition of one topic.
    origin
        Of the batch; its ``part`` is the number of the first envelope. None: nobody can tell a repetition.

    Examples
    --------
    >>> from detectors.records import Tick
    >>> [envelope] = seal([Tick(0, 7), Tick(0, 8)], Origin("score", "interactions", 0, 4))
    >>> envelope.value
    b'Tick\n[{"source_partition":0,"watermark_ms":7},{"source_partition":0,"watermark_ms":8}]'
    """
    sealed = []
    for part, rows in enumerate(_cut(records, limit)):
        headers: tuple[tuple[str, bytes], ...] = ((FORMAT_HEADER, FORMAT),)
        if origin is not None:
            at = msgspec.structs.replace(origin, part=origin.part + part)
            headers += ((ORIGIN_HEADER, msgspec.json.encode(at)),)
        sealed.append(Sealed(_join(rows), headers))
    return sealed


def _cut(records: Sequence[Record], limit: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """Yield rows of kind and JSON, as many as one envelope holds."""
    rows: list[tuple[bytes, bytes]] = []
    size, last = 0, b""
    for record in records:
        kind, payload = _KINDS[type(record)], encode(record)
        cost = len(payload) + 1 + (len(kind) + 3 if kind != last else 0)
        if rows and (size + cost > limit or len(rows) == PLACE_STEP):
            yield rows
            rows, size = [], 0
            cost = len(payload) + len(kind) + 4
        rows.append((kind, payload))
        size, last = size + cost, kind
    if rows:
        yield rows


def _join(rows: Sequence[tuple[bytes, bytes]]) -> bytes:
    lines = []
    for kind, run in groupby(rows, key=lambda row: row[0]):
        lines += [kind, b"[" + b",".join([payload for _, payload in run]) + b"]"]
    return b"\n".join(lines)


def unseal(value: bytes, headers: Sequence[tuple[str, bytes]]) -> tuple[Origin | None, list[Record]]:
    """Return origin and records of an envelope.

    Raises
    ------
    EnvelopeError
        If it is of another format, or not one.
    """
    return read_origin(headers), read_records(value)


def read_origin(headers: Sequence[tuple[str, bytes]]) -> Origin | None:
    """Return the origin of an envelope, None if it has none.

    Raises
    ------
    EnvelopeError
        If the headers are not those of an envelope of this format.
    """
    named = dict(headers)
    if named.get(FORMAT_HEADER) != FORMAT:
        what = "without a format" if FORMAT_HEADER not in named else "of another format"
        raise EnvelopeError(f"a Kafka record {what}; this code reads {FORMAT.decode()}")
    packed = named.get(ORIGIN_HEADER)
    if packed is None:
        return None
    try:
        return _ORIGIN_DECODER.decode(packed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EnvelopeError(f"the origin of an envelope cannot be read ({type(error).__name__})") from error


def read_records(value: bytes) -> list[Record]:
    """Return the records of an envelope, in order.

    Raises
    ------
    EnvelopeError
        If `value` is not what :func:`seal` writes.
    """
    lines = value.split(b"\n")
    if len(lines) % 2:
        raise EnvelopeError("an envelope that was cut: the last kind has no records")
    records: list[Record] = []
    for kind, payload in zip(lines[::2], lines[1::2], strict=True):
        decoder = _DECODERS.get(kind.decode("ascii", "replace"))
        if decoder is None:
            raise EnvelopeError(f"an envelope with records of an unknown kind; known: {', '.join(_DECODERS)}")
        try:
            records += decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise EnvelopeError(f"an envelope whose {kind.decode()} cannot be read: {error}") from error
    if not 0 < len(records) <= PLACE_STEP:
        raise EnvelopeError(f"an envelope with {len(records)} records; there are 1 to {PLACE_STEP}")
    return records
