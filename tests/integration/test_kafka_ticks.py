"""The tick log on a real broker: transactions leave markers, and what was aborted is no record."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from detectors.records import Interaction, Label, Tick
from detectors.stages.contract import StageState
from detectors.stages.score import WATERMARK
from streams.kafka.envelope import place_of, seal, unseal
from streams.kafka.layout import SUBMISSIONS, state_name, topic_name
from streams.kafka.scoring import ScoreRunner
from streams.kafka.state_records import Position, StateRecords
from streams.kafka.tick_log import KafkaTickLog
from streams.kafka.ticker import Reached, tick_once
from streams.kafka.topics import TopicAdmin
from streams.settings import DoorSettings, JournalSettings, KafkaSettings, Settings, WorkerSettings

pytestmark = pytest.mark.xdist_group("kafka")
LABEL = Label(
    deployment="d", label_id="l", interaction_id="i", metric="m", value=1.0, rater="r",
    event_time_ms=5, received_at_ms=6,
)  # fmt: skip
"""Any record: the log does not look inside."""


def soon(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    until_s = time.monotonic() + 20.0
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.05)


class Broker:
    """Writes as the door and as scoring do: in transactions."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.settings = KafkaSettings(bootstrap=bootstrap, topic_prefix=prefix, partitions=3, replication=1)
        with TopicAdmin(self.settings) as admin:
            admin.create()
        self.interactions = topic_name("interactions", prefix)
        self._state, self._doors = state_name("score", prefix), state_name("admit", prefix)
        self._submissions = topic_name(SUBMISSIONS, prefix)
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{prefix}-test")
        self._producer.init_transactions()
        self._plain = KafkaConsumer(bootstrap_servers=bootstrap)
        self._committed = KafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")

    def write(self, partition: int, *counts: int, commit: bool = True) -> None:
        """Write envelopes with so many records."""
        self._producer.begin_transaction()
        for count in counts:
            (sealed,) = seal([LABEL] * count, None)
            headers = list(sealed.headers)
            self._producer.send(self.interactions, value=sealed.value, headers=headers, partition=partition)
        self._end(commit=commit)

    def _end(self, *, commit: bool = True) -> None:
        """End the transaction, and wait until readers see it: the broker marks its end later."""
        self._producer.flush()
        self._producer.commit_transaction() if commit else self._producer.abort_transaction()
        topics = (self.interactions, self._state, self._doors, self._submissions)
        places = [TopicPartition(topic, part) for topic in topics for part in range(3)]
        soon(lambda: self._plain.end_offsets(places) == self._committed.end_offsets(places))

    def submit(self, partition: int, count: int) -> None:
        """Write so many submissions, as normalise does."""
        self._producer.begin_transaction()
        for at in range(count):
            self._producer.send(self._submissions, value=b"%d" % at, partition=partition)
        self._end()

    def admit(self, partition: int, offset: int, *, more: int = 0) -> None:
        """Write the state of admit: the offset it reads next, and behind it `more` records of another."""
        rows = [*StateRecords({}).rows({"ids": b"x"}, Position(place=place_of(offset)))]
        rows += [(b"other/position", b"{}")] * more
        self._producer.begin_transaction()
        for key, value in rows:
            self._producer.send(self._doors, key=key, value=value, partition=partition)
        self._end()

    def score(self, partition: int, watermark_ms: int, offset: int, index: int = 0) -> None:
        """Write the state of scoring: how far in event time, and the place it reads next."""
        state = StageState({})
        state.put(WATERMARK, watermark_ms)
        position = Position(place=place_of(offset, index))
        self._producer.begin_transaction()
        for key, value in StateRecords({}).rows(state.take_changes(), position):
            self._producer.send(self._state, key=key, value=value, partition=partition)
        self._end()

    def ticks(self, partition: int) -> list[Tick]:
        with KafkaConsumer(
            bootstrap_servers=self.settings.bootstrap, isolation_level="read_committed"
        ) as consumer:
            where = TopicPartition(self.interactions, partition)
            consumer.assign([where])
            consumer.seek_to_beginning(where)
            end, found = consumer.end_offsets([where])[where], []
            while consumer.position(where) < end:
                for rows in consumer.poll(100).values():
                    found += [one for row in rows for one in unseal(row.value, row.headers)[1]]
        return [one for one in found if isinstance(one, Tick)]

    def close(self) -> None:
        for client in (self._producer, self._plain, self._committed):
            client.close()


