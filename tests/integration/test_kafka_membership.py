"""Members of other protocols in one of our groups: told, and the group is ours again once they are gone."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from confluent_kafka import Consumer

from streams.kafka.errors import BrokerError
from streams.settings import KafkaSettings
from tests.integration.members import PARTITIONS, Reader, until, with_topics

pytestmark = pytest.mark.xdist_group("kafka")


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str) -> KafkaSettings:
    return with_topics(kafka_bootstrap, topic_prefix)


def test_a_group_of_another_protocol_is_told(settings):
    async def run() -> None:
        reader = Reader(settings, "a")
        async with AIOKafkaConsumer(
            reader.topic,
            bootstrap_servers=settings.bootstrap,
            group_id=f"{settings.topic_prefix}.readers",
            partition_assignment_strategy=[RangePartitionAssignor],
        ):
            with pytest.raises(BrokerError, match="another protocol"):
                await asyncio.wait_for(reader.app.start(), 20)

    asyncio.run(run())


def test_a_consumer_of_the_newer_protocol_in_our_group_is_told(settings):
    """The broker lets it in, turns the group into one of its kind, and gives it partitions."""

    async def run() -> None:
        reader = Reader(settings, "a")
        await reader.app.start()
        foreign = Consumer(
            {
                "bootstrap.servers": settings.bootstrap,
                "group.id": f"{settings.topic_prefix}.readers",
                "group.protocol": "consumer",
            }
        )
        foreign.subscribe([reader.topic])
        try:
            polling = asyncio.create_task(asyncio.to_thread(_poll_until_assigned, foreign))
            with pytest.raises(BrokerError, match=r"another protocol \(group\.protocol=consumer\)"):
                await asyncio.wait_for(reader.app.ended(), 30)
            await polling
            again = Reader(settings, "a")
            with pytest.raises(BrokerError, match=r"group\.protocol=consumer"):
                await asyncio.wait_for(again.app.start(), 30)
            await again.app.stop()
        finally:
            foreign.close()
            await reader.app.stop()
        last = Reader(settings, "a")
        await asyncio.wait_for(last.app.start(), 30)  # once it is gone, the group is ours again
        await until(lambda: len(last.app.assignment()) == PARTITIONS)
        await last.app.stop()

    asyncio.run(run())


def _poll_until_assigned(consumer: Consumer) -> None:
    deadline = time.monotonic() + 30
    while not consumer.assignment() and time.monotonic() < deadline:
        consumer.poll(0.1)
