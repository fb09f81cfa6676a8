"""The stages on Kafka give the embedded runner's results: over workers, rebalances and kills."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from detectors.records import Interaction, Scorecard, Tick
from detectors.records.codec import Record
from detectors.records.ids import partition_of
from streams.assembly import assemble
from streams.kafka.envelope import Origin, RawMessage, place_of, seal, unseal
from streams.kafka.layout import topic_name
from streams.kafka.runner import StageRunner
from streams.kafka.topics import TopicAdmin
from streams.kafka.transactions import Outgoing, PlainWriter
from streams.settings import KafkaSettings, Settings, WorkerSettings
from streams.stage_loop import UnusableStateError
from tests.integration import test_results_are_exact as exact

pytestmark = pytest.mark.xdist_group("kafka")
PARTITIONS = 4
MANY = 20_000
RESULTS = ("scorecards", "signals", "decisions", "references")


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str) -> Settings:
    found = msgspec.structs.replace(
        exact.settings_for(PARTITIONS),
        kafka=KafkaSettings(
            bootstrap=kafka_bootstrap, topic_prefix=topic_prefix, partitions=PARTITIONS, replication=1
        ),
        worker=WorkerSettings(session_s=6.0, batch=200, silence_s=1e9),
    )
    with TopicAdmin(found.kafka) as admin:
        admin.create()
    return found


def source(count: int = exact.COUNT) -> list[tuple[int, Record]]:
    """Return what the door would write: partition and record, in order."""
    written: list[tuple[int, Record]] = []
    for key, record in exact.arrival(PARTITIONS, count):
        targets = range(PARTITIONS) if key is None else (partition_of(key, PARTITIONS),)
        written += [(target, record) for target in targets]
    return written


def last_ticks(count: int = exact.COUNT) -> list[tuple[int, Record]]:
    last_ms = max(r.event_time_ms for _, r in exact.traffic(count) if isinstance(r, Interaction))
    return [(target, Tick(target, last_ms + 200_000)) for target in range(PARTITIONS)]


async def write(settings: Settings, rows: Sequence[tuple[int, Record]], *, first: int = 0) -> None:
    """Write `rows` to interactions in envelopes of up to fifty, as batches of one door would be."""
    name = topic_name("interactions", settings.kafka.topic_prefix)
    async with PlainWriter(settings.kafka) as writer:
        for at in range(0, len(rows), 100):
            outgoing = []
            for target in range(PARTITIONS):
                some = [record for part, record in rows[at : at + 100] if part == target]
                sealed = seal(some, Origin("admit", "submissions", 0, first + at))
                outgoing += [Outgoing(name, target, one.value, None, one.headers) for one in sealed]
            await writer.write(outgoing)


async def read(settings: Settings, topic: str) -> list[tuple[RawMessage, list[Record]]]:
    """Return what is committed in `topic`."""
    name = topic_name(topic, settings.kafka.topic_prefix)
    found = []
    async with AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
    ) as consumer:
        places = [TopicPartition(name, part) for part in range(PARTITIONS)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for tp, records in (await consumer.getmany(timeout_ms=50)).items():
                for one in records:
                    at = (tp.topic, tp.partition, one.offset, one.timestamp)
                    message = RawMessage(*at, one.key, one.value, tuple(one.headers))
                    found.append((message, unseal(one.value, one.headers)[1]))
    return found


async def results(settings: Settings) -> dict[str, list[bytes]]:
    """Return scorecards, signals, decisions and references in the form of :func:`exact.collect`."""
    log = exact.MemoryLog(PARTITIONS)
    for topic in RESULTS:
        for message, records in await read(settings, topic):
            for record in records:
                log.append(topic, message.partition, record)
    return exact.collect(log)


async def settle(
    settings: Settings, wanted: dict[str, list[bytes]], seconds: float
) -> dict[str, list[bytes]]:
    """Wait until there are as many results as are wanted, and a little longer; return them."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        found = await results(settings)
        if all(len(found[name]) >= len(rows) for name, rows in wanted.items()):
            await asyncio.sleep(1.0)
            return await results(settings)
        await asyncio.sleep(1.0)
    return await results(settings)


def same(found: dict[str, list[bytes]], wanted: dict[str, list[bytes]]) -> None:
    assert {name: len(rows) for name, rows in found.items()} == {n: len(r) for n, r in wanted.items()}
    for name, rows in wanted.items():
        assert found[name] == rows, name


def runners(settings: Settings, name: str) -> list[StageRunner]:
    return [StageRunner(settings, stage, instance_id=name) for stage in assemble(settings).stages]


async def started(some: list[StageRunner]) -> list[StageRunner]:
    await asyncio.gather(*[runner.start() for runner in some])
    return some


