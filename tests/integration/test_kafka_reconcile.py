"""The audit on a real broker and a real engine: clean is clean, and all that was done by hand is found."""

import asyncio
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from kafka import KafkaAdminClient, TopicPartition

from detectors.records import Feedback, Interaction, Label, Release, Tick
from detectors.records.codec import Record
from streams.cli import plumbline
from streams.kafka.envelope import Origin, place_of, seal
from streams.kafka.land_worker import LandWorker
from streams.kafka.layout import state_name, topic_name
from streams.kafka.state_records import Position, position_row
from streams.kafka.topics import TopicAdmin
from streams.kafka.transactions import Outgoing, TransactionalWriter
from streams.settings import KafkaSettings, LandSettings, Settings, WorkerSettings
from streams.store import open_store
from tests.streams.clickhouse_door_world import READER, WRITER, World, serving
from tests.streams.landing_world import FAR_MS, card

pytestmark = pytest.mark.xdist_group("kafka")
PARTITIONS, EACH = 2, 40


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    store = open_store(path=tmp_path_factory.mktemp("audit") / "store")
    store.migrate()
    with serving(store, max_execution_s=20.0) as made:
        yield made
    store.close()


def interaction(name: str) -> Interaction:
    return Interaction(
        deployment="d", interaction_id=name, raw_id=name, release="r", event_time_ms=FAR_MS,
        received_at_ms=FAR_MS, prompt="p", response="r",
    )  # fmt: skip


def label(name: str, comment: str = "") -> Label:
    return Label(
        deployment="d", label_id=name, interaction_id="i", metric="m", value=0.5, rater="r", comment=comment,
        event_time_ms=FAR_MS, received_at_ms=FAR_MS,
    )  # fmt: skip


class Traffic:
    """Writes as the stages do, and remembers where everything came to stand."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.kafka = kafka
        self.places: dict[str, tuple[int, int]] = {}

    async def write(self) -> None:
        writer = TransactionalWriter(self.kafka, f"{self.kafka.topic_prefix}.writer")
        await writer.start()
        for partition in range(PARTITIONS):
            await self._write(writer, partition)
        await writer.stop()

    async def _write(self, writer: TransactionalWriter, partition: int) -> None:
        names = [f"{partition}-{index}" for index in range(EACH)]
        offset = 0
        for first in range(0, EACH, 10):
            batch: list[Record] = [*map(interaction, names[first : first + 10]), Tick(partition, first)]
            await self.send(writer, "interactions", partition, batch)
            for index, name in enumerate(names[first : first + 10]):
                self.places[name] = (partition, place_of(offset, index))
            offset += 2  # the batch, and the marker of its transaction
        cards = [
            msgspec.structs.replace(
                card(name, 3), source_partition=partition, source_offset=self.places[name][1]
            )
            for name in names
        ]
        # Cards go to another partition than the interactions that they are of.
        other = (partition + 1) % PARTITIONS
        for first in range(0, EACH, 8):
            await self.send(writer, "scorecards", other, [*cards[first : first + 8], Tick(partition, first)])
        await self.send(writer, "labels", partition, [label(f"{partition}-l{i}", "why") for i in range(6)])
        feedback = Feedback(
            deployment="d", feedback_id=f"{partition}-f", interaction_id="i", kind="thumb", value=1.0,
            comment="so", event_time_ms=FAR_MS, received_at_ms=FAR_MS,
        )  # fmt: skip
        await self.send(writer, "feedback", partition, [feedback])
        # The same declaration twice: two records, of which the store may keep one row.
        release = Release(deployment="d", release=f"r{partition}", role="stable", started_at_ms=FAR_MS)
        await self.send(writer, "releases", partition, [release, release])
        bad = Outgoing(topic_name("labels", self.kafka.topic_prefix), partition, b"not an envelope", b"k")
        await writer.write([bad])
        key, value = position_row(Position(place=place_of(offset), taken=EACH))
        source = (topic_name("interactions", self.kafka.topic_prefix), partition)
        state = Outgoing(state_name("score", self.kafka.topic_prefix), partition, value, key)
        await writer.write([state], {source: offset}, f"{self.kafka.topic_prefix}.score")

    async def send(
        self, writer: TransactionalWriter, topic: str, partition: int, records: Sequence[Record]
    ) -> None:
        sealed = seal(records, Origin("test", "t", partition, 0))
        name = topic_name(topic, self.kafka.topic_prefix)
        await writer.write([Outgoing(name, partition, one.value, headers=one.headers) for one in sealed])


@pytest.fixture(scope="module")
def kafka(kafka_bootstrap: str) -> Iterator[KafkaSettings]:
    """Topics that all tests here share; a broker that is not ours is left as it was found."""
    prefix = f"test-{secrets.token_hex(6)}"
    chosen = KafkaSettings(
        bootstrap=kafka_bootstrap, topic_prefix=prefix, partitions=PARTITIONS, replication=1
    )
    with TopicAdmin(chosen) as admin:
        admin.create()
    yield chosen
    if os.environ.get("KAFKA_BOOTSTRAP"):
        with KafkaAdminClient(bootstrap_servers=kafka_bootstrap) as client:
            client.delete_topics([name for name in client.list_topics() if name.startswith(prefix)])


@pytest.fixture(scope="module")
def tokens() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TEST_WRITER", WRITER)
        patched.setenv("TEST_READER", READER)
        yield


@pytest.fixture(scope="module")
def config(kafka: KafkaSettings, door: World, tokens: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what the audit is told; all of the traffic has landed. The tests follow on one another."""
    tmp_path = tmp_path_factory.mktemp("config")
    settings = Settings(
        data_dir=str(tmp_path),
        kafka=kafka,
        land=LandSettings(
            dsn=f"http://landing@127.0.0.1:{door.port}", password_env="TEST_WRITER", flush_s=0.1
        ),
        worker=WorkerSettings(session_s=6.0),
    )
    asyncio.run(land(Traffic(kafka), settings))
    path = tmp_path / "plumbline.toml"
    path.write_text(
        f'[kafka]\nbootstrap = "{kafka.bootstrap}"\ntopic_prefix = "{kafka.topic_prefix}"\n'
        f"partitions = {PARTITIONS}\nreplication = 1\n"
        f'[clickhouse_door]\nenabled = true\nport = {door.port}\nreader_token_env = "TEST_READER"\n',
        encoding="utf-8",
    )
    return path


