"""Writes to Kafka, in transactions and plainly; reads a partition of state to its end. The door to aiokafka.

A stage has one writer per partition of its source, and one transaction per batch: outputs, state and the
group's offset come into being together. Whoever opens a writer of the same name later fences this one: its
commit fails.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.producer import sender
from msgspec import Struct

from streams.kafka.connection import client_options
from streams.kafka.errors import BrokerError
from streams.kafka.layout import DEAD_LETTER_ROOM_BYTES
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
_OPTIONS: Final[Mapping[str, Any]] = {
    "acks": "all",
    "enable_idempotence": True,
    "compression_type": "snappy",
    "max_batch_size": _BATCH_BYTES,
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
        self._name = name
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
        with _told(self._name):
            await self._producer.start()

    async def write(
        self, records: Sequence[Outgoing], offsets: Mapping[Where, int] | None = None, group: str = ""
    ) -> None:
        """Write `records`, and commit `offsets` for `group`, all or nothing.

        Raises
        ------
        FencedError
            If another writer of this name was opened.
        BrokerError
            If it failed, or it is not known whether it did: read what is committed, and go on from there.
        """
        producer, began_s = self._producer, time.perf_counter()
        with _told(self._name):
            await producer.begin_transaction()
            sent = [await _send(producer, record) for record in records]
            if offsets:
                at = {TopicPartition(*where): offset for where, offset in offsets.items()}
                await producer.send_offsets_to_transaction(at, group)
            await producer.commit_transaction()
            for future in sent:
                future.result()
        self.count, self.seconds = self.count + 1, self.seconds + time.perf_counter() - began_s

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
        self._producer = _producer(settings)

    async def __aenter__(self) -> Self:
        """Connect."""
        with _told("plain"):
            await self._producer.start()
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
        with _told("plain"):
            await asyncio.gather(*[await _send(self._producer, record) for record in records])


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
    with _told("the state"):
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
    # The broker refuses what is too large for its topic; dead letters may be larger than what they are of.
    largest = settings.max_message_bytes + DEAD_LETTER_ROOM_BYTES
    return AIOKafkaProducer(**options, max_request_size=largest)


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
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except _FENCED as error:
        raise FencedError(f"kafka: {name} was taken over by another worker: this one must end") from error
    except kafka_errors.MessageSizeTooLargeError as error:
        raise BrokerError(
            f"kafka: {name}: a record is too large: raise kafka.max_message_bytes, on the topics as well"
        ) from error
    except kafka_errors.KafkaError as error:
        raise BrokerError(
            f"kafka: {name} cannot go on ({type(error).__name__}): see the broker's log; a new start goes on "
            "from what was committed"
        ) from error
