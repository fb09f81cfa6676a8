"""Dead letters on a broker: read without a group, so that nobody's place moves, and sent again.

What was sent again is remembered beside it: a mark, in the same transaction, in the partition of the letter,
where it stays at least as long. Its value is a JSON list of the offsets of the letters that were sent.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from msgspec import Struct

from streams.kafka.connection import client_options
from streams.kafka.dead_letters import (
    PREFIX,
    DeadLetter,
    NotADeadLetterError,
    RawOutput,
    read_dead_letter,
    redriven,
)
from streams.kafka.errors import BrokerError
from streams.kafka.layout import (
    DEAD_LETTER_ROOM_BYTES,
    SUBMISSIONS,
    dead_letter_name,
    plan_topics,
    topic_name,
)
from streams.kafka.topics import TopicAdmin, told_by_broker
from streams.settings import KafkaSettings, Settings

_TIMEOUT_MS: Final = 15_000
_RETRY_MS: Final = 500
_POLL_MS: Final = 500
_SILENT_POLLS: Final = 40
_SENT_TOGETHER: Final = 100
_MARK: Final = f"{PREFIX}sent"
"""The header of a mark."""
_FENCED: Final = (kafka_errors.ProducerFencedError, kafka_errors.InvalidProducerEpochError)
_MARKS: Final = msgspec.json.Decoder(tuple[int, ...])


class Found(Struct, frozen=True, kw_only=True):
    """A record of a dead letter topic, where it stands, and what it holds; None: it does not say.

    A mark holds no letter: ``sent`` are the offsets of those of its partition that were sent again.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    letter: DeadLetter | None
    sent: tuple[int, ...] = ()

    @property
    def place(self) -> str:
        """Where it stands, as topic/partition/offset."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class DeadLetterLog:
    """The dead letters of one installation; a context manager.

    Parameters
    ----------
    settings
        Where the brokers are, and which foreign topics there are.

    Raises
    ------
    BrokerError
        If no broker answers or it refuses the user.
    SettingsError
        If the settings cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        kafka = settings.kafka
        options = client_options(kafka)
        TopicAdmin(
            kafka, settings.foreign
        ).close()  # a refused login is said at once, which a consumer cannot
        self._options = {
            **options,
            "reconnect_backoff_max_ms": _RETRY_MS,
            "bootstrap_timeout_ms": _TIMEOUT_MS,
        }
        with told_by_broker(kafka):
            self._consumer = KafkaConsumer(
                **self._options,
                enable_auto_commit=False,
                isolation_level="read_committed",
                allow_auto_create_topics=False,
                request_timeout_ms=_TIMEOUT_MS,
            )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._consumer.close(autocommit=False)

    @property
    def topics(self) -> list[str]:
        """The topics of dead letters that the settings ask for."""
        plan = plan_topics(self._settings.kafka, self._settings.foreign)
        return [spec.name for spec in plan if spec.name.endswith(".dlq")]

    @property
    def origins(self) -> list[str]:
        """The topics to which records may be sent again: those that producers write to."""
        own = topic_name(SUBMISSIONS, self._settings.kafka.topic_prefix)
        return [own, *(foreign.topic for foreign in self._settings.foreign)]

    def topic_of(self, origin: str) -> str:
        """Return the dead letter topic of `origin`, our short name for it or the one on Kafka.

        Raises
        ------
        BrokerError
            If there is none.
        """
        prefix = self._settings.kafka.topic_prefix
        named = [dead_letter_name(origin), dead_letter_name(f"{prefix}.{origin}.v1")]
        found = next((name for name in named if name in self.topics), None)
        if found is None:
            known = ", ".join(name.removesuffix(".dlq") for name in self.topics)
            raise BrokerError(f"deadletters: no origin {origin!r}; there are {known}")
        return found

    def read(self, topics: Sequence[str], *, since_ms: int = 0) -> Iterator[Found]:
        """Yield what `topics` hold now, written at `since_ms` or later, partition by partition; marks too.

        Raises
        ------
        BrokerError
            If the broker cannot be asked, a topic is missing, or this user may not read it.
        """
        with told_by_broker(self._settings.kafka):
            for topic in topics:
                numbers = self._consumer.partitions_for_topic(topic)
                if not numbers:
                    raise self._unseen(topic)
                for number in sorted(numbers):
                    with _told_by_right(self._settings.kafka, "Read", topic):
                        yield from self._read_partition(TopicPartition(topic, number), since_ms)

    def _unseen(self, topic: str) -> BrokerError:
        """Return why a consumer, which knows only what it may see, does not know `topic`."""
        with TopicAdmin(self._settings.kafka, self._settings.foreign) as admin:
            admin.compare()  # raises where it is a right that is missing
        return BrokerError(f"kafka: {topic} is missing: run `plumbline topics create`")

    def _read_partition(self, where: Any, since_ms: int) -> Iterator[Found]:
        self._consumer.assign([where])
        first = self._consumer.offsets_for_times({where: since_ms})[where] if since_ms else None
        if since_ms and first is None:
            return
        end = self._consumer.end_offsets([where])[where]
        if first is None:
            self._consumer.seek_to_beginning(where)
        else:
            self._consumer.seek(where, first.offset)
        at, silent = -1, 0
        while (now_at := self._consumer.position(where)) < end:
            silent = 0 if now_at > at else silent + 1
            if silent > _SILENT_POLLS:
                raise BrokerError(f"kafka: {where.topic}/{where.partition} gives nothing at {at}: ask again")
            at = now_at
            for record in self._consumer.poll(timeout_ms=_POLL_MS).get(where, ()):
                yield _found(record)

    @contextmanager
    def redriving(self) -> Iterator["Redrive"]:
        """Yield what sends letters again; whoever did so until now cannot go on.

        Choose the letters within: marks that were written before are then all there to be read.

        Raises
        ------
        BrokerError
            If the broker refuses.
        """
        name = f"{self._settings.kafka.topic_prefix}.redrive"
        with told_by_broker(self._settings.kafka):
            producer = KafkaProducer(
                **self._options,
                acks="all",
                transactional_id=name,
                delivery_timeout_ms=2 * _TIMEOUT_MS,
                request_timeout_ms=_TIMEOUT_MS,
                max_block_ms=_TIMEOUT_MS,
                max_request_size=self._settings.kafka.max_message_bytes + DEAD_LETTER_ROOM_BYTES,
                allow_auto_create_topics=False,
            )
            try:
                with _told_by_right(self._settings.kafka, "Write", f"with the TransactionalId {name}"):
                    producer.init_transactions()
                yield Redrive(producer, self._settings.kafka)
            finally:
                producer.close(timeout=_TIMEOUT_MS / 1000)


