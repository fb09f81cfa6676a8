"""The act worker on a real broker: decisions are taken once, acted on once, and copied once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaAdminClient, TopicPartition

from detectors.records import Action
from streams.embedded.errors import StorageError
from streams.kafka.act import ActRunner
from streams.kafka.act_copies import ActionCopies
from streams.kafka.envelope import Origin, seal, unseal
from streams.kafka.errors import BrokerError
from streams.kafka.layout import dead_letter_name, topic_name
from streams.kafka.topics import TopicAdmin
from streams.kafka.transactions import FencedError, Outgoing, TransactionalWriter
from streams.kafka.vitals import WorkerVitals
from streams.settings import KafkaSettings, Settings, SettingsError, WorkerSettings
from tests.integration.reading import read_topic
from tests.streams.response_world import DECLARED, LIVE, START, Pager, Target, bucket, decision

pytestmark = pytest.mark.xdist_group("kafka")


class Installation:
    """Topics on the broker, one ledger, one target and one pager; workers come and go."""

    def __init__(self, bootstrap: str, prefix: str, data_dir: Path) -> None:
        kafka = KafkaSettings(bootstrap=bootstrap, topic_prefix=prefix, partitions=2, replication=1)
        self.settings = Settings(
            data_dir=str(data_dir), kafka=kafka, act=LIVE, worker=WorkerSettings(session_s=6)
        )
        self.target, self.pager, self.now_ms = Target(), Pager(), START
        self.decisions, self.actions = topic_name("decisions", prefix), topic_name("actions", prefix)
        self._place = 0
        with TopicAdmin(kafka) as admin:
            admin.create()

    def runner(self, **more: Any) -> ActRunner:
        made = ActRunner(self.settings, instance_id="one", clock=lambda: self.now_ms, **more)
        made._parts = msgspec.structs.replace(
            made._parts, notifiers={"pager": self.pager}, targets={"*": self.target}
        )
        return made

    @contextlib.asynccontextmanager
    async def running(self, **more: Any) -> AsyncIterator[ActRunner]:
        runner = self.runner(**more)
        await runner.start()
        try:
            yield runner
        finally:
            await runner.stop()

    async def tell(self, *records: Any, raw: bytes | None = None, commit: bool = True) -> None:
        """Write one envelope as ``decide`` does."""
        kafka = self.settings.kafka
        writer = TransactionalWriter(kafka, f"{kafka.topic_prefix}.decide.0")
        await writer.start()
        self._place += 1
        sealed = seal(records, Origin("decide", "signals", 0, self._place))
        outgoing = [Outgoing(self.decisions, 0, one.value, None, one.headers) for one in sealed]
        if raw is not None:
            outgoing = [Outgoing(self.decisions, 0, raw, b"key"), *outgoing]
        await writer.write(outgoing)
        await writer.stop()

    def copied(self) -> list[Action]:
        rows = read_topic(self.settings.kafka, self.actions)
        return [one for row in rows for one in unseal(row.value, row.headers)[1]]

    def kinds(self) -> list[tuple[str, str, int]]:
        return sorted((one.kind, one.state, one.seq) for one in self.copied())


@pytest.fixture
def place(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Installation:
    return Installation(kafka_bootstrap, topic_prefix, tmp_path)


async def until(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not fact():
            await asyncio.sleep(0.02)


def told(runner: ActRunner) -> dict[str, dict[tuple[str, ...], float]]:
    return {one.name: dict(one.values) for one in WorkerVitals([runner], stuck_after_s=60).read()}


WHOLE = [
    ("page", "DELIVERED", 1),
    ("page", "DELIVERED", 1),
    ("rollback", "DECIDED", 0),
    ("rollback", "EXECUTING", 1),
    ("rollback", "ROLLED_BACK", 3),
    ("rollback", "VERIFYING", 2),
]


def test_a_decision_becomes_a_verified_rollback_across_restarts_and_is_copied_once(
    place: Installation,
) -> None:
    async def story() -> None:
        await place.tell(*DECLARED, decision(1))
        async with place.running() as runner:
            await until(lambda: place.target.moves and place.pager.got)
            assert runner.intake.places[0] > 0
        for minute in range(1, 8):
            await place.tell(*bucket(minute, 0.0), raw=b"poison" if minute == 3 else None)
        place.now_ms += 8 * 60_000
        async with place.running() as runner:
            await until(lambda: runner.machine.acts()[0].state == "ROLLED_BACK")
            async with asyncio.timeout(30):  # a page got is not yet a page noted, nor one copied
                while await asyncio.to_thread(place.kinds) != WHOLE:
                    await asyncio.sleep(0.1)
            assert len(place.pager.got) == 2
            await until(lambda: runner.read().ends)
            await until(lambda: told(runner)["acts"] == {("open",): 0.0, ("failed",): 0.0})
            await until(lambda: not runner.read().look.behind)  # markers at the end are nothing to read
            assert told(runner)["actions_copied"]["act",] >= 2
            assert WorkerVitals([runner], stuck_after_s=60).ready().problems == {}
        async with place.running() as runner:  # and nothing again
            await until(lambda: runner.intake.places.get(0))
            await asyncio.sleep(0.5)
            assert runner.copies.written == 0

    asyncio.run(story())
    assert len(place.target.moves) == 1
    assert place.kinds() == WHOLE
    (letter,) = read_topic(place.settings.kafka, dead_letter_name(place.decisions))
    assert letter.value == b"poison"


def test_a_copy_of_which_nobody_heard_is_not_made_again(
    place: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction is committed and its answer is lost: the ledger's mark is in the log, not in memory."""
    write = TransactionalWriter.write
    calls = []

    async def deaf(self: TransactionalWriter, *arguments: Any, **more: Any) -> None:
        await write(self, *arguments, **more)
        if self._name.endswith(".act"):
            calls.append(1)
            raise BrokerError("kafka: the answer was lost")

    async def story() -> None:
        await place.tell(decision(1, verbs=("page",)))
        with monkeypatch.context() as patched:
            patched.setattr(TransactionalWriter, "write", deaf)
            runner = place.runner()
            await runner.start()
            with pytest.raises(BrokerError, match="the answer was lost"):
                await runner.ended()
            await runner.stop()
        async with place.running():
            await asyncio.sleep(0.5)

    asyncio.run(story())
    assert calls == [1]
    assert place.kinds() == [("page", "DELIVERED", 1)]