async def land(traffic: Traffic, settings: Settings) -> None:
    await traffic.write()
    worker = LandWorker(settings, instance_id="one")
    await worker.start()
    async with asyncio.timeout(60):
        while True:
            bounds = await worker.app.bounds(worker.app.assignment())
            ends = {where: end for where, (_, end) in bounds.items()}
            committed = await worker.app.committed(set(ends))
            if ends and all((committed[w] or (0, ""))[0] >= end - 1 for w, end in ends.items()):
                break
            await asyncio.sleep(0.1)
    await worker.stop()


def command(door: World, sql: str) -> None:
    door.store._client.command(sql)


def reconcile(config: Path, *more: str) -> Result:
    return CliRunner().invoke(plumbline, ["reconcile", "--full", "--config", str(config), *more])


def found(result: Result, kind: str) -> dict[tuple[str, int], int]:
    """Return by table and partition how many rows are of `kind`."""
    report = json.loads(result.stdout)
    return {(one["table"], one["partition"]): one[kind] for one in report["tables"] if one[kind]}


def examples(result: Result, table: str, kind: str) -> set[str]:
    report = json.loads(result.stdout)
    texts = [text for one in report["tables"] if one["table"] == table for text in one["examples"]]
    return {text.split("@")[1] for text in texts if text.startswith(kind)}


def test_what_landed_once_is_clean_and_says_how_much_it_looked_at(config: Path) -> None:
    result = reconcile(config, "--json")
    assert result.stdout, (result.output, result.exception)
    report = json.loads(result.stdout)
    wrong = [one for one in report["groups"] if one["problem"] or one["gap"]]
    assert (result.exit_code, wrong, report["untold"]) == (0, [], []), result.output
    compared: dict[str, int] = {}
    for one in report["tables"]:
        assert (one["lost"], one["doubled"], one["stray"], one["examples"]) == (0, 0, 0, []), one
        compared[one["table"]] = compared.get(one["table"], 0) + one["compared"]
    total = PARTITIONS * EACH
    for table in ("interactions", "interaction_text", "scorecards", "scores", "scorecards of interactions"):
        assert compared[table] == total, table
    assert (compared["labels"], compared["comments"], compared["feedback"]) == (12, 14, 2)
    text = reconcile(config)
    assert (text.exit_code, "lost 0, doubled 0, stray 0, gaps 0" in text.stdout) == (0, True)
    assert json.loads(reconcile(config, "--json", "--since", "1h").stdout)["exit_code"] in {0}