def test_two_workers_and_a_rebalance_give_the_results_of_the_embedded_runner(settings):
    rows, wanted = source(MANY), exact.expected(MANY)
    third = len(rows) // 3
    assert len(wanted["Scorecard"]) == MANY

    async def run() -> None:
        await write(settings, rows[:third])
        first = await started(runners(settings, "a"))
        await write(settings, rows[third : 2 * third], first=third)
        second = await started(runners(settings, "b"))  # takes half of everything, in the middle of it
        await write(settings, rows[2 * third :], first=2 * third)
        await write(settings, last_ticks(MANY), first=len(rows))
        found = await settle(settings, wanted, 180)
        for runner in (*first, *second):
            assert not any(position.repeated for position in runner.positions.values())
        assert all(runner.app.rebalances >= 2 for runner in first)
        assert all(len(runner.positions) == PARTITIONS // 2 for runner in (*first, *second))
        await asyncio.gather(*[runner.stop() for runner in (*first, *second)])
        same(found, wanted)
        for message, cards in await read(settings, "scorecards"):
            for card in (card for card in cards if isinstance(card, Scorecard)):
                assert card.source_offset >= place_of(0)
                assert message.partition == partition_of(card.deployment, PARTITIONS)

    asyncio.run(run())


class Worker:
    """``plumbline worker`` in a process of its own, started again by whoever killed it."""

    def __init__(self, config: Path, stages: str, name: str) -> None:
        self._command = [sys.executable, "-c", "from streams.cli import main; main()", "worker"]
        self._command += ["--config", str(config), "--stages", stages, "--id", name]
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE)
        return self.process

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> tuple[int, str]:
        """Stop with SIGTERM; return exit code and standard error."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=40)
        return self.process.returncode, said.decode()


def write_config(settings: Settings, folder: Path) -> Path:
    shared = ("kafka", "worker", "detect")
    lines = []
    for section in shared:
        lines.append(f"[{section}]")
        for field, value in msgspec.to_builtins(getattr(settings, section)).items():
            lines.append(f"{field} = {msgspec.json.encode(value).decode()}")
    lines += ["[[segment]]", 'name = "language"', 'source = "language"', "top = 3", ""]
    path = folder / "plumbline.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_kill_nine_in_the_middle_loses_and_doubles_nothing(settings, tmp_path):
    rows = source()
    parts = 3
    config = write_config(settings, tmp_path)

    async def run() -> dict[str, list[bytes]]:
        workers = {stage: Worker(config, stage, "a") for stage in ("score", "detect", "decide")}
        try:
            for number in range(parts):
                piece = rows[len(rows) * number // parts : len(rows) * (number + 1) // parts]
                await write(settings, piece, first=number * len(rows))
                await asyncio.sleep(1.5)
                victim = workers[("score", "detect", "decide")[number % 3]]
                victim.kill()
                victim.start()
            await write(settings, last_ticks(), first=parts * len(rows))
            found = await settle(settings, exact.expected(), 60)
            for worker in workers.values():
                code, said = await asyncio.to_thread(worker.end)
                assert code == 0, said
        finally:
            for worker in workers.values():
                worker.kill()
        return found

    same(asyncio.run(run()), exact.expected())


def test_a_fleet_runs_several_stages_and_ends_with_the_first_that_dies(settings, tmp_path):
    fleet = Worker(write_config(settings, tmp_path), "score,decide", "a")
    children: list[int] = []
    until_s = time.monotonic() + 30
    while len(children) < 2 and time.monotonic() < until_s:
        time.sleep(0.2)
        children = [int(pid) for pid in child_pids(fleet.process.pid)]
    os.kill(children[0], signal.SIGKILL)
    _, said = fleet.process.communicate(timeout=40)
    assert fleet.process.returncode == 128 + signal.SIGKILL
    assert b"score ended with exit code 137" in said.splitlines()[-1]
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def child_pids(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()


@pytest.mark.parametrize(
    ("stages", "change", "end"),
    [
        ("score,dtect", {}, (2, "no stage 'dtect'")),
        ("score", {"bootstrap": "127.0.0.1:1"}, (1, "no broker at 127.0.0.1:1")),
        ("score", {"partitions": 7}, (1, "partitions")),
    ],
)
def test_what_cannot_run_ends_with_one_line(settings, tmp_path, stages, change, end):
    code, said = end
    kafka = msgspec.structs.replace(settings.kafka, **change)
    worker = Worker(write_config(msgspec.structs.replace(settings, kafka=kafka), tmp_path), stages, "a")
    _, error = worker.process.communicate(timeout=40)
    assert worker.process.returncode == code
    (line,) = error.decode().splitlines()
    assert line.startswith("plumbline: ")
    assert said in line


def test_a_deleted_state_is_told_and_not_written_twice(settings):
    async def run() -> Any:
        await write(settings, source()[:400])
        (runner, *_) = runners(settings, "a")
        await runner.start()
        async with asyncio.timeout(20):
            while sum(position.taken for position in runner.positions.values()) < 400:
                await asyncio.sleep(0.1)
        await runner.stop()
        with TopicAdmin(settings.kafka) as admin:
            admin._client.delete_topics([f"{settings.kafka.topic_prefix}.state.score.v1"])
            await asyncio.sleep(1.0)
            admin.create()
        (again, *_) = runners(settings, "a")
        with pytest.raises(UnusableStateError, match="state was deleted") as caught:
            await again.start()
        assert len(str(caught.value).splitlines()) == 1

    asyncio.run(run())