class Redrive:
    """Sends letters again, each with its mark in one transaction; of :meth:`DeadLetterLog.redriving`."""

    def __init__(self, producer: KafkaProducer, settings: KafkaSettings) -> None:
        self._producer, self._settings = producer, settings

    def send(self, chosen: Iterable[Found], told: Callable[[Found], None]) -> None:
        """Send the letters of `chosen` to their origins, and tell of each that is committed.

        Raises
        ------
        BrokerError
            If the broker refuses one, or somebody else sends letters again by now; those told of are sent.
        """
        waiting = iter(chosen)
        while part := list(islice(waiting, _SENT_TOGETHER)):
            self._producer.begin_transaction()
            try:
                self._write(part)
                self._producer.commit_transaction()
            except _FENCED as error:
                raise BrokerError(
                    "deadletters: another redrive has begun, which ended this one: run it again after that"
                ) from error
            except BaseException:
                with suppress(kafka_errors.KafkaError):
                    self._producer.abort_transaction()
                raise
            for found in part:
                told(found)

    def _write(self, part: Sequence[Found]) -> None:
        outputs = [redriven(found.letter) for found in part if found.letter is not None]
        marks: dict[tuple[str, int], list[int]] = {}
        for found in part:
            marks.setdefault((found.topic, found.partition), []).append(found.offset)
        outputs += [_mark(*where, offsets) for where, offsets in marks.items()]
        sent: list[tuple[str, Any]] = []
        try:
            for output in outputs:
                sent.append((output.topic, _send(self._producer, output)))  # noqa: PERF401 - known if one fails
        except kafka_errors.KafkaError:
            self._wait(sent)  # what was sent before says what is wrong, this only that something is
            raise
        self._wait(sent)

    def _wait(self, sent: Sequence[tuple[str, Any]]) -> None:
        for topic, future in sent:
            with _told_by_right(self._settings, "Write", topic):
                future.get(timeout=2 * _TIMEOUT_MS / 1000)


def _mark(topic: str, partition: int, offsets: Sequence[int]) -> RawOutput:
    value = msgspec.json.encode(offsets)
    return RawOutput(topic=topic, partition=partition, key=None, value=value, headers=((_MARK, b"1"),))


@contextmanager
def _told_by_right(settings: KafkaSettings, right: str, topic: str) -> Iterator[None]:
    """Name the right that is missing: a refusal itself does not say of which right it is."""
    try:
        yield
    except (
        kafka_errors.TopicAuthorizationFailedError,
        kafka_errors.TransactionalIdAuthorizationFailedError,
    ) as error:
        who = repr(settings.sasl_username) if settings.sasl_username else "this client"
        raise BrokerError(
            f"kafka: {who} is not allowed to {right.lower()} {topic}: allow it {right}"
        ) from error


def _send(producer: KafkaProducer, output: RawOutput) -> Any:
    known = producer.partitions_for(output.topic)
    if output.partition not in known:
        raise BrokerError(
            f"deadletters: {output.topic} has no partition {output.partition} any more: "
            "it was made anew; send these records again where they came from"
        )
    return producer.send(
        output.topic,
        output.value,
        key=output.key,
        headers=list(output.headers),
        partition=output.partition,
    )


def _found(record: Any) -> Found:
    headers = [(name, content if content is not None else b"") for name, content in record.headers]
    try:
        letter = read_dead_letter(headers, record.value, record.key)
    except NotADeadLetterError:
        letter = None
    is_mark = letter is None and _MARK in dict(headers)
    return Found(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        letter=letter,
        sent=_read_mark(record.value) if is_mark else (),
    )


def _read_mark(value: bytes | None) -> tuple[int, ...]:
    try:
        return _MARKS.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()  # not of ours: it is shown as what it is, a record that does not say where it came from