@pytest.fixture
def broker(kafka_bootstrap: str, topic_prefix: str) -> Iterator[Broker]:
    made = Broker(kafka_bootstrap, topic_prefix)
    yield made
    made.close()


def test_markers_and_aborted_records_do_not_keep_a_partition_from_being_drained(broker: Broker) -> None:
    broker.write(0, 2, 3)  # offsets 0, 1; the marker is 2
    broker.write(1, 1)
    broker.write(1, 1, 1, commit=False)
    broker.score(0, 9_000, 1, 2)
    broker.score(1, 1_000, 1)
    log = KafkaTickLog(broker.settings)
    try:
        assert log.reached() == {0: Reached(9_000, 1), 1: Reached(1_000, 1)}
        assert log.drained({0: 1, 1: 0}) == []  # an envelope that was scored in part waits
        assert sorted(log.drained({0: 2, 1: 1, 2: 0})) == [0, 1, 2]
        broker.write(2, 1)
        broker.score(0, 9_500, 2)
        assert log.reached()[0].watermark_ms == 9_500

        def tick() -> int:
            return tick_once(log, partitions=3, live=False, silence_ms=0, now_ms=lambda: 0)

        assert tick() == 1  # 2 has something to read
        assert broker.ticks(1) == [Tick(1, 9_500)]
        assert tick() == 0  # the tick itself is not scored yet
        broker.score(1, 9_500, 6)  # 0 record, 1 marker, 2 and 3 aborted, 4 marker, 5 tick
        broker.score(2, 500, 1)
        assert tick() == 1
        assert broker.ticks(2) == [Tick(2, 9_500)]
        assert broker.ticks(0) == []
    finally:
        log.close()


def test_a_submission_that_waits_for_admit_keeps_its_partition_from_a_tick(broker: Broker) -> None:
    """The place of admit is at the end of its state; markers behind the last submission are no records."""
    broker.write(0, 1)
    broker.score(0, 90_000, 1)
    broker.submit(1, 2)  # offsets 0, 1; the marker is 2
    broker.submit(2, 1)
    broker.admit(2, 1)
    log = KafkaTickLog(broker.settings)

    def tick() -> int:
        return tick_once(log, partitions=3, live=False, silence_ms=0, now_ms=lambda: 0)

    try:
        assert log.admitted([0, 1, 2]) == [0, 2]
        assert tick() == 1
        assert (broker.ticks(1), broker.ticks(2)) == ([], [Tick(2, 90_000)])
        broker.admit(1, 1)
        assert log.admitted([1]) == []
        broker.admit(1, 2, more=40)  # further from the end than the first look reaches
        assert log.admitted([1]) == [1]
        broker.submit(1, 1)
        soon(lambda: log.admitted([1]) == [])
        broker.admit(1, 4)
        assert tick() == 1
        assert broker.ticks(1) == [Tick(1, 90_000)]
    finally:
        log.close()


def test_silent_partitions_follow_the_one_that_speaks(broker: Broker, tmp_path: Path) -> None:
    """The score worker itself: one interaction in one partition, and every partition comes as far."""
    spoken = Interaction(
        deployment="d", interaction_id="i", raw_id="", release="1", prompt="a", response="b",
        event_time_ms=7_000, received_at_ms=7_000,
    )  # fmt: skip
    (sealed,) = seal([spoken], None)
    with KafkaProducer(bootstrap_servers=broker.settings.bootstrap) as producer:
        producer.send(broker.interactions, sealed.value, headers=list(sealed.headers), partition=1).get(15)
    settings = Settings(
        data_dir=str(tmp_path),
        kafka=broker.settings,
        journal=JournalSettings(partitions=3),
        door=DoorSettings(clamp=False),
        worker=WorkerSettings(session_s=6, tick_s=0.1),
    )

    async def story() -> dict[int, int]:
        runner = ScoreRunner(settings, instance_id="one")
        await runner.start()
        try:
            async with asyncio.timeout(60):
                while True:
                    marks = {part: state.get(WATERMARK) for part, state in runner.states.items()}
                    if set(marks.values()) == {7_000} and len(marks) == 3:
                        await asyncio.sleep(1.0)  # and then nothing more: time stands still with the traffic
                        return marks
                    await asyncio.sleep(0.05)
        finally:
            await runner.stop()

    assert asyncio.run(story()) == {0: 7_000, 1: 7_000, 2: 7_000}
    assert [broker.ticks(partition) for partition in range(3)] == [[Tick(0, 7_000)], [], [Tick(2, 7_000)]]
