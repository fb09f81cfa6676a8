"""A store of a test module, what lands in it, and what it says landed."""

from collections.abc import Iterator
from typing import Any

import pytest

from detectors.records.codec import Record
from streams.landing_rows import rows_of
from streams.store import Reader, Store, open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = open_store(path=tmp_path_factory.mktemp("store"))
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def reader(store: Store) -> Reader:
    return store.reader()


def land(store: Store, records: list[tuple[int, int, Record]], token: str) -> None:
    for table, columns in rows_of(records).items():
        store.insert(table, columns, token=f"{token}/{table}")


def read(reader: Reader, table: str, offset: int) -> list[dict[str, Any]]:
    sql = f"SELECT * FROM {table} FINAL WHERE src_offset = {{o:UInt64}}"  # noqa: S608
    rows = reader.query(sql, {"o": offset})
    return [{name: _plain(value) for name, value in row.items() if name != "landed_at"} for row in rows]


def _plain(value: Any) -> Any:
    return round(value.timestamp() * 1000) if hasattr(value, "timestamp") else value
