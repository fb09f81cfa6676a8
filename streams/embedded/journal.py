"""The journal: an SQLite file that stands where Kafka stands in a larger installation.

Topics, logical partitions, offsets, stage positions and stage state live in one file, so that a stage's
outputs, state and offset commit in one transaction. Opened in WAL mode with ``synchronous=FULL``: what is
committed is on disk.
"""

import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from detectors.records.codec import CodecError, Record, decode, encode
from detectors.records.ids import partition_of
from streams.embedded.errors import StorageError
from streams.inbox import Entry, Outcome

SCHEMA_VERSION: Final = 1
BATCH_BYTES: Final = 8_388_608
"""How much stored content one batch of a stage or of landing may hold; a record more ends it."""
_BUSY_TIMEOUT_S: Final = 60.0
_PRUNE_ROWS: Final = 2_000
_PRUNE_PAUSE_S: Final = 0.02
"""Between two deletions: who waits for the lock asks again every few milliseconds, and must get a turn."""
_DAMAGED: Final = "restore it from a backup, or move the data directory aside to start afresh"
_REMEDIES: Final = {
    sqlite3.SQLITE_FULL: "free space on its disk; nothing of this was written",
    sqlite3.SQLITE_IOERR: "check its disk; nothing of this was written",
    sqlite3.SQLITE_READONLY: "make file and directory writable, or set data_dir elsewhere",
    sqlite3.SQLITE_CANTOPEN: "make file and directory writable, or set data_dir elsewhere",
    sqlite3.SQLITE_BUSY: "another program keeps it locked; stop that one",
}

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
  id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, part INTEGER NOT NULL, off INTEGER NOT NULL,
  kind TEXT NOT NULL, payload BLOB NOT NULL, written_at_ms INTEGER NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS records_place ON records (topic, part, off);