def test_who_starts_later_ends_the_one_before(place: Installation) -> None:
    async def story() -> None:
        async with place.running() as runner:
            later = ActionCopies(place.settings.kafka, runner.machine)
            await later.start()
            await place.tell(decision(1, verbs=("page",)))
            with pytest.raises(FencedError, match="taken over by another worker"):
                await runner.ended()
            await later.stop()

    asyncio.run(story())
    assert place.copied() == []


def test_one_ledger_has_one_worker(place: Installation) -> None:
    async def story() -> None:
        async with place.running() as runner:
            with pytest.raises(StorageError, match="in use by another plumbline process"):
                await place.runner().start()
            await place.tell(decision(1, verbs=("page",)))
            await until(lambda: runner.copies.written)  # the first one did not notice

    asyncio.run(story())


def test_a_foreign_ledger_is_refused_and_ends_nobody(place: Installation, tmp_path: Path) -> None:
    async def story() -> None:
        async with place.running() as runner:
            await place.tell(decision(1, verbs=("page",)))
            await until(lambda: runner.copies.written)
            other = ActRunner(msgspec.structs.replace(place.settings, data_dir=str(tmp_path / "other")))
            with pytest.raises(BrokerError, match="holds less than what was copied from it"):
                await other.start()
            await place.tell(decision(2, verbs=("page",)))
            await until(lambda: runner.copies.written == 2)

    asyncio.run(story())
    assert place.kinds() == [("page", "DELIVERED", 1)] * 2


def test_decisions_that_retention_took_are_reported_and_not_passed_over(
    place: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        await place.tell(decision(1, verbs=("page",)))
        async with place.running() as runner:
            await until(lambda: runner.copies.written)
        await place.tell(decision(2, verbs=("page",)))
        await place.tell(decision(3, verbs=("page",)))
        with KafkaAdminClient(bootstrap_servers=place.settings.kafka.bootstrap) as admin:
            admin.delete_records({TopicPartition(place.decisions, 0): 4})  # each is followed by a marker
        with pytest.raises(BrokerError, match=r"lost offsets 1 to 3.*--accept-loss"):
            await place.runner().start()
        async with place.running(accept_loss=True) as runner:
            await until(lambda: runner.copies.written)
        assert "lost offsets 1 to 3" in caplog.text

    asyncio.run(story())
    taken = {one.decision_id for one in place.copied()}
    assert taken == {decision(1).decision_id, decision(3).decision_id}


def test_a_ledger_that_is_ahead_of_the_log_is_refused(place: Installation, topic_prefix: str) -> None:
    async def story() -> None:
        await place.tell(*[decision(number, verbs=()) for number in range(3)])
        async with place.running() as runner:
            await until(lambda: runner.intake.taken == 3)
        kafka = msgspec.structs.replace(place.settings.kafka, topic_prefix=f"{topic_prefix}-b")
        with TopicAdmin(kafka) as admin:
            admin.create()
        place.settings = msgspec.structs.replace(place.settings, kafka=kafka)
        with pytest.raises(BrokerError, match="belongs to another cluster or prefix"):
            await place.runner().start()

    asyncio.run(story())


def test_event_time_is_refused(place: Installation) -> None:
    act = msgspec.structs.replace(LIVE, clock="event")
    with pytest.raises(SettingsError, match=r'act.clock: .*set clock = "wall"'):
        ActRunner(msgspec.structs.replace(place.settings, act=act))