def test_what_cannot_be_asked_is_said_in_one_line_and_is_no_clean_bill(config: Path, tmp_path: Path) -> None:
    text = config.read_text(encoding="utf-8")
    for remove, instead in (("port = ", "port = 1 #"), ("enabled = true", "enabled = false")):
        other = tmp_path / "other.toml"
        other.write_text(text.replace(remove, instead), encoding="utf-8")
        result = reconcile(other)
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert line.startswith("plumbline: ")
    away: Any = reconcile(_with(tmp_path, text, 'bootstrap = "', 'bootstrap = "127.0.0.1:1" #'))
    assert (away.exit_code, away.stderr.count("\n")) == (2, 1)


def test_rows_removed_repeated_and_invented_by_hand_are_all_found(config: Path, door: World) -> None:
    gone = "SETTINGS mutations_sync = 1"
    command(door, f"ALTER TABLE labels DELETE WHERE label_id IN ('0-l1', '0-l4', '1-l2') {gone}")
    command(door, f"ALTER TABLE interaction_text DELETE WHERE interaction_id = '1-7' {gone}")
    command(door, f"ALTER TABLE scorecards DELETE WHERE interaction_id = '0-3' {gone}")
    command(door, f"ALTER TABLE scores DELETE WHERE interaction_id = '0-5' AND metric = 'm1' {gone}")
    command(door, f"ALTER TABLE scores DELETE WHERE interaction_id = '0-6' AND metric = 'm0' {gone}")
    command(door, "SYSTEM STOP MERGES")
    try:
        again = "SETTINGS insert_deduplicate = 0"
        for table, chosen in (
            ("interactions", "interaction_id IN ('0-1', '0-2', '1-39')"),
            ("scores", "interaction_id = '1-4'"),
            (
                "scores",
                "interaction_id = '0-6' AND metric = 'm2'",
            ),  # as many rows as before, of other metrics
            ("comments", "source_id = '1-f'"),
        ):
            command(door, f"INSERT INTO {table} SELECT * FROM {table} WHERE {chosen} {again}")  # noqa: S608
        far = place_of(900)
        command(
            door,
            f"INSERT INTO feedback SELECT * REPLACE ('invented' AS feedback_id, {far} AS src_offset) "  # noqa: S608
            f"FROM feedback WHERE src_partition = 0 {again}",
        )
        result = reconcile(config, "--json")
    finally:
        command(door, "SYSTEM START MERGES")
    assert result.exit_code == 1, result.output
    assert found(result, "lost") == {
        ("labels", 0): 2,
        ("labels", 1): 1,
        ("interaction_text", 1): 1,
        ("scorecards", 1): 1,
        ("scorecards of interactions", 0): 1,
        ("scores", 1): 2,
    }
    assert found(result, "doubled") == {
        ("interactions", 0): 2,
        ("interactions", 1): 1,
        ("scores", 0): 3,
        ("scores", 1): 1,
        ("comments", 1): 1,
    }
    assert found(result, "stray") == {("feedback", 0): 1}
    assert examples(result, "labels", "lost") == {"0#1", "0#4", "0#2"}
    assert examples(result, "interactions", "doubled") == {"0#1", "0#2", "6#9"}
    assert examples(result, "feedback", "stray") == {"900#0"}


def test_commits_that_do_not_fit_state_or_log_are_told(config: Path, kafka: KafkaSettings) -> None:
    where = TopicPartition(topic_name("interactions", kafka.topic_prefix), 1)
    group = f"{kafka.topic_prefix}.score"
    groups = json.loads(reconcile(config, "--json").stdout)["groups"]
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        admin.delete_records({where: 4})
        (one,) = [found for found in groups if (found["group"], found["partition"]) == (group, 1)]
        assert (one["committed"], one["position"], one["problem"]) == (8, 8, "")
    asyncio.run(_commit(kafka, (where.topic, 1), 2, group))
    behind = reconcile(config)
    assert f"group {group}, {where.topic}/1: 2 offsets were gone by retention" in behind.stdout
    asyncio.run(_commit(kafka, (where.topic, 1), 900, group))
    ahead = reconcile(config)
    assert f"group {group}, {where.topic}/1: it is at 900, and the log ends at 8" in ahead.stdout


async def _commit(kafka: KafkaSettings, where: tuple[str, int], offset: int, group: str) -> None:
    writer = TransactionalWriter(kafka, f"{kafka.topic_prefix}.{secrets.token_hex(4)}")
    await writer.start()
    note = Outgoing(topic_name("labels", kafka.topic_prefix) + ".dlq", 0, b"x", b"k")
    await writer.write([note], {where: offset}, group)
    await writer.stop()


def _with(folder: Path, text: str, old: str, new: str) -> Path:
    path = folder / "away.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path
