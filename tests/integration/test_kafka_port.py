"""The stage port of Kafka keeps every check of every port, on a real broker; and what only Kafka can do."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from detectors.records import Tick
from detectors.records.codec import Record
from detectors.stages import Output
from streams.checks.port_checks import PORT_CHECKS, sample_records
from streams.kafka.dead_letters import read_dead_letter
from streams.kafka.envelope import Origin, RawMessage, place_of, seal, unseal
from streams.kafka.errors import BrokerError
from streams.kafka.layout import dead_letter_name, state_name, topic_name
from streams.kafka.port import KafkaPort, Lane, PortSettings
from streams.kafka.state_records import CHUNK_BYTES, Position, StateRecords
from streams.kafka.topics import TopicAdmin
from streams.kafka.transactions import (
    FencedError,
    Outgoing,
    PlainWriter,
    TransactionalWriter,
    read_partitions,
)
from streams.settings import KafkaSettings

pytestmark = pytest.mark.xdist_group("kafka")
PARTITIONS = 2


class FetchingPort(KafkaPort):
    """A port that fetches by itself, as a runner would for it."""

    bench: "KafkaBench"

    def read_batch(self, partition: int, limit: int) -> Any:
        self.lanes[partition].feed(self.bench.messages(self.bench.source_name, partition))
        return super().read_batch(partition, limit)


class KafkaBench:
    """Topics of their own on a broker, and a loop in a thread for the clients."""

    source, target = "feedback", "labels"

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self.source_name = topic_name(self.source, settings.topic_prefix)
        self.writers: list[TransactionalWriter] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def open_port(self, stage: str) -> FetchingPort:
        about = PortSettings(
            kafka=self.settings,
            stage={"checked": "score", "other": "detect"}[stage],  # these have state topics
            source=self.source_name,
            group=f"{self.settings.topic_prefix}.{stage}",
        )
        lanes = [self.run(self._open_lane(about, partition)) for partition in range(PARTITIONS)]
        port = FetchingPort(self.loop, lanes)
        port.bench = self
        return port

    async def _open_lane(self, about: PortSettings, partition: int) -> Lane:
        prefix = self.settings.topic_prefix
        writer = TransactionalWriter(self.settings, f"{prefix}.{about.stage}.{partition}")
        await writer.start()
        self.writers.append(writer)
        where = (state_name(about.stage, prefix), partition)
        rows = await read_partitions(self.settings, [where])
        return Lane(about, partition, StateRecords(rows[where]), writer)

    def append(self, partition: int, records: Sequence[Record], origin: Origin | None = None) -> None:
        """Append in envelopes of two, so that batches begin and end within them."""
        sealed = [one for at in range(0, len(records), 2) for one in seal(records[at : at + 2], origin)]
        self.write([Outgoing(self.source_name, partition, one.value, None, one.headers) for one in sealed])

    def write(self, records: Sequence[Outgoing]) -> None:
        async def work() -> None:
            async with PlainWriter(self.settings) as writer:
                await writer.write(records)

        self.run(work())

    def messages(self, name: str, partition: int) -> list[RawMessage]:
        """Return every committed Kafka record of a partition."""
        return self.run(self._messages(TopicPartition(name, partition)))

    async def _messages(self, tp: TopicPartition) -> list[RawMessage]:
        found: list[RawMessage] = []
        async with AIOKafkaConsumer(
            bootstrap_servers=self.settings.bootstrap,
            isolation_level="read_committed",
            enable_auto_commit=False,
            fetch_max_wait_ms=20,
        ) as consumer:
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            end = await self._end(consumer, tp)
            while await consumer.position(tp) < end:
                for record in (await consumer.getmany(timeout_ms=50)).get(tp, ()):
                    at = (record.topic, record.partition, record.offset, record.timestamp)
                    found.append(RawMessage(*at, record.key, record.value, tuple(record.headers)))
        return found

    async def _end(self, consumer: AIOKafkaConsumer, tp: TopicPartition) -> int:
        """Return the end of what is committed; the broker says yes to a commit before it has marked it."""
        async with AIOKafkaConsumer(bootstrap_servers=self.settings.bootstrap) as reader:
            written = (await reader.end_offsets([tp]))[tp]
        for _ in range(20):
            if (end := int((await consumer.end_offsets([tp]))[tp])) >= written:
                break
            await asyncio.sleep(0.05)  # what was left open stays so
        return end

    def visible(self, partition: int) -> list[Record]:
        name = topic_name(self.target, self.settings.topic_prefix)
        return [
            record
            for message in self.messages(name, partition)
            for record in unseal(message.value or b"", message.headers)[1]
        ]

    def fail_next_checkpoint(self, port: KafkaPort) -> None:
        """Everything is sent, and the connection ends before the commit."""
        for lane in port.lanes.values():
            lane.writer._producer.commit_transaction = self._refuse

    async def _refuse(self) -> None:
        raise BrokerError("refused")

    def close(self) -> None:
        for writer in self.writers:
            self.run(writer.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def bench(kafka_bootstrap: str, topic_prefix: str) -> Iterator[KafkaBench]:
    settings = KafkaSettings(
        bootstrap=kafka_bootstrap, topic_prefix=topic_prefix, partitions=PARTITIONS, replication=1
    )
    with TopicAdmin(settings) as admin:
        admin.create()
    made = KafkaBench(settings)
    yield made
    made.close()


@pytest.mark.parametrize("check", PORT_CHECKS, ids=lambda check: check.__name__)
def test_conformance(bench, check):
    check(bench)


def outputs(batch: Sequence[Any]) -> list[Output]:
    return [Output(topic="labels", partition=0, record=one.record) for one in batch]


def test_a_writer_that_was_replaced_is_fenced(bench):
    bench.append(0, sample_records(2))
    old = bench.open_port("checked")
    batch = old.read_batch(0, 10)
    old.emit(outputs(batch))
    new = bench.open_port("checked")
    with pytest.raises(FencedError, match="another worker") as caught:
        old.checkpoint(0, batch[-1].offset + 1, {"n": b"old"})
    assert len(str(caught.value).splitlines()) == 1
    assert bench.visible(0) == []
    batch = new.read_batch(0, 10)
    new.emit(outputs(batch))
    new.checkpoint(0, batch[-1].offset + 1, {"n": b"new"})
    assert bench.visible(0) == sample_records(2)
    assert bench.open_port("checked").stored_state(0) == {"n": b"new"}


def test_an_envelope_that_comes_twice_counts_once(bench):
    origin = Origin("admit", "submissions", 1, 10)
    bench.append(0, sample_records(2), origin)
    bench.append(0, sample_records(2), origin)
    bench.append(0, [Tick(0, 1)])
    bench.append(0, sample_records(1, start=5), Origin("admit", "submissions", 1, 11))
    port = bench.open_port("checked")
    first = port.read_batch(0, 1)
    port.checkpoint(0, first[-1].offset + 1, {})
    port = bench.open_port("checked")  # in the middle of an envelope
    rest = port.read_batch(0, 10)
    assert [one.record for one in (*first, *rest)] == [
        *sample_records(2),
        Tick(0, 1),
        *sample_records(1, start=5),
    ]
    port.checkpoint(0, rest[-1].offset + 1, {})
    bench.append(0, sample_records(2), origin)
    port = bench.open_port("checked")
    assert port.read_batch(0, 10) == []
    assert port.lanes[0].behind()
    port.checkpoint(0, port.lanes[0].position.place, {})
    assert port.lanes[0].position.repeated == 2
    assert port.lanes[0].position.taken == 4
    assert not bench.open_port("checked").lanes[0].behind()


def test_what_is_no_envelope_is_a_dead_letter_and_its_neighbours_are_kept(bench):
    bench.append(1, sample_records(1))
    bench.write([Outgoing(bench.source_name, 1, b"\x00poison", b"k", (("h", b"v"),))])
    bench.append(1, sample_records(1, start=1))
    port = bench.open_port("checked")
    batch = port.read_batch(1, 10)
    assert [one.record for one in batch] == sample_records(2)
    port.checkpoint(1, batch[-1].offset + 1, {})
    (letter,) = bench.messages(dead_letter_name(bench.source_name), 1)
    read = read_dead_letter(letter.headers, letter.value, letter.key)
    assert (read.value, read.key, read.offset, read.stage) == (b"\x00poison", b"k", 1, "score")
    assert port.lanes[1].position.buried == 1


def test_a_large_blob_and_its_end(bench):
    bench.append(0, sample_records(3))
    large = bytes(range(256)) * (CHUNK_BYTES // 128)
    for blob in (large, b"small", None):
        port = bench.open_port("checked")
        (one,) = port.read_batch(0, 1)
        port.checkpoint(0, one.offset + 1, {"blob": blob, "beside": b"1"})
        assert bench.open_port("checked").stored_state(0).get("blob") == blob
    (where,) = [(state_name("score", bench.settings.topic_prefix), 0)]
    assert len(bench.run(read_partitions(bench.settings, [where]))[where]) == 2


def test_the_group_s_offset_follows(bench):
    bench.append(0, sample_records(5))
    port = bench.open_port("checked")
    for _ in range(2):
        batch = port.read_batch(0, 2)
        port.checkpoint(0, batch[-1].offset + 1, {})
    assert port.lanes[0].position == Position(place=place_of(2), taken=4)

    async def committed() -> Any:
        async with AIOKafkaConsumer(
            bootstrap_servers=bench.settings.bootstrap, group_id=f"{bench.settings.topic_prefix}.checked"
        ) as consumer:
            return await consumer.committed(TopicPartition(bench.source_name, 0))

    assert bench.run(committed()) == 2
