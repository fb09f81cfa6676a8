"""Backfill from a real broker into the embedded store, by the command line, beside a group that reads."""

import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from detectors.records import Interaction, Tick
from detectors.stages.score import ScoreStage
from streams.assembly import assemble
from streams.cli import plumbline
from streams.kafka.envelope import place_of, seal
from streams.kafka.layout import topic_name
from streams.kafka.topics import TopicAdmin
from streams.landing_rows import rows_of
from streams.settings import load_settings
from streams.store import open_store

pytestmark = pytest.mark.xdist_group("kafka")
DAY_MS = 86_400_000
YESTERDAY = int(datetime.datetime.now(datetime.UTC).timestamp() * 1000) // DAY_MS * DAY_MS - DAY_MS
SCORERS = '[[scorer]]\nname = "refusal"\n[[scorer]]\nname = "over_refusal"\n'


def interaction(number: int) -> Interaction:
    text = "I'm sorry, but I can't help with that." if number % 3 == 0 else "Here is how you do it."
    return Interaction(
        deployment="d", interaction_id=f"i{number}", raw_id="", release="1", prompt="How?", response=text,
        event_time_ms=YESTERDAY + number * 1_000, received_at_ms=YESTERDAY + number * 1_000,
    )  # fmt: skip


class Place:
    """A store with what was scored first, and a log with what it was made of."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path) -> None:
        head = f'data_dir = "{folder / "data"}"\n'
        kafka = f'[kafka]\nbootstrap = "{bootstrap}"\ntopic_prefix = "{prefix}"\n'
        kafka += "partitions = 2\nreplication = 1\n"
        self.old, self.new = folder / "old.toml", folder / "new.toml"
        self.old.write_text(head + kafka, encoding="utf-8")
        self.new.write_text(head + kafka + SCORERS, encoding="utf-8")
        self.settings, self.prefix = load_settings(self.old), prefix
        with TopicAdmin(self.settings.kafka) as admin:
            admin.create()
        self.placed = self._write([interaction(number) for number in range(40)])
        self._land(assemble(self.settings).score)

    def _write(self, records: list[Interaction]) -> list[tuple[int, int, Interaction]]:
        """Write in transactions, as the door does, and return partition, place and record of each."""
        topic = topic_name("interactions", self.prefix)
        placed = []
        producer = KafkaProducer(
            bootstrap_servers=self.settings.kafka.bootstrap,
            transactional_id=f"{self.prefix}-test",
            compression_type="snappy",
        )
        producer.init_transactions()
        for start in range(0, len(records), 4):
            chunk, partition = records[start : start + 4], start // 4 % 2
            producer.begin_transaction()
            (sealed,) = seal([*chunk, Tick(0, start)], None)
            sent = producer.send(topic, sealed.value, headers=list(sealed.headers), partition=partition)
            offset = sent.get(10).offset
            producer.commit_transaction()
            placed += [(partition, place_of(offset, index), one) for index, one in enumerate(chunk)]
        producer.close()
        return placed

    def _land(self, stage: ScoreStage) -> None:
        cards = [(part, place, stage.score(one, part, place)) for part, place, one in self.placed]
        store = open_store(path=Path(self.settings.data_dir) / "store")
        store.migrate()
        for table, columns in rows_of(cards).items():
            # They landed an hour ago: nothing is still landing.
            hour_ago = int(datetime.datetime.now(datetime.UTC).timestamp() * 1000) - 3_600_000
            rows = {**columns, "landed_at": [hour_ago] * len(columns["deployment"])}
            store.insert(table, rows, token=f"live/{table}")
        store.close()

    def query(self, sql: str) -> list[dict[str, Any]]:
        store = open_store(path=Path(self.settings.data_dir) / "store")
        try:
            return store.reader().query(sql, {})
        finally:
            store.close()


@pytest.fixture
def place(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Place:
    return Place(kafka_bootstrap, topic_prefix, tmp_path)


def backfill(verb: str, config: Path, *more: str) -> Result:
    return CliRunner().invoke(plumbline, ["backfill", verb, "-c", str(config), "--run-id", "run1", *more])


def told(verb: str, config: Path, *more: str) -> str:
    done = backfill(verb, config, *more)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def refused(verb: str, config: Path, *more: str) -> str:
    done = backfill(verb, config, *more)
    assert done.exit_code in {1, 2}, (done.output, done.exception)
    (line,) = done.stderr.splitlines()
    return line


DAY = (
    "--from",
    f"{datetime.datetime.fromtimestamp(YESTERDAY / 1000, datetime.UTC):%Y-%m-%d}",
    "--to",
    "2099-01-01",
)


def test_a_day_is_scored_again_compared_swapped_and_put_back(place: Place) -> None:
    before = place.query("SELECT metric, count() AS n FROM scores FINAL GROUP BY metric ORDER BY metric")
    assert told("run", place.new, *DAY) == "run1: 40 interactions scored\n"
    with KafkaAdminClient(bootstrap_servers=place.settings.kafka.bootstrap) as admin:
        groups = [row["group_id"] if isinstance(row, dict) else row[0] for row in admin.list_groups()]
    assert not [name for name in groups if name.startswith(place.prefix)]  # it is in no group
    found = msgspec.json.decode(told("compare", place.new, "--json"))
    same = {one["metric"]: one for one in found["metrics"]}["refusal"]
    assert (same["n"], same["agreement"]) == (40, 1.0)
    assert same["mean_then"] == same["mean_now"] > 0.2
    assert "only then" in told("compare", place.new)
    assert "run1: 40 interactions of 1 days swapped" in told("swap", place.new)
    after = place.query("SELECT metric, count() AS n FROM scores FINAL GROUP BY metric ORDER BY metric")
    assert after == [{"metric": "over_refusal", "n": 40}, {"metric": "refusal", "n": 40}]
    assert "--yes drops the rows that undo it" in refused("drop", place.new)
    assert told("swap", place.new, "--undo") == "run1: 1 days are as they were\n"
    assert (
        place.query("SELECT metric, count() AS n FROM scores FINAL GROUP BY metric ORDER BY metric") == before
    )
    assert told("drop", place.new) == "run1: 2 tables dropped\n"
    assert "there is no backfill run1" in refused("compare", place.new)


def test_a_range_of_offsets_is_those_records_and_a_run_goes_on_with_them_only(place: Place) -> None:
    (first, end) = (0, 1)  # the first Kafka record of partition 1: four interactions, a tick, a marker
    assert told("run", place.new, "--offsets", f"1:{first}-{end}") == "run1: 4 interactions scored\n"
    assert told("run", place.new, "--offsets", f"1:{first}-{end}") == "run1: 0 interactions scored\n"
    assert "another configuration or range" in refused("run", place.new, "--offsets", "1:0-3")
    assert "another configuration or range" in refused("run", place.old, "--offsets", f"1:{first}-{end}")
    assert "holds offsets 0 to 9" in refused("run", place.new, "--offsets", "1:0-500")
    assert "has no partition 7" in refused("run", place.new, "--offsets", "7:0-1")
    assert told("swap", place.new).splitlines()[-1] == "run1: 4 interactions of 1 days swapped"
    found = place.query(
        "SELECT uniqExact(metric) AS metrics, count() AS n FROM scores FINAL "
        "WHERE interaction_id IN ('i4', 'i5', 'i6', 'i7')"
    )
    assert found == [{"metrics": 2, "n": 8}]
    others = place.query("SELECT uniqExact(metric) AS n FROM scores FINAL WHERE interaction_id = 'i0'")
    assert others[0]["n"] > 5


def test_what_retention_took_is_said_and_not_swapped(place: Place) -> None:
    topic = topic_name("interactions", place.prefix)
    with KafkaAdminClient(bootstrap_servers=place.settings.kafka.bootstrap) as admin:
        admin.delete_records({TopicPartition(topic, 0): 4})
    assert "holds offsets 4 to 9" in refused("run", place.new, "--offsets", "0:0-5")
    assert told("run", place.new, *DAY) == "run1: 32 interactions scored\n"
    line = refused("swap", place.new)
    assert "8 interactions" in line
    assert "the log no longer holds them" in line


@pytest.mark.parametrize("more", [(), ("--from", "2026-01-01"), (*DAY, "--offsets", "0:0-1")])
def test_a_range_must_be_named(tmp_path: Path, more: tuple[str, ...]) -> None:
    config = tmp_path / "c.toml"
    config.write_text("", encoding="utf-8")
    assert "name a range" in backfill("run", config, *more).stderr


@pytest.mark.parametrize("text", ["0", "0:5-4", "x:1-2", "0:1", "-1:1-2"])
def test_offsets_are_read_strictly(tmp_path: Path, text: str) -> None:
    config = tmp_path / "c.toml"
    config.write_text("", encoding="utf-8")
    assert "is not PARTITION:FIRST-LAST" in refused("run", config, f"--offsets={text}")
