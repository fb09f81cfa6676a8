"""A store in a process of its own: the embedded engine behind its ClickHouse door, started again when killed.

In chaos merges are off and blocks are not collapsed, so that a row that was stored twice stays two rows to
count. As a program it serves (``python -m tests.chaos.kafka_store FOLDER PORT [countable]``) or runs SQL
(``... FOLDER SQL``).
"""

import asyncio
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import clickhouse_connect

from streams.clickhouse_door import ClickHouseDoor, Tokens
from streams.kafka.precedence import give_way
from streams.listener import Listener, bind
from streams.settings import ClickHouseDoorSettings
from streams.store import Store, open_store
from tests.chaos.kafka_disk import SmallDisk

READER, WRITER = "chaos-reader", "chaos-writer"
DATABASE = "plumbline"
_TABLES = (
    "interactions",
    "interaction_text",
    "scorecards",
    "scores",
    "signals",
    "decisions",
    "actions",
    "releases",
    "feedback",
    "labels",
    "comments",
    "reference_points",
)
# No part is small enough to be merged, also while the store starts; parts then pile up, and may.
_NO_MERGES = (
    "max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1, "
    "parts_to_delay_insert = 1000000, parts_to_throw_insert = 1000000"
)


class StoreProcess:
    """Starts, kills and asks the store in `folder`, which has a small disk of its own once that is entered.

    Parameters
    ----------
    folder, port
        Where it stores and listens.
    countable
        Whether rows stay as they were inserted, to be counted; else it is the store as it is shipped, for
        parts that are never merged pile up, and make every insert dearer than the last.
    """

    def __init__(self, folder: Path, port: int, *, countable: bool = True) -> None:
        self._folder, self.port, self._countable = folder, port, countable
        self._process: subprocess.Popen[bytes] | None = None
        self.disk = SmallDisk(folder / "store", megabytes=3_000)

    def start(self) -> None:
        """Start it and return when it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "store.log").open("ab") as log:
            command = [sys.executable, "-m", "tests.chaos.kafka_store", str(self._folder), str(self.port)]
            command += ["countable"] if self._countable else []
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the store ended: {self.log_tail()}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=2):
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the store does not answer")

    def kill(self) -> None:
        """End it at once."""
        self._alive().send_signal(signal.SIGKILL)
        self._alive().wait()

    def stop(self) -> None:
        """End it in good order."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()

    def sabotage(self, statements: Sequence[str]) -> None:
        """Run statements on the tables behind everybody's back; the store is away meanwhile."""
        self.stop()
        command = [sys.executable, "-m", "tests.chaos.kafka_store", str(self._folder), *statements]
        subprocess.run(command, check=True, capture_output=True)
        self.start()

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of `sql`."""
        client = clickhouse_connect.get_client(
            host="127.0.0.1",
            port=self.port,
            username="chaos",
            password=READER,
            database=DATABASE,
            query_limit=0,
            send_receive_timeout=120,
        )
        try:
            return list(client.query(sql).named_results())
        finally:
            client.close()

    def counts(self, tables: Sequence[str]) -> dict[str, int]:
        """Return how many rows each of `tables` holds, physically."""
        each = " UNION ALL ".join(f"SELECT '{t}' AS name, count() AS n FROM {t}" for t in tables)  # noqa: S608
        return {row["name"]: row["n"] for row in self.rows(each)}

    def log_tail(self) -> str:
        """Return the last things it said."""
        return (self._folder / "store.log").read_text("utf-8", "replace")[-1_000:]

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the store was never started")
        return self._process


def keep_countable(store: Store) -> None:
    """Let every row stay as it was inserted."""
    for table in _TABLES:
        store._client.command(f"ALTER TABLE {table} MODIFY SETTING {_NO_MERGES}")
    store._insert_settings["optimize_on_insert"] = 0


async def serve(folder: Path, port: int, *, countable: bool) -> None:
    """Serve the store until SIGTERM."""
    store = open_store(path=folder / "store")
    store.migrate()
    if countable:
        keep_countable(store)
    else:
        give_way("land")  # whose process would own the store
    settings = ClickHouseDoorSettings(max_execution_s=120.0, max_result_bytes=1 << 30)
    door = ClickHouseDoor(store, settings, Tokens(READER.encode(), WRITER.encode()))
    listener = Listener(door.app, bind("127.0.0.1", port))
    await listener.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await listener.close()
    door.close()
    store.close()


def run(folder: Path, statements: Sequence[str]) -> None:
    """Run `statements` on the store in `folder`."""
    store = open_store(path=folder / "store")
    for statement in statements:
        store._client.command(statement, settings={"mutations_sync": 2})
    store.close()


def main(folder: str, *rest: str) -> None:
    """Serve the store in `folder` on the port in `rest`, or run the statements there."""
    if rest[0].isdigit():
        asyncio.run(serve(Path(folder), int(rest[0]), countable="countable" in rest))
    else:
        run(Path(folder), rest)


if __name__ == "__main__":
    main(*sys.argv[1:])
