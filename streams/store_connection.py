"""Connections of the store: how they are opened, and what their failures are called."""

import fcntl
import logging
import re
import resource
from pathlib import Path
from typing import Any, Literal

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error as ClickHouseError
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

# What it reports is raised here anyway, and its texts may hold a query's parameters.
logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)

_CODE = re.compile(r"Code: (\d+)")
_OPEN_FILES = 4096
_BAD_START = 36
_RINSES = 3
_CLEAN = "clean"
FULL = 243
_REMEDIES = {
    76: "another process has this store open; stop it, or point data_dir elsewhere",
    FULL: "the disk is full; free space, nothing of this batch was stored",
    516: "the server refused the user or password; check [land] dsn and password_env",
    722: "the store's metadata is broken; move the directory away and start again",
}


_UNKNOWN_OUTCOMES = frozenset({159, 209, 210, 279, 319, 394, 1000, 1001, 1002})
"""Codes of an engine that does not say what came of it: timeouts, its network, cancelled, unforeseen."""

Outcome = Literal["refused", "unsent", "unknown"]


class StoreError(Exception):
    """The store could not do what was asked; one line, with the remedy, without any stored text.

    ``code`` is ClickHouse's error code, None where the engine gave none (unreachable, closed).
    ``outcome`` says what came of it: *refused* by the engine, *unsent* since nothing could reach it, or
    *unknown*: what was asked may have been done, or may still be.
    """

    def __init__(self, text: str, *, code: int | None = None, unsent: bool = False) -> None:
        super().__init__(text)
        self.code = code
        refused = code is not None and code not in _UNKNOWN_OUTCOMES
        self.outcome: Outcome = "unsent" if unsent else "refused" if refused else "unknown"


class translated:  # noqa: N801 - reads as a word of the with statement
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
        return known_failure(doing, code)
    if code is not None:
        return StoreError(f"cannot {doing}: ClickHouse error {code}", code=code)
    kind = type(error).__name__
    return StoreError(f"cannot {doing}: {kind}", unsent=_never_left(error))


def _never_left(error: BaseException | None) -> bool:
    """Return whether no connection was made: what was asked cannot have been done."""
    while error is not None:
        reason = error.reason if isinstance(error, MaxRetryError) else error
        if isinstance(reason, (NewConnectionError, ConnectTimeoutError, ConnectionRefusedError)):
            return True
        error = error.__cause__
    return False


def known_failure(doing: str, code: int) -> StoreError:
    """Return the error of a cause with a known remedy, by the engine's code."""
    return StoreError(f"cannot {doing}: {_REMEDIES[code]}", code=code)


def connect_embedded(directory: Path) -> Client:
    """Return a connection to the engine of this process in `directory`; raises StoreError."""
    doing = f"open the store in {directory}"
    try:
        return clickhouse_connect.get_client(interface="chdb", path=str(directory))
    except (ClickHouseError, RuntimeError) as error:
        failure = _store_error(doing, error)
        if failure.code == _BAD_START:
            # The engine tells the cause on its standard error only, so look at its lock.
            failure = known_failure(doing, 76 if _is_locked(directory / "status") else 722)
        raise failure from None


def rinse(client: Client) -> None:
    """Make `client` fit for use after a query of it failed.

    In chDB 4.4 what a failed query had already put out stands before the answer to the next one.

    Raises
    ------
    StoreError
        If the handle still answers with something else.
    """
    for _ in range(_RINSES):
        if client.raw_query(f"SELECT '{_CLEAN}' FORMAT RawBLOB", use_database=False) == _CLEAN.encode():
            return
    raise StoreError("the engine answers with what was not asked; start again")


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


def connect_server(dsn: str, password: str, *, timeout_s: float = 0.0) -> Client:
    """Return a connection to the server at `dsn`; raises StoreError.

    Client and server give up what takes longer than `timeout_s` seconds (0: the driver's own limits).
    """
    limits: dict[str, Any] = {}
    if timeout_s:
        whole_s = max(1, int(timeout_s))
        limits = {"connect_timeout": min(10, whole_s), "send_receive_timeout": whole_s}
        limits["settings"] = {"max_execution_time": whole_s}
    try:
        return clickhouse_connect.get_client(
            dsn=dsn, password=password, autogenerate_session_id=False, **limits
        )
    except (ClickHouseError, OSError, ValueError) as error:
        failure = _store_error("open the store", error)
        if failure.code is None:
            text = "cannot open the store: the server does not answer; is [land] dsn right?"
            failure = StoreError(text, unsent=_never_left(error))
        raise failure from None


def writable(path: Path) -> Path:
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


def raise_open_files() -> None:
    """Ask for enough file descriptors: the engine keeps its parts open, and grows with merges."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _OPEN_FILES:
        return
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
