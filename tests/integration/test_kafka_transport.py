"""The batch transport on a real broker: batches in order, our own positions, members that are fenced."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaAdminClient, TopicPartition

from streams.kafka import faust_batches
from streams.kafka.envelope import RawMessage
from streams.kafka.errors import BrokerError
from streams.kafka.faust_transport import BatchDroppedError, CommitRefusedError
from streams.kafka.layout import topic_name
from streams.kafka.topics import TopicAdmin
from streams.kafka.transactions import Outgoing, TransactionalWriter, read_partitions
from streams.settings import KafkaSettings
from tests.integration.members import PARTITIONS, Reader, until, with_topics

pytestmark = pytest.mark.xdist_group("kafka")


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str) -> KafkaSettings:
    return with_topics(kafka_bootstrap, topic_prefix)


async def send(settings: KafkaSettings, numbers: Sequence[int], *, abort: bool = False) -> None:
    """Write `numbers` in transactions of ten; the markers between them leave gaps in the offsets."""
    topic = topic_name("feedback", settings.topic_prefix)
    async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap, transactional_id="sender") as producer:
        for start in range(0, len(numbers), 10):
            await producer.begin_transaction()
            for number in numbers[start : start + 10]:
                await producer.send(topic, b"%d" % number, partition=number % PARTITIONS)
            await (producer.abort_transaction() if abort else producer.commit_transaction())


def test_batches_come_in_order_without_what_was_aborted(settings):
    async def run() -> None:
        await send(settings, range(200))
        await send(settings, range(1_000, 1_100), abort=True)
        await send(settings, range(200, 300))
        reader = Reader(settings, "a")
        await reader.app.start()
        await until(lambda: len(reader.values) >= 300)
        await reader.app.stop()
        assert sorted(reader.values) == list(range(300))
        assert all(offsets == sorted(set(offsets)) for offsets in reader.offsets.values())
        assert len(reader.sizes) < 150, "a batch is a fetch, not a record"

    asyncio.run(run())


def test_the_next_fetch_waits_as_long_as_the_pace_says(settings):
    async def run() -> None:
        reader = Reader(settings, "a")
        await reader.app.start()
        fetcher = faust_batches.thread_of(reader.app._app)._consumer._fetcher
        assert fetcher._fetch_max_wait_ms == 150
        reader.app.pace.wait_ms = 40
        await send(settings, range(20))
        await until(lambda: len(reader.values) == 20 and fetcher._fetch_max_wait_ms == 40)
        await reader.app.stop()

    asyncio.run(run())


def test_a_second_member_shares_and_nothing_is_skipped(settings):
    async def run() -> None:
        first, second = Reader(settings, "a"), Reader(settings, "b")
        await send(settings, range(400))
        await first.app.start()
        await until(lambda: len(first.values) == 400)
        await first.commit()
        await second.app.start()
        await until(lambda: first.app.rebalances == 2 and len(first.app.assignment()) == 2)
        await send(settings, range(400, 800))
        await until(lambda: len(first.values) + len(second.values) == 800)
        assert sorted(first.values + second.values) == list(range(800))
        assert [what for what, _ in first.moves] == ["assigned", "revoked", "assigned"]
        assert not first.app.assignment() & second.app.assignment()
        await second.app.stop()
        await first.app.stop()

    asyncio.run(run())


def test_uncommitted_records_are_read_again_and_metadata_comes_back(settings):
    async def run() -> None:
        await send(settings, range(100))
        reader = Reader(settings, "a")
        await reader.app.start()
        await until(lambda: len(reader.values) == 100)
        await reader.app.commit({(reader.topic, 0): (5, "before 9")})
        await reader.app.stop()
        again = Reader(settings, "a")
        await again.app.start()
        await until(lambda: len(again.offsets) == PARTITIONS and len(again.values) >= 95)
        assert again.offsets[0][0] == 5
        assert again.offsets[1][0] == 0
        assert await again.app.committed([(again.topic, 0), (again.topic, 1)]) == {
            (again.topic, 0): (5, "before 9"),
            (again.topic, 1): None,
        }
        start, end = (await again.app.bounds([(again.topic, 0)]))[again.topic, 0]
        assert start == 0
        assert end > again.offsets[0][-1]
        await again.app.stop()

    asyncio.run(run())


def test_where_to_begin_is_the_callbacks(settings):
    async def run() -> None:
        await send(settings, range(100))
        reader = Reader(settings, "a")
        reader.begin = {(reader.topic, 2): 7}
        await reader.app.start()
        await until(lambda: len(reader.offsets) == PARTITIONS)
        await reader.app.stop()
        assert reader.offsets[2][0] == 7
        assert reader.offsets[3][0] == 0

    asyncio.run(run())


def test_an_exception_ends_the_app_and_nothing_follows(settings):
    async def run() -> None:
        await send(settings, range(100))
        reader, calls = Reader(settings, "a"), []

        async def fail(records: Sequence[RawMessage]) -> None:
            calls.append(records)
            raise ValueError("no")

        reader.on_batch = fail
        await reader.app.start()
        with pytest.raises(ValueError, match="no"):
            await asyncio.wait_for(reader.app.ended(), 20)
        await asyncio.sleep(0.3)
        await reader.app.stop()
        assert len(calls) == 1

    asyncio.run(run())


def test_an_exception_on_assignment_ends_the_app(settings):
    async def run() -> None:
        reader = Reader(settings, "a")
        reader.begin = {(reader.topic, 0): -1}
        with pytest.raises(ValueError, match="Offset"):
            await asyncio.wait_for(reader.app.start(), 20)

    asyncio.run(run())


def test_a_dropped_batch_comes_again(settings):
    async def run() -> None:
        await send(settings, range(100))
        reader, drops = Reader(settings, "a"), []

        async def drop_some(records: Sequence[RawMessage]) -> None:
            if len(drops) < 5:
                drops.append(records)
                raise BatchDroppedError
            await reader.keep(records)

        reader.on_batch = drop_some
        await reader.app.start()
        await until(lambda: len(reader.values) == 100)
        await reader.app.stop()
        assert sorted(reader.values) == list(range(100))
        assert len(drops) == 5

    asyncio.run(run())


def test_what_faust_throws_away_comes_again_though_nothing_more_is_sent(settings, monkeypatch):
    real = faust_batches._Consumer.getmany
    thrown: set[int] = set()

    async def lossy(consumer: Any, timeout: float) -> AsyncIterator[tuple[Any, Any]]:
        async for tp, message in real(consumer, timeout):
            if message.value.records and tp.partition not in thrown:
                thrown.add(tp.partition)
            else:
                yield tp, message

    monkeypatch.setattr(faust_batches._Consumer, "getmany", lossy)

    async def run() -> None:
        await send(settings, range(100))
        reader = Reader(settings, "a")
        await reader.app.start()
        await until(lambda: len(reader.values) >= 100)
        assert thrown == set(range(PARTITIONS))
        assert sorted(reader.values) == list(range(100))
        assert reader.app.refetches >= PARTITIONS
        await reader.app.stop()

    asyncio.run(run())


def test_who_was_replaced_may_not_commit(settings):
    async def run() -> None:
        await send(settings, range(100))
        reader = Reader(settings, "a")
        await reader.app.start()
        await until(lambda: len(reader.values) == 100)
        twin = Reader(settings, "a")  # the same name: the broker takes it for a restart
        await twin.app.start()
        with pytest.raises(CommitRefusedError):
            await reader.commit()
        await twin.app.stop()
        await reader.app.stop()

    asyncio.run(run())


def test_records_gone_by_retention_are_a_loss_said_loudly(settings):
    async def run() -> None:
        await send(settings, range(100))
        reader = Reader(settings, "a")
        with KafkaAdminClient(bootstrap_servers=settings.bootstrap) as admin:
            admin.delete_records({TopicPartition(reader.topic, 1): 10})
        reader.begin = {(reader.topic, 1): 3}
        await reader.app.start()
        with pytest.raises(BrokerError, match="gone by retention"):
            await asyncio.wait_for(reader.app.ended(), 20)
        await reader.app.stop()

    asyncio.run(run())


def test_no_broker_is_one_line(settings):
    async def run() -> None:
        reader = Reader(KafkaSettings(bootstrap="127.0.0.1:1"), "a")
        with pytest.raises(BrokerError, match=r"no broker at 127\.0\.0\.1:1"):
            await reader.app.start()

    asyncio.run(run())


@pytest.mark.parametrize("user", ["admin", "guest"])
def test_passwords_and_tls(secured_broker, access, topic_prefix, monkeypatch, user):
    monkeypatch.setenv("KAFKA_TEST_ADMIN", access.users["admin"])
    monkeypatch.setenv("KAFKA_TEST_GUEST", access.users["guest"])
    admin = KafkaSettings(
        bootstrap=secured_broker.bootstrap,
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        replication=1,
        tls=True,
        tls_ca_file=str(secured_broker.certificates / "ca.pem"),
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="admin",
        sasl_password_env="KAFKA_TEST_ADMIN",
    )
    with TopicAdmin(admin) as topics:
        topics.create()

    async def run() -> None:
        writer = TransactionalWriter(admin, f"{topic_prefix}.w")
        await writer.start()
        where = topic_name("feedback", topic_prefix)
        await writer.write([Outgoing(where, 0, b"7")], {(where, 0): 0}, f"{topic_prefix}.readers")
        await writer.stop()
        assert await read_partitions(admin, [(where, 0)]) == {(where, 0): {None: b"7"}}
        chosen = msgspec.structs.replace(
            admin, sasl_username=user, sasl_password_env=f"KAFKA_TEST_{user.upper()}"
        )
        reader = Reader(chosen, "a")
        if user == "guest":
            with pytest.raises(BrokerError, match="'guest' is refused"):
                await asyncio.wait_for(reader.app.start(), 30)
            return
        await reader.app.start()
        await until(lambda: reader.values == [7])
        await reader.app.stop()

    asyncio.run(run())
