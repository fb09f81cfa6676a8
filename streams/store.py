"""The one door to ClickHouse: a server, or the engine embedded in this process.

The embedded engine allows one process per directory and does not survive a fork: open the store after any
fork, and in exactly one process.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client

from deploy.migrations import LEDGER, migrations
from streams.store_again import complete
from streams.store_connection import (
    StoreError,
    connect_embedded,
    connect_server,
    raise_open_files,
    translated,
    writable,
)
from streams.store_disk import Disk
from streams.store_raw import RawError, RawLimits, RawReader, insert_block
from streams.store_reader import Reader

__all__ = ["INSERT_SETTINGS", "Reader", "Store", "StoreError", "open_reader", "open_store"]

_UNFORESEEN = 1002  # an unknown outcome, to whoever asks over the door
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
INSERT_SETTINGS = {
    "async_insert": 0,  # newer engines default to 1, which answers before the rows are stored
    "insert_deduplicate": 1,
    "deduplicate_insert": "enable",
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "throw_on_max_partitions_per_insert_block": 0,  # replayed history may span many days; it must still land
}
"""What every insert asks of the engine, as far as the engine knows it."""


def open_store(
    *,
    path: Path | None,
    dsn: str = "",
    password: str = "",
    database: str = "plumbline",
    timeout_s: float = 0.0,
) -> "Store":
    """Return the open store: the server at `dsn`, or else the embedded engine in directory `path`.

    Parameters
    ----------
    path
        Directory of the embedded engine, made if missing; ignored when `dsn` is given.
    dsn
        ``http://user@host:8123`` or ``https://...``; empty for the embedded engine.
    password
        Password of the user in `dsn`; never part of an error text.
    database
        Where the tables live, made if missing: lower-case letters, digits and underscores.
    timeout_s
        What takes a server longer is given up, by both sides; 0: the driver's own limits.

    Raises
    ------
    StoreError
        If the directory is not writable or locked by another process, its metadata is broken, or the
        server does not answer; the text says what to do.
    """
    if not _NAME.match(database):
        raise StoreError(f"database {database!r}: lower-case letters, digits and underscores only")
    if dsn:
        return Store(
            lambda: connect_server(dsn, password, timeout_s=timeout_s), database=database, directory=None
        )
    if path is None:
        raise StoreError("the embedded store needs a directory; set data_dir or [land] dsn")
    raise_open_files()
    directory = writable(path)
    return Store(lambda: connect_embedded(directory), database=database, directory=directory)


class Store:
    """An open database: migrations, inserts and read-only handles.

    Safe to share between threads: writes take turns on one connection, every reader has its own.
    Use :func:`open_store`.
    """

    def __init__(self, connect: Callable[[], Client], *, database: str, directory: Path | None) -> None:
        self._connect = connect
        self._database = database
        self._embedded = directory is not None
        self._lock = threading.Lock()
        self._types: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._readers: list[Reader | RawReader] = []
        self._completer: Reader | None = None
        self._closed = False
        self._client = connect()
        with translated("open the store"):
            self._client.command(f"CREATE DATABASE IF NOT EXISTS {database} ENGINE = Atomic")
            self._client.database = database
            self._insert_settings = self._known_settings(INSERT_SETTINGS)
        # The disk of a server is its own affair.
        self._disk = None if directory is None else Disk(self._client, directory, database)

    def migrate(self) -> list[int]:
        """Bring the schema up to date and return the versions applied now (none when it was).

        Raises
        ------
        StoreError
            If a recorded migration has another text than the packaged one, or the store is newer than
            this program.
        """
        with self._lock, translated("migrate"):
            self._alive().command(LEDGER)
            rows = self._client.query("SELECT version, sha256 FROM schema_migrations FINAL").result_rows
            applied = {int(version): str(sha256) for version, sha256 in rows}
            steps = migrations()
            if applied and max(applied) > len(steps):
                raise StoreError(
                    f"the store has migration {max(applied)}, this program knows {len(steps)}: upgrade it"
                )
            done = []
            for step in steps:
                if step.version in applied:
                    if applied[step.version] != step.sha256:
                        raise StoreError(
                            f"migration {step.version:04} {step.name} changed after it was applied; "
                            "restore its text and add a new migration"
                        )
                    continue
                for statement in step.statements:
                    self._client.command(statement)
                self._client.insert(
                    "schema_migrations",
                    [[step.version, step.name, step.sha256]],
                    column_names=["version", "name", "sha256"],
                    settings=self._insert_settings,
                )
                done.append(step.version)
            return done

    def insert(self, table: str, columns: Mapping[str, Sequence[Any]], *, token: str) -> int:
        """Store rows given by column, once per `token`, and return their number.

        The rows are on disk when this returns. After an error or a crash, call :meth:`complete`.

        Parameters
        ----------
        table
            A table of the schema.
        columns
            Column name to values, all of one length; times are Unix milliseconds.
        token
            Names this batch for ever, for example ``topic/partition/first-last/table``.

        Raises
        ------
        StoreError
            If the rows were refused or the outcome is unknown.
        """
        rows = _count_rows(table, columns)
        if rows:
            with self._lock, translated(f"insert into {table}"):
                self._send(table, columns, token)
        return rows

    def complete(self, table: str, columns: Mapping[str, Sequence[Any]], *, token: str) -> int:
        """Store the rows of an insert that may have been done, or half done; return their number.

        What is there is not stored again, whatever the engine remembers of the token, and what is missing is
        stored although it may remember it. Nobody else may insert rows of these places meanwhile.

        Parameters
        ----------
        table, columns, token
            As they were given to :meth:`insert`.

        Raises
        ------
        StoreError
            If the rows were refused or the outcome is unknown.
        """
        rows = _count_rows(table, columns)
        if rows:
            reader = self._completer = self._completer or self.reader()
            with self._lock, translated(f"insert into {table}"):
                if self._disk is not None:
                    self._disk.recover(table)
                send = partial(self._send, table)
                complete(reader.query, table, columns, token=token, send=send)
        return rows

    def _send(self, table: str, columns: Mapping[str, Sequence[Any]], token: str) -> None:
        client, names = self._alive(), tuple(columns)
        key = (table, names)
        if key not in self._types:
            self._types[key] = client.create_insert_context(table, column_names=list(names)).column_types
        with self._inserting(table):
            client.insert(
                table,
                [columns[name] for name in names],
                column_names=list(names),
                column_types=self._types[key],
                column_oriented=True,
                settings={**self._insert_settings, "insert_deduplication_token": token},
            )

    def reader(self, *, max_execution_s: float = 0.0) -> "Reader":
        """Return a new handle that can read tables and nothing else; the store closes it.

        The engine gives up a query that takes longer than `max_execution_s` seconds (0: never).
        """
        with self._lock, translated("open a reader"):
            self._alive()
            client = self._connect()
            client.database = self._database
            if self._embedded:
                # Cannot be undone on this handle. It stops writes and table functions, not the function
                # file() nor INTO OUTFILE: only our own SQL may come here.
                client.command(f"SET max_execution_time = {max_execution_s}")
                client.command("SET readonly = 1")
            else:
                client.set_client_setting("max_execution_time", max_execution_s)
                client.set_client_setting("readonly", 1)
            reader = Reader(client)
            self._readers.append(reader)
            return reader

    def answers(self) -> bool:
        """Return whether the store can be reached now: True for the engine in this process."""
        return self._embedded or self._client.ping()

    @property
    def database(self) -> str:
        """Where the tables live."""
        return self._database

    @property
    def embedded(self) -> bool:
        """Whether the engine runs in this process."""
        return self._embedded

    def raw_reader(self, limits: RawLimits) -> RawReader:
        """Return a new read-only handle for SQL of others, which answers in bytes; the store closes it.

        Raises
        ------
        StoreError
            If this store is not the embedded engine: a server has its own door.
        """
        if not self._embedded:
            raise StoreError("the ClickHouse door is for the embedded store; a server has its own")
        with self._lock, translated("open a reader"):
            self._alive()
            reader = RawReader(self._connect(), limits)
            self._readers.append(reader)
            return reader

    def insert_block(
        self, table: str, names: Sequence[str], block: bytes, *, form: str, settings: Mapping[str, str]
    ) -> int:
        """Store the rows that `block` holds in format `form`; return how many the engine read.

        Raises
        ------
        RawError
            If the engine refuses them.
        """
        with self._lock:
            client = self._alive()
            merged = {**self._insert_settings, **settings}
            where = f"`{self._database}`.`{table}`"
            try:
                with self._inserting(table):
                    return insert_block(client, where, names, block, form=form, settings=merged)
            except StoreError as error:
                raise RawError(error.code or _UNFORESEEN, str(error)) from error

    def recover(self) -> None:
        """Make tables readable that a full disk has damaged, where there is room to; else does nothing."""
        if self._disk is None or not self._disk.damaged:
            return
        with self._lock:
            for table in tuple(self._disk.damaged):
                with suppress(StoreError):
                    self._disk.recover(table)

    def _inserting(self, table: str) -> AbstractContextManager[None]:
        return nullcontext() if self._disk is None else self._disk.inserting(table)

    def define(self, statement: str) -> None:
        """Run one of our own DDL statements again, as :meth:`migrate` would."""
        with self._lock, translated("define a table"):
            self._alive().command(statement)

    def close(self) -> None:
        """Close every handle; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for reader in self._readers:
                reader.close()
            self._client.close()

    def _alive(self) -> Client:
        if self._closed:
            raise StoreError("the store is closed")
        return self._client

    def _known_settings(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Drop what this engine has not heard of: it would refuse the insert, and older engines lack some."""
        sql = "SELECT name FROM system.settings WHERE name IN {names:Array(String)}"
        rows = self._client.query(sql, parameters={"names": list(wanted)}).result_rows
        known = {str(row[0]) for row in rows}
        return {name: value for name, value in wanted.items() if name in known}


def _count_rows(table: str, columns: Mapping[str, Sequence[Any]]) -> int:
    if not _NAME.match(table):
        raise StoreError(f"no table is called {table!r}")
    return len(next(iter(columns.values()))) if columns else 0


def open_reader(*, dsn: str, password: str = "", database: str = "plumbline") -> "Reader":
    """Return a handle that only reads the server at `dsn`, or the door of an embedded store.

    Nothing is made or changed there: a reader's user or token is enough.

    Raises
    ------
    StoreError
        If it does not answer or refuses.
    """
    client = connect_server(dsn, password)
    client.database = database
    client.set_client_setting("readonly", 1)
    return Reader(client)