CREATE INDEX IF NOT EXISTS records_topic ON records (topic, id);
CREATE TABLE IF NOT EXISTS heads (
  topic TEXT NOT NULL, part INTEGER NOT NULL, next_off INTEGER NOT NULL,
  PRIMARY KEY (topic, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS identities (
  identity TEXT PRIMARY KEY, digest TEXT NOT NULL, seen_at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS identities_age ON identities (seen_at_ms)
  WHERE substr(identity, 1, 7) <> 'action/';
CREATE TABLE IF NOT EXISTS positions (
  consumer TEXT NOT NULL, topic TEXT NOT NULL, part INTEGER NOT NULL, next_off INTEGER NOT NULL,
  PRIMARY KEY (consumer, topic, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS states (
  stage TEXT NOT NULL, part INTEGER NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL,
  PRIMARY KEY (stage, part, name));
CREATE TABLE IF NOT EXISTS landings (
  topic TEXT PRIMARY KEY, first_id INTEGER NOT NULL, last_id INTEGER NOT NULL,
  phase TEXT NOT NULL) WITHOUT ROWID;
"""


class Row(Struct, frozen=True):
    """One record of the journal with its place; `row_id` grows in commit order over all topics.

    ``size`` is that of the record as stored, in bytes.
    """

    row_id: int
    topic: str
    partition: int
    offset: int
    record: Record
    size: int = 0


class Journal:
    """The log of one installation.

    Every thread gets its own connection. Writers take turns; readers never wait.

    Parameters
    ----------
    path
        The file; made if absent.
    partitions
        Logical partitions of every topic, fixed when the file is made.

    Raises
    ------
    StorageError
        If the file cannot be opened or written, is damaged, or was made with other partitions.

    Attributes
    ----------
    journal_id
        Made with the file; no two journals share it.
    """

    def __init__(self, path: Path, *, partitions: int) -> None:
        self.path = path
        self.partitions = partitions
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        try:
            with self.transaction() as db:
                db.executescript("BEGIN IMMEDIATE;" + _SCHEMA)
                self._check_meta(db)
        except StorageError:
            self.close()
            raise

    def _check_meta(self, db: sqlite3.Connection) -> None:
        wanted = {"schema": str(SCHEMA_VERSION), "partitions": str(self.partitions)}
        for name, value in wanted.items():
            db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
            found = _meta(db, name)
            if found != value:
                raise StorageError(
                    f"{self.path}: made with {name} = {found}, but {value} is asked for: "
                    f"set it back to {found}, or use a new data directory"
                )

        db.execute("INSERT OR IGNORE INTO meta VALUES ('journal_id', ?)", (secrets.token_hex(8),))
        self.journal_id = _meta(db, "journal_id")

    def connection(self) -> sqlite3.Connection:
        """Return this thread's connection."""
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA wal_autocheckpoint = 4000")
            self._local.db = db
            self._connections.append(db)
        return db

    def select(self, query: str, arguments: Sequence[str | int] = ()) -> list[Any]:
        """Return all rows of a fixed `query`; errors of the engine become StorageError."""
        with self._translated():
            return self.connection().execute(query, arguments).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a block in one write transaction: all of it is on disk afterwards, or none."""
        with self._translated():
            db = self.connection()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")  # a full disk may show here, and must not leave the transaction open
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the engine's errors into one line with the remedy; it never quotes a record."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
            remedy = _REMEDIES.get(primary, _DAMAGED)
            raise StorageError(f"{self.path}: the journal cannot be used ({error}): {remedy}") from error

    def close(self) -> None:
        """Close every connection; call it when the threads that used them have ended."""
        for db in self._connections:
            db.close()

    def append(self, db: sqlite3.Connection, records: Sequence[tuple[str, int, Record]]) -> None:
        """Append (topic, partition, record) inside the caller's transaction, in order."""
        now_ms = time.time_ns() // 1_000_000
        heads: dict[tuple[str, int], int] = {}
        rows = []
        for topic, partition, record in records:
            place = (topic, partition)
            if place not in heads:
                found = db.execute(
                    "SELECT next_off FROM heads WHERE topic = ? AND part = ?", place
                ).fetchone()
                heads[place] = found[0] if found else 0
            rows.append((topic, partition, heads[place], type(record).__name__, encode(record), now_ms))
            heads[place] += 1
        db.executemany(
            "INSERT INTO records (topic, part, off, kind, payload, written_at_ms) VALUES (?, ?, ?, ?, ?, ?)",
            rows,
        )
        db.executemany(
            "INSERT INTO heads VALUES (?, ?, ?) "
            "ON CONFLICT (topic, part) DO UPDATE SET next_off = excluded.next_off",
            [(topic, partition, offset) for (topic, partition), offset in heads.items()],
        )

    def admit(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Append what is new in one durable transaction and return every entry's outcome (see ``Inbox``)."""
        outcomes: list[Outcome] = []
        now_ms = time.time_ns() // 1_000_000
        with self.transaction() as db:
            fresh: list[tuple[str, int, Record]] = []
            for entry in entries:
                outcome = self._claim(db, entry, now_ms)
                outcomes.append(outcome)
                if outcome == "accepted":
                    fresh += [
                        (entry.topic, partition, entry.record) for partition in self._targets(entry.key)
                    ]
            self.append(db, fresh)
        return outcomes

    @staticmethod
    def _claim(db: sqlite3.Connection, entry: Entry, now_ms: int) -> Outcome:
        claimed = db.execute(
            "INSERT OR IGNORE INTO identities VALUES (?, ?, ?)", (entry.identity, entry.digest, now_ms)
        )
        if claimed.rowcount:
            return "accepted"
        known = db.execute("SELECT digest FROM identities WHERE identity = ?", (entry.identity,)).fetchone()
        return "duplicate" if known[0] == entry.digest else "conflict"

    def _targets(self, key: str | None) -> Sequence[int]:
        return range(self.partitions) if key is None else (partition_of(key, self.partitions),)

    def read(
        self, topic: str, partition: int, offset: int, limit: int, *, max_bytes: int = 2**62
    ) -> list[Row]:
        """Return up to `limit` records of one partition, from `offset` on, in order.

        The record that brings their content to `max_bytes` is the last one.
        """
        return self._rows(
            "WHERE topic = ? AND part = ? AND off >= ? ORDER BY off LIMIT ?",
            (topic, partition, offset, limit),
            max_bytes,
        )

    def read_topic(
        self, topic: str, after_id: int, limit: int, *, last_id: int = 2**62, max_bytes: int = 2**62
    ) -> list[Row]:
        """Return up to `limit` records of all partitions of `topic` in commit order, after row `after_id`.

        The record that brings their content to `max_bytes` is the last one.
        """
        return self._rows(
            "WHERE topic = ? AND id > ? AND id <= ? ORDER BY id LIMIT ?",
            (topic, after_id, last_id, limit),
            max_bytes,
        )

    def _rows(self, condition: str, arguments: tuple[str | int, ...], max_bytes: int) -> list[Row]:
        query = f"SELECT id, topic, part, off, kind, payload FROM records {condition}"  # noqa: S608 - fixed texts
        rows, left = [], max_bytes
        with self._translated():
            cursor = self.connection().execute(query, arguments)
            for row_id, topic, partition, offset, kind, payload in cursor:
                record = self._decoded(kind, payload, f"{topic}/{partition} offset {offset}")
                rows.append(Row(row_id, topic, partition, offset, record, len(payload)))
                left -= len(payload)
                if left <= 0:
                    break
            cursor.close()
        return rows

    def _decoded(self, kind: str, payload: bytes, place: str) -> Record:
        try:
            return decode(kind, payload)
        except CodecError as error:
            raise StorageError(
                f"{self.path}: {place} cannot be read ({error}): "
                "it was written by another version, or the file is damaged"
            ) from error

    def ends(self, topic: str) -> dict[int, int]:
        """Return the next free offset of every partition of `topic`."""
        return self._by_partition("SELECT part, next_off FROM heads WHERE topic = ?", (topic,))

    def positions(self, consumer: str, topic: str) -> dict[int, int]:
        """Return the next offset that `consumer` will read in every partition of `topic`."""
        return self._by_partition(
            "SELECT part, next_off FROM positions WHERE consumer = ? AND topic = ?", (consumer, topic)
        )

    def _by_partition(self, query: str, arguments: tuple[str, ...]) -> dict[int, int]:
        return {**dict.fromkeys(range(self.partitions), 0), **dict(self.select(query, arguments))}

    def prune(self, older_than_ms: int, act_positions: dict[int, int]) -> int:
        """Delete records that every consumer has passed and that were written before `older_than_ms`.

        Identities go with them, so an id may be used again after the retention time. The write lock is taken
        for a few thousand rows at a time. Returns how many records were deleted.
        """
        landed = dict(self.select("SELECT topic, last_id FROM landings WHERE phase = 'after'"))
        passed = {
            (topic, part): offset
            for topic, part, offset in self.select(
                "SELECT topic, part, min(next_off) FROM positions GROUP BY 1, 2"
            )
        }
        passed |= {("decisions", part): offset for part, offset in act_positions.items()}
        deleted = 0
        for topic, part in self.select("SELECT topic, part FROM heads"):
            read_by_stage = topic in {"interactions", "scorecards", "signals", "decisions"}
            before = passed.get((topic, part), 0) if read_by_stage else 2**62
            deleted += self._prune_partition(topic, part, before, landed.get(topic, 0), older_than_ms)
        old = (
            "DELETE FROM identities WHERE identity IN (SELECT identity FROM identities "
            "WHERE seen_at_ms < ? AND substr(identity, 1, 7) <> 'action/' LIMIT ?)"
        )
        while self._delete(old, (older_than_ms, _PRUNE_ROWS)) == _PRUNE_ROWS:
            pass
        return deleted

    def _prune_partition(self, topic: str, part: int, before: int, landed: int, older_than_ms: int) -> int:
        """Delete from the oldest record on, up to the first that is young or that somebody still needs."""
        deleted = 0
        query = "SELECT off, id, written_at_ms FROM records WHERE topic = ? AND part = ? ORDER BY off LIMIT ?"
        while True:
            end, rows = 0, 0
            for offset, row_id, written_at_ms in self.select(query, (topic, part, _PRUNE_ROWS)):
                if offset >= before or row_id > landed or written_at_ms >= older_than_ms:
                    break
                end, rows = offset + 1, rows + 1
            if rows:
                place = (topic, part, end)
                deleted += self._delete("DELETE FROM records WHERE topic = ? AND part = ? AND off < ?", place)
            if rows < _PRUNE_ROWS:
                return deleted

    def _delete(self, statement: str, arguments: tuple[str | int, ...]) -> int:
        with self.transaction() as db:
            deleted = db.execute(statement, arguments).rowcount
        time.sleep(_PRUNE_PAUSE_S if deleted == _PRUNE_ROWS else 0.0)
        return deleted


def _meta(db: sqlite3.Connection, name: str) -> str:
    (value,) = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return str(value)
