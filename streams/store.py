"""The one door to ClickHouse: a server, or the engine embedded in this process.

The embedded engine allows one process per directory and does not survive a fork: open the store after any
fork, and in exactly one process.
"""

import fcntl
import re
import resource
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from deploy.migrations import LEDGER, migrations

_CODE = re.compile(r"Code: (\d+)")
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
_OPEN_FILES = 4096
_BAD_START = 36
_INSERT_SETTINGS = {
    "async_insert": 0,  # newer engines default to 1, which answers before the rows are stored
    "insert_deduplicate": 1,
    "deduplicate_insert": "enable",
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "throw_on_max_partitions_per_insert_block": 0,  # replayed history may span many days; it must still land
}
_REMEDIES = {
    76: "another process has this store open; stop it, or point data_dir elsewhere",
    243: "the disk is full; free space, nothing of this batch was stored",
    516: "the server refused the user or password; check [land] dsn and password_env",
    722: "the store's metadata is broken; move the directory away and start again",
}


class StoreError(Exception):
    """The store could not do what was asked; one line, with the remedy, without any stored text.

    ``code`` is ClickHouse's error code, None where the engine gave none (unreachable, closed).
    """

    def __init__(self, text: str, *, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


def open_store(
    *, path: Path | None, dsn: str = "", password: str = "", database: str = "plumbline"
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

    Raises
    ------
    StoreError
        If the directory is not writable or locked by another process, its metadata is broken, or the
        server does not answer; the text says what to do.
    """
    if not _NAME.match(database):
        raise StoreError(f"database {database!r}: lower-case letters, digits and underscores only")
    if dsn:
        return Store(lambda: _connect_server(dsn, password), database=database, embedded=False)
    if path is None:
        raise StoreError("the embedded store needs a directory; set data_dir or [land] dsn")
    _raise_open_files()
    directory = _writable(path)
    return Store(lambda: _connect_embedded(directory), database=database, embedded=True)


class Store:
    """An open database: migrations, inserts and read-only handles.

    Safe to share between threads: writes take turns on one connection, every reader has its own.
    Use :func:`open_store`.
    """

    def __init__(self, connect: Callable[[], Client], *, database: str, embedded: bool) -> None:
        self._connect = connect
        self._database = database
        self._embedded = embedded
        self._lock = threading.Lock()
        self._types: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._readers: list[Reader] = []
        self._closed = False
        self._client = connect()
        with _translated("open the store"):
            self._client.command(f"CREATE DATABASE IF NOT EXISTS {database} ENGINE = Atomic")
            self._client.database = database
            self._insert_settings = self._known_settings(_INSERT_SETTINGS)

    def migrate(self) -> list[int]:
        """Bring the schema up to date and return the versions applied now (none when it was).

        Raises
        ------
        StoreError
            If a recorded migration has another text than the packaged one, or the store is newer than
            this program.
        """
        with self._lock, _translated("migrate"):
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

        The rows are on disk when this returns. The same token again stores nothing: after an error of
        unknown outcome, repeat the identical call.

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
        if not _NAME.match(table):
            raise StoreError(f"no table is called {table!r}")
        names = tuple(columns)
        rows = len(columns[names[0]]) if names else 0
        if rows == 0:
            return 0
        with self._lock, _translated(f"insert into {table}"):
            client = self._alive()
            key = (table, names)
            if key not in self._types:
                self._types[key] = client.create_insert_context(table, column_names=list(names)).column_types
            client.insert(
                table,
                [columns[name] for name in names],
                column_names=list(names),
                column_types=self._types[key],
                column_oriented=True,
                settings={**self._insert_settings, "insert_deduplication_token": token},
            )
        return rows

    def reader(self) -> "Reader":
        """Return a new handle that can read tables and nothing else; the store closes it."""
        with self._lock, _translated("open a reader"):
            self._alive()
            client = self._connect()
            client.database = self._database
            if self._embedded:
                # Cannot be undone on this handle; it also closes the engine's doors to files and URLs.
                client.command("SET readonly = 1")
            else:
                client.set_client_setting("readonly", 1)
            reader = Reader(client)
            self._readers.append(reader)
            return reader

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


class Reader:
    """A read-only handle; calls from several threads take turns."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()

    def query(self, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of `sql`, each as a dict by column name.

        Parameters
        ----------
        sql
            One SELECT with ``{name:Type}`` placeholders.
        parameters
            Their values, bound by the engine, never pasted into the text.

        Raises
        ------
        StoreError
            If the engine refuses the query; the text holds its code, not its message, which may quote
            stored text.
        """
        with self._lock, _translated("query"):
            return list(self._client.query(sql, parameters=dict(parameters)).named_results())

    def close(self) -> None:
        """Close the handle."""
        self._client.close()


class _translated:  # noqa: N801 - reads as a word of the with statement
    """Turn the driver's errors into :class:`StoreError`, without their text."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and not isinstance(error, StoreError) and isinstance(error, Exception):
            raise _store_error(self._doing, error) from None


def _store_error(doing: str, error: Exception) -> StoreError:
    # The engine nests its reports: the cause we know a remedy for may stand inside a general one.
    codes = [int(found) for found in _CODE.findall(str(error))]
    code = next((found for found in codes if found in _REMEDIES), codes[0] if codes else None)
    if code in _REMEDIES:
        return _known_failure(doing, code)
    if code is not None:
        return StoreError(f"cannot {doing}: ClickHouse error {code}", code=code)
    kind = type(error).__name__
    return StoreError(f"cannot {doing}: {kind}")


def _known_failure(doing: str, code: int) -> StoreError:
    return StoreError(f"cannot {doing}: {_REMEDIES[code]}", code=code)


def _connect_embedded(directory: Path) -> Client:
    doing = f"open the store in {directory}"
    try:
        return clickhouse_connect.get_client(interface="chdb", path=str(directory))
    except (ClickHouseError, RuntimeError) as error:
        failure = _store_error(doing, error)
        if failure.code == _BAD_START:
            # The engine tells the cause on its standard error only, so look at its lock.
            failure = _known_failure(doing, 76 if _is_locked(directory / "status") else 722)
        raise failure from None


def _is_locked(status: Path) -> bool:
    """Return whether another process holds the engine's lock file."""
    try:
        with status.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _connect_server(dsn: str, password: str) -> Client:
    try:
        return clickhouse_connect.get_client(dsn=dsn, password=password, autogenerate_session_id=False)
    except (ClickHouseError, OSError, ValueError) as error:
        failure = _store_error("open the store", error)
        if failure.code is None:
            failure = StoreError("cannot open the store: the server does not answer; is [land] dsn right?")
        raise failure from None


def _writable(path: Path) -> Path:
    """Return `path` as a directory that exists and takes files."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".plumbline-write-probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StoreError(
            f"cannot write to {path}: {error.strerror}; make it writable or set data_dir"
        ) from error
    return path.resolve()


def _raise_open_files() -> None:
    """Ask for enough file descriptors: the engine keeps its parts open, and grows with merges."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _OPEN_FILES:
        return
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
