"""Inserts of which nobody knows whether they were done, on a real engine: each row is there once after."""

import re
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from deploy.migrations import migrations
from detectors.records import Label, Release, Score, Scorecard
from streams import store_disk
from streams.landing_rows import rows_of
from streams.store import Store, StoreError, open_store
from streams.store_again import TOLD_APART

AT_MS = 1_795_000_000_000
SCORES = tuple(Score(name=name, value=0.5, direction="lower") for name in ("a", "b", "c"))
Columns = dict[str, list[Any]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = open_store(path=tmp_path_factory.mktemp("store"))
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def scores(prefix: str, count: int = 10, partition: int = 1) -> Columns:
    cards = [
        Scorecard(
            deployment=prefix, interaction_id=f"00000000-0000-5000-8000-{number:012d}", release="1",
            event_time_ms=AT_MS + number, received_at_ms=AT_MS + 7 * number, unit="c:1", scores=SCORES,
            segments={}, policy_version="1",
        )
        for number in range(count)
    ]  # fmt: skip
    return rows_of([(partition, 50 + number, card) for number, card in enumerate(cards)])["scores"]


def label(prefix: str, number: int) -> Columns:
    record = Label(
        deployment=prefix, label_id=f"l{number}", interaction_id="i", metric="m", value=1.0, rater="r",
        event_time_ms=AT_MS, received_at_ms=AT_MS,
    )  # fmt: skip
    return rows_of([(0, number, record)])["labels"]


def part(columns: Columns, rows: slice) -> Columns:
    return {name: values[rows] for name, values in columns.items()}


def counts(store: Store, prefix: str) -> tuple[int, int]:
    what = "count() AS n, uniqExact(interaction_id, metric) AS ids"
    sql = f"SELECT {what} FROM scores WHERE deployment = {{d:String}}"  # noqa: S608
    (row,) = store.reader().query(sql, {"d": prefix})
    return int(row["n"]), int(row["ids"])


@pytest.mark.parametrize("stored", [slice(0, 0), slice(0, 1), slice(4, 17), slice(0, 30)])
def test_what_is_missing_is_stored_and_nothing_else(store: Store, prefix: str, stored: slice) -> None:
    columns = scores(prefix)
    store.insert("scores", part(columns, stored), token=f"{prefix}/other")
    for _ in range(2):
        assert store.complete("scores", columns, token=prefix) == 30
        assert counts(store, prefix) == (30, 30)


def test_a_token_that_the_engine_remembers_of_rows_that_it_does_not_have(store: Store, prefix: str) -> None:
    columns = scores(prefix)
    for taken in (prefix, f"{prefix}/again-1"):  # as after two inserts into a full disk
        store.insert("scores", scores(f"{prefix}-other"), token=taken)
    store.complete("scores", columns, token=prefix)
    assert counts(store, prefix) == (30, 30)


def test_a_token_that_the_engine_forgot(store: Store, prefix: str) -> None:
    columns = scores(prefix)
    store.insert("scores", columns, token=f"{prefix}/forgotten")
    store.complete("scores", columns, token=prefix)
    assert counts(store, prefix) == (30, 30)


def test_an_earlier_insert_that_comes_late_stores_nothing(store: Store, prefix: str) -> None:
    columns = scores(prefix)
    store.complete("scores", columns, token=prefix)
    store.insert("scores", columns, token=prefix)
    assert counts(store, prefix) == (30, 30)


def test_rows_of_other_places_do_not_count(store: Store, prefix: str) -> None:
    store.define("SYSTEM STOP MERGES scores")  # a merge makes one row of two that are alike
    try:
        store.insert("scores", scores(prefix, partition=2), token=f"{prefix}/other")
        store.complete("scores", scores(prefix), token=prefix)
        assert counts(store, prefix) == (60, 30)
    finally:
        store.define("SYSTEM START MERGES scores")


def test_rows_that_the_engine_makes_one_of_are_not_missed(store: Store, prefix: str) -> None:
    release = Release(deployment=prefix, release="1", role="stable", started_at_ms=AT_MS)
    columns = rows_of([(0, 3, release), (0, 4, release)])["releases"]
    for _ in range(2):
        store.complete("releases", columns, token=prefix)
    rows = store.reader().query(
        "SELECT count() AS n FROM releases WHERE deployment = {d:String}", {"d": prefix}
    )
    assert rows == [{"n": 1}]


def test_an_engine_that_only_says_so_is_not_believed(
    store: Store, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "_send", lambda *_: None)
    with pytest.raises(StoreError, match="see to its disk") as told:
        store.complete("scores", scores(prefix), token=prefix)
    assert told.value.outcome == "unknown"


def test_rows_are_told_apart_by_their_sorting_keys() -> None:
    text = "\n".join(statement for step in migrations() for statement in step.statements)
    found = re.findall(r"TABLE IF NOT EXISTS (\w+) \((.*?)ENGINE.*?ORDER BY \((.*?)\)\n", text, re.DOTALL)
    keys = {name: key for name, _, key in found}
    assert keys.keys() >= TOLD_APART.keys()
    for table, names in TOLD_APART.items():
        columns = set(re.findall(r"\w+", keys[table]))
        assert set(names) <= columns, table
        times = {"event_time", "at", "started_at", "toStartOfHour"}
        alike = {"release", "metric", "kind", "interaction_id", "segment"}  # follow from the others
        assert columns - set(names) <= times | alike, table


Usage = namedtuple("Usage", "total used free")


def test_nothing_is_inserted_into_a_disk_that_is_nearly_full(
    store: Store, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        free = store_disk.RESERVE_BYTES - 1
        patch.setattr(store_disk.shutil, "disk_usage", lambda _: Usage(free, 0, free))
        with pytest.raises(StoreError, match="the disk is full") as told:
            store.insert("scores", scores(prefix), token=prefix)
    assert (told.value.code, told.value.outcome) == (243, "refused")
    assert counts(store, prefix) == (0, 0)
    store.complete("scores", scores(prefix), token=prefix)
    assert counts(store, prefix) == (30, 30)


def empty_files(store: Store, table: str) -> None:
    """Do to the newest part of `table` what a full disk does."""
    parts = f"system.parts WHERE active AND table = '{table}'"
    sql = f"SELECT path FROM {parts} ORDER BY max_block_number DESC, level LIMIT 1"  # noqa: S608
    (path,) = store._client.query(sql).result_rows[0]
    store._disk._whole.clear()  # type: ignore[union-attr] # look at it again
    for file in Path(path).iterdir():
        file.write_bytes(b"")


def test_a_part_that_a_full_disk_left_empty_is_set_aside_and_told(
    store: Store, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = scores(prefix)
    store.insert("scores", scores(f"{prefix}-before"), token="before")
    whole = type(store._client).insert

    def insert(self: Any, *args: Any, **more: Any) -> Any:
        done = whole(self, *args, **more)
        empty_files(store, "scores")
        return done

    store._client.command("SYSTEM STOP MERGES scores")
    with monkeypatch.context() as patch:
        patch.setattr(type(store._client), "insert", insert)
        with pytest.raises(StoreError, match="the disk is full") as told:
            store.insert("scores", columns, token=prefix)
    assert told.value.outcome == "refused"
    assert counts(store, f"{prefix}-before") == (30, 30)  # the table can be read
    store.complete("scores", columns, token=prefix)
    assert counts(store, prefix) == (30, 30)


def test_a_disk_without_room_to_set_a_part_aside_is_tried_again(
    store: Store, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store._client.command("SYSTEM STOP MERGES scores")
    columns = scores(prefix)
    store.insert("scores", columns, token=prefix)
    empty_files(store, "scores")
    command = type(store._client).command

    def refuse(self: Any, text: str, *args: Any, **more: Any) -> Any:
        if "DETACH" in text:
            raise DatabaseError("Code: 243. DB::Exception: Cannot reserve 1.00 MiB, not enough space.")
        return command(self, text, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(type(store._client), "command", refuse)
        with pytest.raises(StoreError, match="the disk is full"):
            store.insert("scores", scores(f"{prefix}-more"), token=f"{prefix}/more")
        store.recover()  # no room yet
        with pytest.raises(StoreError, match="246"):
            counts(store, prefix)
    store.recover()
    assert counts(store, prefix) == (0, 0)
    store.complete("scores", columns, token=prefix)
    assert counts(store, prefix) == (30, 30)


def test_an_insert_into_a_table_that_is_not_there_says_so(store: Store) -> None:
    with pytest.raises(StoreError, match="ClickHouse error 60"):
        store.insert("nowhere", {"src_offset": [1]}, token="t")


def test_an_empty_part_of_a_merge_ends_the_process(store: Store, prefix: str) -> None:
    store.insert("labels", label(prefix, 0), token="0")
    store.insert("labels", label(prefix, 1), token="1")
    store._client.command("OPTIMIZE TABLE labels FINAL")
    empty_files(store, "labels")
    with pytest.raises(StoreError, match="in a merge") as told:
        store.insert("labels", label(prefix, 2), token="2")
    assert told.value.outcome == "unknown"
