"""Dead letters: records nobody can use, kept with their original bytes; written, read, and sent again. Pure.

A dead letter keeps key, value and headers of the record and adds headers that begin with ``plumbline-dlq-``.
It holds what a user may have written, so that neither its repr nor any text made here shows its content.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from streams.kafka.envelope import RawMessage
from streams.kafka.layout import dead_letter_name, largest_record_bytes, record_bytes
from streams.settings import KafkaSettings

PREFIX: Final = "plumbline-dlq-"
"""Reserved: a header of the original record that begins so is not kept."""
REDRIVE_COUNT: Final = "plumbline-redrive-count"
FIRST_PLACE: Final = "plumbline-first-place"
"""``topic/partition/offset`` where a record stood first: the id of one that has none is derived from it."""

Headers = tuple[tuple[str, bytes], ...]

# Where others write the origin of their dead letters: topic, partition, offset, timestamp, stage, reason,
# message. Kafka Connect and Kafka Streams write texts; Spring writes numbers as big-endian integers.
_DIALECTS: Final = (
    tuple(
        f"{PREFIX}{n}" for n in ("topic", "partition", "offset", "timestamp", "stage", "reason", "message")
    ),
    tuple(
        f"__connect.errors.{name}"
        for name in ("topic", "partition", "offset", "", "stage", "exception.class.name", "exception.message")
    ),
    tuple(
        f"kafka_dlt-{name}"
        for name in (
            "original-topic",
            "original-partition",
            "original-offset",
            "original-timestamp",
            "original-consumer-group",
            "exception-fqcn",
            "exception-message",
        )
    ),
    tuple(
        f"__streams.errors.{name}"
        for name in ("topic", "partition", "offset", "", "", "exception", "message")
    ),
)
LEFT_BEHIND: Final = "record_too_large"
"""The reason of a dead letter whose record did not fit into its topic: of its content are size and digest."""
_VALUE_BYTES: Final = f"{PREFIX}value-bytes"
_VALUE_DIGEST: Final = f"{PREFIX}value-sha256"
_KEPT_BYTES: Final = 1_024
"""The longest key, and the longest header, that is kept of a record that did not fit."""
_KEPT_HEADERS: Final = 16
_ADDED: Final = (PREFIX, "__connect.errors.", "kafka_dlt-", "__streams.errors.")
_LONGEST_TEXT: Final = 200
_DEFAULT_LIMIT_BYTES: Final = largest_record_bytes(dead_letter_name(""), KafkaSettings())


class NotADeadLetterError(ValueError):
    """A record that does not say where it came from."""


class RawOutput(Struct, frozen=True, kw_only=True):
    """One Kafka record to write as it is, in the transaction of the batch; `topic` is Kafka's name."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    def __repr__(self) -> str:
        """Return where it goes."""
        return f"RawOutput({self.topic}/{self.partition})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Name the place only."""
        return [("topic", self.topic), ("partition", self.partition)]


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A record nobody can use, its origin (Kafka's names) and why.

    ``reason`` is a stable code and ``message`` one line; those of our own stages hold nothing of the record,
    those of other programs may (``is_ours``).
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    stage: str
    reason: str
    message: str = ""
    is_ours: bool = True

    @property
    def first_place(self) -> str:
        """Where the record stood before it was ever sent again, as topic/partition/offset."""
        first = dict(self.headers).get(FIRST_PLACE)
        return first.decode("utf-8", "replace") if first else f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def redrives(self) -> int:
        """How often it was sent again before."""
        return _number(dict(self.headers).get(REDRIVE_COUNT) or b"0", default=0)

    def __repr__(self) -> str:
        """Return its origin and reason."""
        return f"DeadLetter({self.topic}/{self.partition}@{self.offset}: {self.reason})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Name origin and reason only."""
        return [("topic", self.topic), ("partition", self.partition), ("offset", self.offset)]


class DeadLetterOutput(Struct, frozen=True):
    """What a stage emits, among its outputs, for a record it cannot use."""

    letter: DeadLetter


def bury(message: RawMessage, *, stage: str, reason: str, text: str = "") -> DeadLetterOutput:
    """Return the dead letter of `message`.

    Parameters
    ----------
    message
        The record as it came.
    stage, reason, text
        Who cannot use it, a stable code, and one line that holds nothing of the record.
    """
    return DeadLetterOutput(
        DeadLetter(
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            timestamp_ms=message.timestamp_ms,
            key=message.key,
            value=message.value,
            headers=message.headers,
            stage=stage,
            reason=reason,
            message=text,
        )
    )


def dead_letter_headers(letter: DeadLetter) -> Headers:
    """Return the headers of `letter` in the dead letter topic: the original ones, then where and why."""
    kept = tuple((name, value or b"") for name, value in letter.headers if not name.startswith(PREFIX))
    said = {
        "topic": letter.topic,
        "partition": str(letter.partition),
        "offset": str(letter.offset),
        "timestamp": str(letter.timestamp_ms),
        "stage": letter.stage,
        "reason": letter.reason,
        "message": letter.message,
    }
    return kept + tuple((PREFIX + name, text.encode("utf-8", "replace")) for name, text in said.items())


def dead_letter_record(
    letter: DeadLetter, partitions: int, *, limit_bytes: int = _DEFAULT_LIMIT_BYTES
) -> RawOutput:
    """Return the Kafka record of `letter`, for a dead letter topic of so many `partitions`.

    It goes to the partition of its origin; a foreign origin with more partitions wraps around. A record may
    be larger than any message: it was compressed when it was sent. What takes more than `limit_bytes` is left
    behind: its reason is ``record_too_large``, and headers hold size and SHA-256 of its value.

    Examples
    --------
    >>> letter = DeadLetter(topic="a", partition=5, offset=7, timestamp_ms=0, key=None, value=b"x",
    ...     headers=(), stage="admit", reason="malformed_json")
    >>> dead_letter_record(letter, 4)
    RawOutput(a.dlq/1)
    """
    headers = dead_letter_headers(letter)
    if record_bytes(letter.key, letter.value, headers) > limit_bytes:
        value = letter.value or b""
        letter = _left_behind(letter)
        headers = (
            *dead_letter_headers(letter),
            (_VALUE_BYTES, str(len(value)).encode()),
            (_VALUE_DIGEST, sha256(value).hexdigest().encode()),
        )
    return RawOutput(
        topic=dead_letter_name(letter.topic),
        partition=letter.partition % partitions,
        key=letter.key,
        value=_content(letter),
        headers=headers,
    )


def _left_behind(letter: DeadLetter) -> DeadLetter:
    """Return `letter` without its value, and without what else of it is long."""

    def short() -> Iterator[tuple[str, bytes]]:
        for name, held in letter.headers:
            if len(name.encode("utf-8", "surrogatepass")) + len(held or b"") <= _KEPT_BYTES:
                yield name, held

    said = f"its content was left behind, it fits no message; it was refused as {letter.reason}"
    return replace(
        letter,
        key=letter.key if len(letter.key or b"") <= _KEPT_BYTES else None,
        value=None,
        headers=tuple(islice(short(), _KEPT_HEADERS)),
        reason=LEFT_BEHIND,
        message=said[:_LONGEST_TEXT],
    )


def _content(letter: DeadLetter) -> bytes | None:
    """Return the value; a record with neither key nor value gets an empty one, else no client writes it."""
    return b"" if letter.value is None and letter.key is None else letter.value


def read_dead_letter(
    headers: Sequence[tuple[str, bytes]], value: bytes | None, key: bytes | None = None
) -> DeadLetter:
    """Return the dead letter that a record of a dead letter topic holds.

    Known are our own headers, and those of Kafka Connect, Spring and Kafka Streams. A record whose content
    was left behind has no value.

    Raises
    ------
    NotADeadLetterError
        If no header says from which topic, partition and offset it came.

    Examples
    --------
    >>> said = [("__connect.errors.topic", b"t"), ("__connect.errors.partition", b"1"),
    ...     ("__connect.errors.offset", b"9"), ("kind", b"label")]
    >>> letter = read_dead_letter(said, b"x")
    >>> (letter, letter.headers)
    (DeadLetter(t/1@9: unknown), (('kind', b'label'),))
    """
    named = {name: content for name, content in headers if content is not None}
    for dialect in _DIALECTS:
        if dialect[0] in named:
            return _read(dialect, named, headers, value, key)
    raise NotADeadLetterError("no header says from which topic this record came")


def _read(
    dialect: Sequence[str],
    named: Mapping[str, bytes],
    headers: Sequence[tuple[str, bytes]],
    value: bytes | None,
    key: bytes | None,
) -> DeadLetter:
    topic, partition, offset, timestamp, stage, reason, message = (named.get(name, b"") for name in dialect)
    place = (_number(partition), _number(offset))
    if min(place) < 0 or not topic:
        raise NotADeadLetterError("no header says from which partition and offset this record came")
    return DeadLetter(
        topic=topic.decode("utf-8", "replace"),
        partition=place[0],
        offset=place[1],
        timestamp_ms=_number(timestamp, default=0),
        key=key,
        value=None if _VALUE_BYTES in named else value,
        headers=tuple((name, content) for name, content in headers if not name.startswith(_ADDED)),
        stage=_text(stage),
        reason=_text(reason) or "unknown",
        message=_text(message),
        is_ours=dialect is _DIALECTS[0],
    )


def _number(content: bytes, default: int = -1) -> int:
    """Return the number in `content`: digits, or Spring's big-endian integer of 4 or 8 bytes."""
    if content.isdigit() and len(content) <= 19:
        return int(content)
    if len(content) in {4, 8}:
        return int.from_bytes(content, "big", signed=True)
    return default


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")[:_LONGEST_TEXT]


def redriven(letter: DeadLetter) -> RawOutput:
    """Return `letter` as a record for its origin: as it was, with one more redrive counted.

    It says where it stood first, so that a record without an id gets the same one however often it comes.
    """
    first = letter.first_place.encode()
    kept = tuple((n, v or b"") for n, v in letter.headers if n not in {FIRST_PLACE, REDRIVE_COUNT})
    count = str(letter.redrives + 1).encode()
    return RawOutput(
        topic=letter.topic,
        partition=letter.partition,
        key=letter.key,
        value=_content(letter),
        headers=(*kept, (FIRST_PLACE, first), (REDRIVE_COUNT, count)),
    )
