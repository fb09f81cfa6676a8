"""Another process's landing and the boards, through the door and nothing else."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dashboards.build import BOARDS
from dashboards.macros import expand
from deploy.migrations import migrations
from detectors.records import Interaction, Release, Score, Scorecard, Signal, StreamKey
from streams.embedded.journal import Journal
from streams.embedded.landing import Lander
from streams.inbox import Entry
from streams.landing_rows import rows_of
from streams.store import Store, StoreError, open_store
from tests.conftest import admitted, support_payloads
from tests.streams.clickhouse_door_world import WRITER, World, serving

COUNT = 60
START_MS = 3_786_912_000_000  # 2090-01-01: retention must not eat the tests' rows


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A door before an empty store: whoever comes through it makes the tables."""
    store = open_store(path=tmp_path_factory.mktemp("door") / "store")
    with serving(store) as made:
        yield made
    store.close()


@pytest.fixture(scope="module")
def remote(door: World) -> Iterator[Store]:
    opened = open_store(path=None, dsn=f"http://landing@127.0.0.1:{door.port}", password=WRITER)
    assert opened.migrate() == [step.version for step in migrations()]
    yield opened
    opened.close()


def entries(count: int) -> list[Entry]:
    return [
        msgspec.structs.replace(
            entry, record=msgspec.structs.replace(entry.record, received_at_ms=START_MS)
        )
        if isinstance(entry.record, Interaction)
        else entry
        for entry in admitted(support_payloads(count, seed=3, canary_from=30))
    ]  # fmt: skip


class Lossy:
    """Every third answer of the store is lost on the way back."""

    def __init__(self, store: Store) -> None:
        self.store, self.calls = store, 0

    def insert(self, table: str, columns: Any, *, token: str) -> int:
        return self.put(self.store.insert, table, columns, token)

    def complete(self, table: str, columns: Any, *, token: str) -> int:
        return self.put(self.store.complete, table, columns, token)

    def put(self, put: Any, table: str, columns: Any, token: str) -> int:
        rows: int = put(table, columns, token=token)
        self.calls += 1
        if self.calls % 3 == 0:
            raise StoreError("cannot insert: the answer was lost")
        return rows


def test_migrating_again_changes_nothing(remote: Store) -> None:
    assert remote.migrate() == []
    assert remote.reader().query("SELECT count() AS n FROM labels", {}) == [{"n": 0}]


def test_a_table_that_a_full_disk_damaged_can_be_read_again(door: World, remote: Store) -> None:
    release = Release(deployment="full", release="1", role="stable", started_at_ms=1_760_000_000_000)
    columns = rows_of([(0, 3, release)])["releases"]
    remote.insert("releases", columns, token="full/1")
    parts = "SELECT path FROM system.parts WHERE active AND table = 'releases'"
    for (path,) in door.store._client.query(parts).result_rows:
        for file in Path(path).iterdir():
            file.write_bytes(b"")
    disk = door.store._disk
    assert disk is not None
    disk._whole.clear()
    disk.damaged.add("releases")  # as when there was no room to set the part aside
    remote.complete("releases", columns, token="full/1")
    assert remote.reader().query("SELECT release FROM releases", {}) == [{"release": "1"}]
    assert not disk.damaged


def test_landing_over_the_door_is_exactly_once(tmp_path: Path, door: World, remote: Store) -> None:
    journal = Journal(tmp_path / "journal.db", partitions=2)
    journal.admit(entries(COUNT))
    lander = Lander(journal, Lossy(remote), batch=17)
    for _ in range(60):
        try:
            if not lander.land_once():
                break
        except StoreError:
            continue
    assert set(lander.lag().values()) == {0}
    for table in ("interactions", "interaction_text"):
        (row,) = door.store.reader().query(
            f"SELECT count() AS n, uniqExact(interaction_id) AS ids FROM {table}",  # noqa: S608
            {},
        )
        assert (row["n"], row["ids"]) == (COUNT, COUNT), table
    (row,) = door.store.reader().query(
        "SELECT count() AS n FROM interactions FINAL WHERE received_at = {at:DateTime64(3)}",
        {"at": "2090-01-01 00:00:00.000"},
    )
    assert row["n"] == COUNT
    journal.close()


def test_a_reader_of_the_remote_store_reads_and_does_not_write(remote: Store) -> None:
    reader = remote.reader()
    assert reader.query("SELECT 1 AS one", {}) == [{"one": 1}]
    with pytest.raises(StoreError) as refused:
        reader.query("INSERT INTO labels (deployment) FORMAT JSONEachRow {}", {})
    assert refused.value.code in {164, 497}


def board_records() -> Iterator[Any]:
    rng = random.Random(5)
    for index, release in enumerate(("a", "b")):
        yield Release(deployment="support", release=release, role="stable", started_at_ms=START_MS + index)
    stream = StreamKey("support", "b", "all", "refusal", "arm")
    yield Signal(
        signal_id="s", kind="change", stream=stream, at_ms=START_MS + 60_000, n=10, mean=0.3,
        direction="lower", worse=True, evidence=4.0, threshold=3.0, detected=True, state="drift",
    )  # fmt: skip
    for index in range(400):
        at, release = START_MS + index * 10_000, rng.choice("ab")
        ident = f"i{index}"
        yield Scorecard(
            deployment="support", interaction_id=ident, release=release, event_time_ms=at, received_at_ms=at,
            unit=f"u{index}", verdict="pass", policy_version="p",
            scores=(Score(name="refusal", value=float(rng.random() < 0.2), direction="lower", version="1"),),
        )  # fmt: skip


def test_every_sql_text_of_the_boards_runs_through_the_door(door: World, remote: Store) -> None:
    rows = rows_of([(0, index, record) for index, record in enumerate(board_records())])
    for table, columns in rows.items():
        remote.insert(table, columns, token=f"boards/{table}")
    chosen = {"deployment": "support", "release": ["a", "b"], "metric": "refusal"}
    texts = [
        (part.title if hasattr(part, "title") else part.name, part.sql)
        for board in BOARDS
        for part in (*board.panels, *board.variables, *board.annotations)
    ]
    filled = 0
    for title, sql in texts:
        text = expand(
            sql, from_s=START_MS // 1000, to_s=START_MS // 1000 + 7_200, interval_s=600, variables=chosen
        )
        native = door.ask(
            "/?default_format=Native&max_execution_time=60", text, headers={"Accept-Encoding": "gzip"}
        )
        assert native.status == 200, (title, native.body)
        answer = door.ask("/?default_format=JSONCompact", text)
        filled += bool(json.loads(answer.body)["data"])
    assert filled >= len(texts) // 2
