"""A batch of which the broker refuses an output is not committed at all: no state, no position, no offset."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.kafka.errors import BrokerError
from streams.kafka.layout import state_name, topic_name
from streams.kafka.topics import TopicAdmin
from streams.kafka.transactions import Outgoing, PlainWriter, TransactionalWriter, read_partitions
from streams.settings import KafkaSettings
from tests.integration.shrinking import shrink

pytestmark = pytest.mark.xdist_group("kafka")


@pytest.fixture
def kafka(kafka_bootstrap: str, topic_prefix: str) -> KafkaSettings:
    """Topics of which decisions takes less than the settings say, as after `kafka-configs --alter`."""
    settings = KafkaSettings(
        bootstrap=kafka_bootstrap, topic_prefix=topic_prefix, partitions=1, replication=1
    )
    with TopicAdmin(settings) as admin:
        admin.create()
    decisions = topic_name("decisions", topic_prefix)
    shrink(kafka_bootstrap, decisions, 100_000)
    return settings


class Batch:
    """What a stage writes at once: an output, its state, and the group's offset."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.kafka = kafka
        self.decisions = topic_name("decisions", kafka.topic_prefix)
        self.state = state_name("decide", kafka.topic_prefix)
        self.signals = (topic_name("signals", kafka.topic_prefix), 0)
        self.group = f"{kafka.topic_prefix}.decide"

    def records(self, output: bytes) -> list[Outgoing]:
        return [Outgoing(self.decisions, 0, output), Outgoing(self.state, 0, b"after", b"position")]

    async def write(self, writer: TransactionalWriter, output: bytes) -> None:
        await writer.write(self.records(output), {self.signals: 7}, self.group)

    async def committed(self) -> tuple[Any, Any]:
        """Return what the group and the state topic say."""
        rows = await read_partitions(self.kafka, [(self.state, 0)])
        async with AIOKafkaConsumer(
            bootstrap_servers=self.kafka.bootstrap, group_id=self.group, enable_auto_commit=False
        ) as consumer:
            return await consumer.committed(TopicPartition(*self.signals)), rows[self.state, 0]


def on_stderr(caught: Sequence[Any]) -> list[str]:
    return [str(one.get("message")) for one in caught]


def test_a_refused_output_leaves_position_and_offset_where_they_were(kafka: KafkaSettings) -> None:
    caught: list[Any] = []

    async def check() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context))
        batch = Batch(kafka)
        writer = TransactionalWriter(kafka, f"{batch.group}.0")
        await writer.start()
        try:
            with pytest.raises(BrokerError, match=r"max\.message\.bytes") as told:
                await batch.write(writer, os.urandom(200_000))
            assert len(str(told.value).splitlines()) == 1
            assert await batch.committed() == (None, {})
            assert writer.count == 0
        finally:
            await writer.stop()
        successor = TransactionalWriter(kafka, f"{batch.group}.0")
        await successor.start()
        await batch.write(successor, b"fits")
        await successor.stop()
        assert await batch.committed() == (7, {b"position": b"after"})

    asyncio.run(check())
    assert on_stderr(caught) == []


def test_what_no_topic_takes_is_refused_before_anything_is_sent(kafka: KafkaSettings) -> None:
    async def check() -> None:
        batch = Batch(kafka)
        writer = TransactionalWriter(kafka, f"{batch.group}.0")
        large = os.urandom(kafka.max_message_bytes)
        await writer.start()
        try:
            with pytest.raises(BrokerError, match="signals"):
                await writer.write([Outgoing(batch.signals[0], 0, large)])
            assert await batch.committed() == (None, {})
            await writer.write(batch.records(b"fits"))  # no transaction was open
            # A dead letter may be larger than its record.
            await writer.write([Outgoing(f"{batch.decisions}.dlq", 0, large)])
        finally:
            await writer.stop()
        async with PlainWriter(kafka) as plain:
            with pytest.raises(BrokerError, match="signals"):
                await plain.write([Outgoing(batch.signals[0], 0, large)])

    asyncio.run(check())


def test_batches_of_many_records_fit_a_small_topic(kafka_bootstrap: str, topic_prefix: str) -> None:
    small = KafkaSettings(
        bootstrap=kafka_bootstrap,
        topic_prefix=topic_prefix,
        partitions=1,
        replication=1,
        max_message_bytes=400_000,
    )
    with TopicAdmin(small) as admin:
        admin.create()

    async def check() -> None:
        batch = Batch(small)
        writer = TransactionalWriter(small, f"{batch.group}.0")
        await writer.start()
        noise = [Outgoing(batch.decisions, 0, os.urandom(90_000)) for _ in range(20)]
        await writer.write([*noise, *batch.records(b"x")], {batch.signals: 3}, batch.group)
        await writer.stop()
        assert await batch.committed() == (3, {b"position": b"after"})

    asyncio.run(check())
