"""The store on the real embedded engine: once per token, loud about what is wrong."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy import migrations as schema
from streams import store as store_module
from streams.store import Store, StoreError, open_store

LABEL: dict[str, list[Any]] = {
    "deployment": ["d", "d"],
    "label_id": ["a", "b"],
    "interaction_id": ["i", "j"],
    "metric": ["m", "m"],
    "value": [0.0, 1.0],
    "rater": ["r", "r"],
    "event_time": [1_000, 2_000],
    "received_at": [1_000, 2_000],
    "src_partition": [0, 0],
    "src_offset": [1, 2],
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(path=tmp_path / "store")
    yield opened
    opened.close()


def count(store: Store, table: str, *, final: bool = False) -> int:
    sql = f"SELECT count() AS n FROM {table} {'FINAL' if final else ''}"  # noqa: S608
    rows = store.reader().query(sql, {})
    return int(rows[0]["n"])


def test_migrating_twice_changes_nothing(store: Store) -> None:
    assert store.migrate() == [step.version for step in schema.migrations()]
    assert store.migrate() == []


def test_a_changed_migration_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.migrate()
    changed = [schema.Migration(version=1, name="records", sql="SELECT 1"), *schema.migrations()[1:]]
    monkeypatch.setattr(store_module, "migrations", lambda: changed)
    with pytest.raises(StoreError, match="0001 records changed after it was applied"):
        store.migrate()


def test_a_newer_store_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.migrate()
    monkeypatch.setattr(store_module, "migrations", list)
    with pytest.raises(StoreError, match="upgrade"):
        store.migrate()


def test_one_token_stores_once_and_another_is_netted_by_final(store: Store) -> None:
    store.migrate()
    assert store.insert("labels", LABEL, token="t1") == 2
    store.insert("labels", LABEL, token="t1")
    assert count(store, "labels") == 2
    store.insert("labels", LABEL, token="t2")
    assert count(store, "labels") in {2, 4}
    assert count(store, "labels", final=True) == 2


def test_the_token_is_remembered_after_reopening(tmp_path: Path) -> None:
    for _ in range(2):
        store = open_store(path=tmp_path / "store")
        store.migrate()
        store.insert("labels", LABEL, token="t1")
        assert count(store, "labels") == 2
        store.close()


def test_a_batch_over_many_days_lands(store: Store) -> None:
    store.migrate()
    days = [86_400_000 * (43_000 + day) for day in range(300)]
    columns: dict[str, list[Any]] = {
        "deployment": ["d"] * 300,
        "feedback_id": [str(day) for day in days],
        "interaction_id": ["i"] * 300,
        "kind": ["thumb"] * 300,
        "event_time": days,
        "received_at": days,
        "value": [1.0] * 300,
        "src_partition": [0] * 300,
        "src_offset": list(range(300)),
    }
    store.insert("feedback", columns, token="many")
    assert count(store, "feedback") == 300


def test_refusals_name_no_stored_text(store: Store) -> None:
    store.migrate()
    with pytest.raises(StoreError) as refused:
        store.insert("labels", {**LABEL, "value": ["secret words", 1.0]}, token="bad")
    assert "secret" not in str(refused.value)
    with pytest.raises(StoreError) as refused:
        store.reader().query("SELECT toUInt8({v:String})", {"v": "secret words"})
    assert "secret" not in str(refused.value)
    assert refused.value.code is not None
    with pytest.raises(StoreError, match="no table"):
        store.insert("labels; DROP TABLE labels", LABEL, token="x")
    assert store.insert("labels", LABEL, token="after") == 2


def test_readers_work_from_many_threads_while_writing(store: Store) -> None:
    store.migrate()
    reader = store.reader()
    seen: list[int] = []

    def read() -> None:
        seen.extend(int(reader.query("SELECT count() AS n FROM labels", {})[0]["n"]) for _ in range(5))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    store.insert("labels", LABEL, token="t")
    for thread in threads:
        thread.join()
    assert len(seen) == 20
    assert set(seen) <= {0, 2}


def test_a_second_process_is_told_so(store: Store, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from streams.store import *\n"
        "try: open_store(path=Path(sys.argv[1]))\n"
        "except StoreError as error: print(error.code, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(store_module.__file__).parents[1],
    )
    assert done.stdout.startswith("76 cannot open the store")
    assert "another process has this store open" in done.stdout


def test_broken_metadata_is_told_so(tmp_path: Path) -> None:
    store = open_store(path=tmp_path / "store")
    store.migrate()
    store.close()
    broken = next((tmp_path / "store" / "store").rglob("labels.sql"))
    broken.write_text("no SQL at all", encoding="utf-8")
    with pytest.raises(StoreError, match="metadata is broken") as refused:
        open_store(path=tmp_path / "store")
    assert refused.value.code == 722


def test_a_directory_that_cannot_be_made_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot write to"):
        open_store(path=tmp_path / "file" / "store")


def test_an_unreachable_server_is_told_so_without_the_password() -> None:
    with pytest.raises(StoreError, match="does not answer") as refused:
        open_store(path=None, dsn="http://someone@127.0.0.1:9/", password="hunter2")
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("database", ["Plumbline", "a b", "", "x;y"])
def test_odd_database_names_are_refused(database: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="lower-case"):
        open_store(path=tmp_path, database=database)


def test_neither_directory_nor_server_is_refused() -> None:
    with pytest.raises(StoreError, match="needs a directory"):
        open_store(path=None)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = open_store(path=tmp_path / "store")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.migrate()


def test_databases_are_apart(tmp_path: Path) -> None:
    first = open_store(path=tmp_path / "store")
    second = open_store(path=tmp_path / "store", database="other")
    first.migrate()
    second.migrate()
    first.insert("labels", LABEL, token="t")
    assert (count(first, "labels"), count(second, "labels")) == (2, 0)
    second.close()
    first.close()
