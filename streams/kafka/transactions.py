"""Writes to Kafka, in transactions and plainly; reads a partition of state to its end. The door to aiokafka.

A stage has one writer per partition of its source, and one transaction per batch: outputs, state and the
group's offset come into being together. Whoever opens a writer of the same name later fences this one: its
commit fails.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.producer import sender
from msgspec import Struct

from streams.kafka.connection import client_options
from streams.kafka.consumer_errors import explain_client
from streams.kafka.errors import BrokerError
from streams.kafka.layout import DEAD_LETTER_ROOM_BYTES, largest_record_bytes, record_bytes
from streams.settings import KafkaSettings

# What it reports is raised here; without a handler it would go to stderr.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())

Where = tuple[str, int]
_TIMEOUT_MS: Final = 30_000
_RETRY_MS: Final = 20
# The markers of one transaction are still being written when the next one asks to begin; aiokafka waits for
# 20 ms then, three times as long as the markers take.
sender.BACKOFF_OVERRIDE = 0.003
_BATCH_BYTES: Final = 1_048_576
_ABORT_S: Final = 5.0
_OPTIONS: Final[Mapping[str, Any]] = {
    "acks": "all",
    "enable_idempotence": True,
    "compression_type": "snappy",
    "request_timeout_ms": _TIMEOUT_MS,
    "retry_backoff_ms": _RETRY_MS,
}
_READ_S: Final = 90.0
_WAIT_MS: Final = 50
_READ_OPTIONS: Final[Mapping[str, Any]] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",
    "max_partition_fetch_bytes": 4 * _BATCH_BYTES,
    "fetch_max_wait_ms": _WAIT_MS,
    "request_timeout_ms": _TIMEOUT_MS,
}
# When the sender's task has found the transaction ended, what the caller does next is "illegal", or asserted.
_FAILED: Final = (kafka_errors.KafkaError, kafka_errors.IllegalOperation, AssertionError)
_FENCED: Final = (
    kafka_errors.ProducerFenced,
    kafka_errors.InvalidProducerEpoch,
    kafka_errors.InvalidProducerIdMapping,
)


class FencedError(BrokerError):
    """Another writer of the same name was opened since: somebody else has this partition now."""


class Outgoing(Struct, frozen=True):
    """One Kafka record to write; `value` None removes `key` from a compacted topic."""

    topic: str
    partition: int
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class TransactionalWriter:
    """Writes batches, each as one transaction with the offsets that it came from.

    Parameters
    ----------
    settings
        Where the brokers are and how to get in.
    name
        The transactional id: whoever starts a writer under it ends the one before, and what that had open.
    timeout_s
        How long the broker keeps a transaction open of which it hears nothing.

    Attributes
    ----------
    count, seconds
        Transactions committed, and how long they took together, from their beginning to the broker's answer.
    """

    def __init__(self, settings: KafkaSettings, name: str, *, timeout_s: float = 60.0) -> None:
        self._name, self._settings = name, settings
        self.count, self.seconds = 0, 0.0
        self._producer = _producer(
            settings, transactional_id=name, transaction_timeout_ms=round(timeout_s * 1000)
        )

    async def start(self) -> None:
        """Connect, fence the writer before, and end what it left open.

        Raises
        ------
        BrokerError
            If no broker answers or it refuses; the text names the remedy.
        """
        await _start(self._producer, self._name, self._settings)

    async def write(
        self, records: Sequence[Outgoing], offsets: Mapping[Where, int] | None = None, group: str = ""
    ) -> None:
        """Write `records`, and commit `offsets` for `group`, all or nothing.

        The transaction is committed when the brokers have acknowledged every record of it: where they refuse
        one, the client would commit the others.

        Raises
        ------
        FencedError
            If another writer of this name was opened.
        BrokerError
            If it failed, or it is not known whether it did: read what is committed, and go on from there.
        """
        _check_sizes(records, self._settings)
        producer, began_s = self._producer, time.perf_counter()
        with _told(self._name, self._settings):
            await producer.begin_transaction()
            try:
                await self._fill(records, offsets, group)
            except _FAILED as error:
                cause = self._cause(error)
                await self._abort()
                raise cause from error
            await producer.commit_transaction()
        self.count, self.seconds = self.count + 1, self.seconds + time.perf_counter() - began_s

    async def _fill(
        self, records: Sequence[Outgoing], offsets: Mapping[Where, int] | None, group: str
    ) -> None:
        """Return when the brokers have everything of the open transaction."""
        async with _acknowledged() as sent:
            for record in records:
                sent.append(await _send(self._producer, record))
            if offsets:
                at = {TopicPartition(*where): offset for where, offset in offsets.items()}
                await self._producer.send_offsets_to_transaction(at, group)

    def _cause(self, error: Exception) -> BaseException:
        """Return what ended the transaction; what followed says only that it had ended."""
        ended = self._producer._txn_manager.wait_for_transaction_end()  # noqa: SLF001 - nobody else tells
        first: BaseException | None = ended.exception() if ended.done() else None
        return first or error

    async def _abort(self) -> None:
        """End what is open, so that readers need not wait for the next writer; it ends it if this cannot."""
        with suppress(*_FAILED, TimeoutError):
            async with asyncio.timeout(_ABORT_S):
                await self._producer.abort_transaction()

    async def stop(self) -> None:
        """Close the connection; what is open is left to the broker and the next writer."""
        await _stop(self._producer)


class PlainWriter:
    """Writes without transactions, each record once and in order; an async context manager.

    Parameters
    ----------
    settings
        Where the brokers are and how to get in.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer = _producer(settings)

    async def __aenter__(self) -> Self:
        """Connect."""
        await _start(self._producer, "plain", self._settings)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await _stop(self._producer)

    async def write(self, records: Sequence[Outgoing]) -> None:
        """Return when the brokers have all of `records`.

        Raises
        ------
        BrokerError
            If they may not have them.
        """
        _check_sizes(records, self._settings)
        with _told("plain", self._settings):
            async with _acknowledged() as sent:
                for record in records:
                    sent.append(await _send(self._producer, record))


