"""Partitions of a stage come and go while their state is restored; sources made anew; foreign members."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import InconsistentGroupProtocolError

from detectors.stages import Delivery, Output, StageState
from streams.checks.port_checks import sample_records
from streams.kafka import opening
from streams.kafka.errors import BrokerError
from streams.kafka.layout import topic_name
from streams.kafka.runner import StageRunner
from streams.kafka.topics import TopicAdmin
from streams.kafka.transactions import Outgoing, PlainWriter, TransactionalWriter
from streams.settings import KafkaSettings, Settings, WorkerSettings
from streams.stage_loop import UnusableStateError

pytestmark = pytest.mark.xdist_group("kafka")
PARTITIONS = 2
SESSION_S = 6.0


class Slow:
    """A raw stage that takes its time to restore, and counts what it is given."""

    name, source, raw = "admit", "submissions", True

    def __init__(self, restore_s: float = 0.0) -> None:
        self.restore_s, self.seen = restore_s, 0
        self.restoring = threading.Event()

    def restore(self, partition: int, stored: Mapping[str, bytes]) -> StageState:
        self.restoring.set()
        time.sleep(self.restore_s)
        return StageState(stored)

    def changes(self, state: StageState) -> dict[str, bytes | None]:
        return state.take_changes()

    def step(self, state: StageState, batch: Sequence[Delivery]) -> tuple[StageState, list[Any]]:
        self.seen += len(batch)
        return state, [Output(topic="feedback", partition=0, record=sample_records(1)[0]) for _ in batch]


class Broken(Slow):
    def restore(self, partition: int, stored: Mapping[str, bytes]) -> StageState:
        if partition == 1:
            raise ValueError("written by another version")
        return StageState(stored)


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str) -> Settings:
    found = Settings(
        kafka=KafkaSettings(
            bootstrap=kafka_bootstrap, topic_prefix=topic_prefix, partitions=PARTITIONS, replication=1
        ),
        worker=WorkerSettings(session_s=SESSION_S, batch=10),
    )
    with TopicAdmin(found.kafka) as admin:
        admin.create()
    return found


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[TransactionalWriter]:
    """All writers that were made, in order."""
    made: list[TransactionalWriter] = []

    def make(*args: Any, **options: Any) -> TransactionalWriter:
        made.append(TransactionalWriter(*args, **options))
        return made[-1]

    monkeypatch.setattr(opening, "TransactionalWriter", make)
    return made


def alive(writers: Sequence[TransactionalWriter]) -> int:
    return sum(not writer._producer._closed for writer in writers)


def source(settings: Settings) -> str:
    return topic_name("submissions", settings.kafka.topic_prefix)


async def submit(settings: Settings, count: int) -> None:
    async with PlainWriter(settings.kafka) as writer:
        await writer.write([Outgoing(source(settings), n % PARTITIONS, b"%d" % n) for n in range(count)])


def taken(*some: StageRunner) -> int:
    return sum(position.taken for runner in some for position in runner.positions.values())


async def until(done: Any, seconds: float = 25.0) -> None:
    async with asyncio.timeout(seconds):
        while not done():
            await asyncio.sleep(0.02)


def test_a_restore_longer_than_a_session_keeps_its_partitions(settings):
    async def run() -> None:
        await submit(settings, 40)
        runner = StageRunner(settings, Slow(restore_s=SESSION_S * 0.7), instance_id="a")
        began_s = time.monotonic()
        await runner.start()
        assert time.monotonic() - began_s > SESSION_S
        await until(lambda: taken(runner) == 40)
        assert runner.app.rebalances == 1
        await runner.stop()

    asyncio.run(run())


def test_partitions_that_go_while_they_are_restored_leave_no_writer_behind(settings, writers):
    async def run() -> None:
        await submit(settings, 40)
        slow, quick = Slow(restore_s=3.0), Slow()
        first = StageRunner(settings, slow, instance_id="a")
        second = StageRunner(settings, quick, instance_id="b")
        starting = asyncio.create_task(first.start())
        await until(slow.restoring.is_set)
        assert alive(writers) == PARTITIONS
        await second.start()
        await starting
        await until(lambda: len(first.positions) == len(second.positions) == 1)
        assert first.app.rebalances == 2
        assert alive(writers) == PARTITIONS < len(writers)
        await until(lambda: taken(first, second) == 40)
        assert slow.seen + quick.seen == 40
        await asyncio.gather(first.stop(), second.stop())
        assert alive(writers) == 0

    asyncio.run(run())


def test_a_worker_that_is_told_to_stop_while_it_restores_leaves_no_writer_behind(settings, writers):
    async def run() -> None:
        slow = Slow(restore_s=2.0)
        starting = asyncio.create_task(StageRunner(settings, slow, instance_id="a").start())
        await until(slow.restoring.is_set)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert alive(writers) == 0

    asyncio.run(run())


def test_state_that_cannot_be_used_names_its_topic_and_the_remedy(settings, writers):
    async def run() -> None:
        with pytest.raises(UnusableStateError) as caught:
            await StageRunner(settings, Broken(), instance_id="a").start()
        (line,) = str(caught.value).splitlines()
        prefix = settings.kafka.topic_prefix
        assert f"kafka: the state in {prefix}.state.admit.v1/1 cannot be used (written by another" in line
        assert "delete and make again its state topic" in line
        assert len(writers) == PARTITIONS
        assert alive(writers) == 0

    asyncio.run(run())


@pytest.mark.parametrize(("count", "accept_loss"), [(80, False), (10, False), (80, True)])
def test_a_source_made_anew_is_refused_however_long_it_is(settings, count, accept_loss):
    async def run() -> None:
        await submit(settings, 40)
        runner = StageRunner(settings, Slow(), instance_id="a")
        await runner.start()
        await until(lambda: taken(runner) == 40)
        assert all(position.topic_id for position in runner.positions.values())
        await runner.stop()
        with TopicAdmin(settings.kafka) as admin:
            admin._client.delete_topics([source(settings)])
            await asyncio.sleep(1.0)
            admin.create()
        await submit(settings, count)
        with pytest.raises(UnusableStateError, match="deleted and made again") as caught:
            await StageRunner(settings, Slow(), instance_id="a", accept_loss=accept_loss).start()
        assert len(str(caught.value).splitlines()) == 1

    asyncio.run(run())


def test_the_transactions_at_hand_end_before_the_group_is_left(settings, monkeypatch):
    async def run() -> None:
        runner = StageRunner(settings, Slow(), instance_id="a")
        await runner.start()
        desks, leave = list(runner._desks.values()), runner.app.stop
        ended = []

        async def stop() -> None:
            ended.extend(desk.task.done() for desk in desks)
            await leave()

        monkeypatch.setattr(runner.app, "stop", stop)
        await runner.stop()
        assert ended == [True] * PARTITIONS

    asyncio.run(run())


def test_two_workers_of_one_name_do_not_fight_for_ever(settings):
    async def run() -> None:
        some = [StageRunner(settings, Slow(), instance_id="a") for _ in range(2)]
        for runner in some:
            await runner.start()
        ends = [asyncio.ensure_future(runner.ended()) for runner in some]
        done, _ = await asyncio.wait(ends, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(BrokerError, match=r"another worker runs as --id a: stop one"):
            done.pop().result()
        await asyncio.gather(*[runner.stop() for runner in some])
        await asyncio.wait(ends)
        assert sum(end.exception() is None for end in ends) == 1

    asyncio.run(run())


async def read_one(consumer: AIOKafkaConsumer) -> None:
    await consumer.start()
    await consumer.getone()


def test_a_foreign_program_cannot_join_our_group(settings):
    async def run() -> None:
        runner = StageRunner(settings, Slow(), instance_id="a")
        await runner.start()
        foreign = AIOKafkaConsumer(
            source(settings), bootstrap_servers=settings.kafka.bootstrap, group_id=runner.about.group
        )
        try:
            with pytest.raises(InconsistentGroupProtocolError):
                await asyncio.wait_for(read_one(foreign), 15)
        finally:
            await foreign.stop()
        assert len(runner.app.assignment()) == PARTITIONS
        await runner.stop()

    asyncio.run(run())


def test_positions_written_before_topics_were_kept_are_read():
    old = msgspec.json.decode(b'{"place":7,"format":1}', type=opening.Position)
    assert (old.place, old.topic_id) == (7, "")
