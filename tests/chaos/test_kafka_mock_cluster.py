"""Errors that a real broker gives on bad days only, from librdkafka's mock cluster: seconds, and no Java."""

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest
from confluent_kafka import Producer

from streams.kafka.envelope import RawMessage
from streams.kafka.faust_transport import CommitRefusedError, ConsumerApp, Where
from streams.kafka.fetching import FetchSize
from streams.kafka.watchdog import EXIT_CODE, Judgement, Look, Watchdog
from streams.settings import KafkaSettings
from tests.chaos.kafka_mock import (
    COORDINATOR_LOADING,
    HEARTBEAT,
    ILLEGAL_GENERATION,
    INVALID_REQUEST,
    JOIN_GROUP,
    NOT_COORDINATOR,
    OFFSET_COMMIT,
    REBALANCE_IN_PROGRESS,
    SYNC_GROUP,
    UNKNOWN_MEMBER,
    MockCluster,
)

TOPIC, PARTITIONS, COUNT = "numbers", 2, 400
pytestmark = pytest.mark.xdist_group("kafka")


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as mock:
        mock.make_topic(TOPIC, PARTITIONS)
        send(mock, range(COUNT))
        yield mock


def send(mock: MockCluster, numbers: Sequence[int]) -> None:
    producer = Producer({"bootstrap.servers": mock.bootstrap, "linger.ms": 1})
    for number in numbers:
        producer.produce(TOPIC, b"%d" % number, partition=number % PARTITIONS)
    assert producer.flush(20) == 0


class Reader:
    """A member that keeps what it committed: the sink of this test is the list itself."""

    def __init__(self, mock: MockCluster, kept: list[int], *, name: str = "") -> None:
        self.kept, self.begun, self.refused = kept, 0, 0
        self._commits = True
        self.app = ConsumerApp(
            KafkaSettings(bootstrap=mock.bootstrap, partitions=PARTITIONS, replication=1),
            group="readers",
            topics=[TOPIC],
            instance_id=name,
            session_s=6.0,
            fetch=FetchSize(1 << 16, 150),
            on_batch=self._on_batch,
            on_assigned=self._on_assigned,
            on_revoked=self._on_revoked,
        )

    async def _on_batch(self, topic: str, partition: int, records: Sequence[RawMessage]) -> None:
        """Commit first and keep then: what a refused commit covers was never kept."""
        self.begun += 1
        try:
            await self.app.commit({(topic, partition): (records[-1].offset + 1, "kept")})
        except CommitRefusedError:
            self.refused += 1
            raise
        self.kept += [int(record.value or b"") for record in records]

    async def _on_assigned(self, where: set[Where]) -> None:
        pass

    async def _on_revoked(self, where: set[Where]) -> None:
        pass


async def live(mock: MockCluster, kept: list[int], *, seconds: float = 20.0, wanted: int = COUNT) -> Reader:
    """Let one reader live until it has read everything, or has ended itself."""
    reader = Reader(mock, kept)
    async with asyncio.timeout(seconds):
        await reader.app.start()
    ended = asyncio.ensure_future(reader.app.ended())
    try:
        async with asyncio.timeout(seconds):
            while len(kept) < wanted and not ended.done():
                await asyncio.sleep(0.02)
        if ended.done():
            ended.result()
    finally:
        ended.cancel()
        await reader.app.stop()
    return reader


def test_what_is_read_is_read_once_and_in_order(cluster: MockCluster) -> None:
    kept: list[int] = []
    asyncio.run(live(cluster, kept))
    assert sorted(kept) == list(range(COUNT))
    assert all(mine == sorted(mine) for mine in ([n for n in kept if n % 2 == odd] for odd in (0, 1)))


def test_a_coordinator_that_moved_is_asked_again(cluster: MockCluster) -> None:
    kept: list[int] = []
    cluster.fail_next(OFFSET_COMMIT, [NOT_COORDINATOR] * 3)
    reader = asyncio.run(live(cluster, kept))
    assert sorted(kept) == list(range(COUNT))
    assert reader.refused == 0


@pytest.mark.parametrize("error", [ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCE_IN_PROGRESS])
def test_a_refused_commit_ends_the_member_and_the_next_one_goes_on(cluster: MockCluster, error: int) -> None:
    kept: list[int] = []
    cluster.fail_next(OFFSET_COMMIT, [error])
    with pytest.raises(CommitRefusedError):
        asyncio.run(live(cluster, kept))
    asyncio.run(live(cluster, kept))
    assert sorted(kept) == list(range(COUNT)), "lost or doubled"


@pytest.mark.parametrize(
    ("request_kind", "errors"),
    [
        (JOIN_GROUP, [NOT_COORDINATOR, COORDINATOR_LOADING]),
        (SYNC_GROUP, [NOT_COORDINATOR, REBALANCE_IN_PROGRESS]),
        (HEARTBEAT, [NOT_COORDINATOR, REBALANCE_IN_PROGRESS]),
    ],
)
def test_errors_of_the_group_cost_time_and_nothing_else(
    cluster: MockCluster, request_kind: int, errors: list[int]
) -> None:
    kept: list[int] = []
    cluster.fail_next(request_kind, errors)
    asyncio.run(live(cluster, kept, seconds=30.0))
    assert sorted(kept) == list(range(COUNT))


def test_a_broker_that_goes_and_comes_back(cluster: MockCluster) -> None:
    kept: list[int] = []

    async def run() -> None:
        reading = asyncio.ensure_future(live(cluster, kept, seconds=40.0, wanted=2 * COUNT))
        while len(kept) < COUNT:
            await asyncio.sleep(0.02)
        cluster.take_down()
        await asyncio.sleep(1.0)
        cluster.bring_up()
        await asyncio.to_thread(send, cluster, range(COUNT, 2 * COUNT))
        await reading

    asyncio.run(run())
    assert sorted(kept) == list(range(2 * COUNT))


def test_a_member_that_hangs_after_joining_is_ended_by_its_watchdog(cluster: MockCluster) -> None:
    """The broker's answer to SyncGroup that no client expects leaves a member without partitions."""
    cluster.fail_next(SYNC_GROUP, [INVALID_REQUEST] * 1_000)
    ended: list[int] = []
    done = threading.Event()

    async def run() -> None:
        reader = Reader(cluster, [])
        watchdog = Watchdog(
            lambda: Look(assigned=bool(reader.app.assignment()), behind=True, waiting=False, moved=0.0),
            Judgement(stuck_after_s=2.0, unassigned_after_s=2.0),
            part="score",
            end=lambda code: (ended.append(code), done.set()),
        )
        watchdog.start()
        starting = asyncio.ensure_future(reader.app.start())
        noticed = asyncio.ensure_future(asyncio.to_thread(done.wait, 20.0))
        await asyncio.wait({starting, noticed}, return_when=asyncio.FIRST_COMPLETED)
        failed = starting.done() and starting.exception() is not None
        assert failed or await noticed, "it hangs, and nobody has noticed"
        assert not reader.app.assignment()
        watchdog.stop()
        done.set()
        starting.cancel()

    asyncio.run(run())
    assert ended in ([], [EXIT_CODE])