async def read_partitions(
    settings: KafkaSettings, places: Collection[Where]
) -> dict[Where, dict[bytes, bytes]]:
    """Return the last committed value under every key, by partition, as compacted topics mean it.

    Read is everything that was committed when this was called. Where a writer has a transaction open, that is
    waited for: what was committed behind its beginning cannot be read before.

    Raises
    ------
    BrokerError
        If no broker answers or it refuses; the text names the remedy.
    """
    found: dict[Where, dict[bytes, bytes]] = {where: {} for where in places}
    if not found:
        return found
    consumer = AIOKafkaConsumer(**client_options(settings), **_READ_OPTIONS)
    with _told("the state", settings):
        try:
            await consumer.start()
            unread = {TopicPartition(*where) for where in places}
            consumer.assign(list(unread))
            await consumer.seek_to_beginning(*unread)
            async with asyncio.timeout(_READ_S):
                await _read_to_end(consumer, unread, found)
        except TimeoutError as error:
            raise BrokerError(f"kafka: the state cannot be read to its end within {_READ_S:.0f} s") from error
        finally:
            await consumer.stop()
    return found


async def _read_to_end(
    consumer: AIOKafkaConsumer, unread: set[TopicPartition], found: dict[Where, dict[bytes, bytes]]
) -> None:
    ends: dict[TopicPartition, int] = {}
    while unread:
        for tp, records in (await consumer.getmany(*unread, timeout_ms=_WAIT_MS)).items():
            values = found[tp.topic, tp.partition]
            for record in records:
                if record.value is None:
                    values.pop(record.key, None)
                else:
                    values[record.key] = record.value
        for tp in tuple(unread):
            if tp not in ends and (end := consumer.highwater(tp)) is not None:
                ends[tp] = end
            if tp in ends and await consumer.position(tp) >= ends[tp]:
                unread.discard(tp)
                consumer.pause(tp)


def _producer(settings: KafkaSettings, **more: Any) -> AIOKafkaProducer:
    options = client_options(settings) | dict(_OPTIONS) | more
    # What a topic takes is looked at before; the client knows one limit for all.
    largest = settings.max_message_bytes + DEAD_LETTER_ROOM_BYTES
    # Many records in one batch must fit as one of them does: the broker measures batches.
    batch = min(_BATCH_BYTES, settings.max_message_bytes * 15 // 16)
    return AIOKafkaProducer(**options, max_request_size=largest, max_batch_size=batch)


async def _start(producer: AIOKafkaProducer, name: str, settings: KafkaSettings) -> None:
    with _told(name, settings):
        try:
            await producer.start()
        except BaseException:
            await _stop(producer)  # half of it is connected
            raise


def _check_sizes(records: Sequence[Outgoing], settings: KafkaSettings) -> None:
    """Refuse what no broker would take, before anything is sent."""
    for record in records:
        size = record_bytes(record.key, record.value, record.headers)
        if size > (largest := largest_record_bytes(record.topic, settings)):
            raise BrokerError(
                f"kafka: a record for {record.topic}/{record.partition} takes up to {size} bytes, and "
                f"{largest} are allowed: raise kafka.max_message_bytes, on the topics as well"
            )


@asynccontextmanager
async def _acknowledged() -> AsyncIterator[list[asyncio.Future[Any]]]:
    """Wait at the end for every future that was put into the list; raise the first failure."""
    sent: list[asyncio.Future[Any]] = []
    try:
        yield sent
        await asyncio.gather(*sent)
    finally:
        for future in sent:
            future.add_done_callback(_look_at)


def _look_at(future: asyncio.Future[Any]) -> None:
    """Take note of a failure, which asyncio reports on stderr otherwise: the first was raised."""
    if not future.cancelled():
        future.exception()


async def _send(producer: AIOKafkaProducer, record: Outgoing) -> asyncio.Future[Any]:
    sent: asyncio.Future[Any] = await producer.send(
        record.topic, record.value, record.key, record.partition, headers=list(record.headers)
    )
    return sent


async def _stop(producer: AIOKafkaProducer) -> None:
    # A producer whose transaction failed raises again when it is stopped; its connections are closed then.
    try:
        await producer.stop()
    except kafka_errors.KafkaError:
        logging.getLogger("plumbline.kafka").debug("a writer was stopped after its failure")


@contextmanager
def _told(name: str, settings: KafkaSettings) -> Iterator[None]:
    try:
        yield
    except _FENCED as error:
        raise FencedError(f"kafka: {name} was taken over by another worker: this one must end") from error
    except (kafka_errors.KafkaError, kafka_errors.IllegalOperation) as error:
        raise explain_client(error, settings, name) from error
