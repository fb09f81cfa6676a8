"""When a stage on Kafka stands still: floods of bad records, records that are gone; poison, which passes."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from kafka import KafkaAdminClient
from kafka import TopicPartition as Place

from detectors.records import Decision
from detectors.stages import Delivery, Output, StageState
from streams.checks.port_checks import sample_records
from streams.kafka.dead_letters import bury
from streams.kafka.envelope import unseal
from streams.kafka.errors import BrokerError
from streams.kafka.flood import FloodError
from streams.kafka.layout import dead_letter_name, topic_name
from streams.kafka.runner import StageRunner
from streams.kafka.topics import TopicAdmin
from streams.kafka.transactions import Outgoing, PlainWriter
from streams.settings import KafkaSettings, Settings, WorkerSettings

pytestmark = pytest.mark.xdist_group("kafka")


class Echo:
    """A raw stage: one record out for every good one, a dead letter for every bad one."""

    name, source, raw = "admit", "submissions", True

    def restore(self, partition: int, stored: Mapping[str, bytes]) -> StageState:
        return StageState(stored)

    def changes(self, state: StageState) -> dict[str, bytes | None]:
        return state.take_changes()

    def step(self, state: StageState, batch: Sequence[Delivery]) -> tuple[StageState, list[Any]]:
        outputs: list[Any] = []
        for delivery in batch:
            message: Any = delivery.record
            if message.value.startswith(b"bad"):
                outputs.append(bury(message, stage="admit", reason="bad"))
            else:
                outputs.append(Output(topic="feedback", partition=0, record=sample_records(1)[0]))
                state.count("good", "")
        return state, outputs


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str) -> Settings:
    found = Settings(
        kafka=KafkaSettings(
            bootstrap=kafka_bootstrap, topic_prefix=topic_prefix, partitions=1, replication=1
        ),
        worker=WorkerSettings(session_s=6.0, batch=10, flood_records=5, flood_share=0.5),
    )
    with TopicAdmin(found.kafka) as admin:
        admin.create()
    return found


def source(settings: Settings) -> str:
    return topic_name("submissions", settings.kafka.topic_prefix)


async def submit(settings: Settings, values: Sequence[bytes]) -> None:
    async with PlainWriter(settings.kafka) as writer:
        await writer.write([Outgoing(source(settings), 0, value) for value in values])


async def read(settings: Settings, name: str) -> list[Any]:
    place, found = TopicPartition(name, 0), []
    async with AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap, isolation_level="read_committed", fetch_max_wait_ms=20
    ) as consumer:
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            found += (await consumer.getmany(timeout_ms=50)).get(place, [])
    return found


async def records(settings: Settings, topic: str) -> list[Any]:
    rows = await read(settings, topic_name(topic, settings.kafka.topic_prefix))
    return [record for row in rows for record in unseal(row.value, row.headers)[1]]


async def run(settings: Settings, taken: int, **options: Any) -> StageRunner:
    """Run the stage until it has taken so many records, or raise what ended it."""
    runner = StageRunner(settings, Echo(), instance_id="a", **options)
    ended = None
    try:
        await runner.start()
        ended = asyncio.ensure_future(runner.ended())
        async with asyncio.timeout(20):
            while not ended.done() and sum(p.taken for p in runner.positions.values()) < taken:
                await asyncio.sleep(0.02)
        if ended.done():
            ended.result()
        return runner
    finally:
        await runner.stop()
        if ended is not None:
            await asyncio.wait({ended})


def test_poison_at_every_place_costs_one_dead_letter_each(settings):
    calm = msgspec.structs.replace(settings, worker=WorkerSettings(session_s=6.0, batch=4))
    values = [b"bad %d" % n if n % 3 == 0 else b"good %d" % n for n in range(24)]

    async def check() -> None:
        await submit(calm, values)
        await run(calm, len(values))
        letters = await read(calm, dead_letter_name(source(calm)))
        assert [letter.value for letter in letters] == [value for value in values if value.startswith(b"bad")]
        assert len(await records(calm, "feedback")) == 16

    asyncio.run(check())


def test_a_flood_stops_the_partition_pages_once_and_goes_on_when_somebody_looked(settings):
    async def check() -> None:
        await submit(settings, [b"good"] * 3 + [b"bad"] * 7 + [b"good"] * 40)
        for _ in range(2):  # a supervisor starts it again: nothing changes
            with pytest.raises(FloodError, match="stands still") as caught:
                await run(settings, 50)
            assert len(str(caught.value).splitlines()) == 1
        (page,) = await records(settings, "decisions")
        assert isinstance(page, Decision)
        assert (page.verbs, page.n) == (("page",), 10)
        assert await records(settings, "feedback") == []
        assert await read(settings, dead_letter_name(source(settings))) == []
        looked = msgspec.structs.replace(
            settings, worker=msgspec.structs.replace(settings.worker, flood_share=0.9)
        )
        await run(looked, 50, accept_floods=[(source(settings), 0)])
        assert len(await records(settings, "feedback")) == 43
        assert len(await records(settings, "decisions")) == 1

    asyncio.run(check())


def test_records_gone_by_retention_stop_it_until_the_loss_is_accepted(settings):
    async def check() -> None:
        await submit(settings, [b"good"] * 5)
        await run(settings, 5)
        await submit(settings, [b"good"] * 20)
        with KafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap) as admin:
            admin.delete_records({Place(source(settings), 0): 15})
        with pytest.raises(BrokerError, match=r"offsets 5 to 14 of .* are gone by retention"):
            await run(settings, 15)
        runner = await run(settings, 15, accept_loss=True)
        assert runner.lost == 10
        assert len(await records(settings, "feedback")) == 15

    asyncio.run(check())
