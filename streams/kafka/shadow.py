"""The shadow tables of a backfill: what was scored again, beside what was scored first.

``scorecards__<run>`` and ``scores__<run>`` have the form of the live tables. Their ``src_`` columns name the
interaction's place, so that they know how far the run is.
"""

import re
import time
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol

import msgspec
from msgspec import Struct

from detectors.records import Interaction
from streams.settings import SettingsError
from streams.store_connection import StoreError

TABLES: Final = ("scores", "scorecards")
"""In the order in which they are written: progress is read off the last."""
RunState = Literal["running", "complete", "swapped", "settled", "dropped"]
"""``settled``: swapped, and its tables dropped, so that it cannot be undone."""
_UNKNOWN_TABLE: Final = 60

_RUN_ID: Final = re.compile(r"[a-z0-9]{1,24}")
_RUNS: Final = """
CREATE TABLE IF NOT EXISTS backfill_runs (
  run_id String,
  at DateTime64(3, 'UTC'),
  state LowCardinality(String),
  plan String
) ENGINE = ReplacingMergeTree(at) ORDER BY run_id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
"""


class BackfillError(RuntimeError):
    """A backfill that cannot go on; the text is one line with the remedy."""


class Span(Struct, frozen=True, array_like=True):
    """Kafka offsets from ``first`` up to, and without, ``end``."""

    first: int
    end: int


class Plan(Struct, frozen=True, kw_only=True):
    """What a run covers: offsets by partition, and of these what was received in [``from_ms``, ``to_ms``).

    ``configuration`` is a digest of what scores: a run is of one configuration.
    """

    run_id: str
    topic: str
    spans: dict[str, Span]
    from_ms: int | None = None
    to_ms: int | None = None
    configuration: str = ""

    def covers(self, record: Interaction) -> bool:
        """Return whether `record`, which stands within the offsets, is meant."""
        return self._covers_ms(record.received_at_ms)

    def has(self, partition: int, offset: int, received_at_ms: int) -> bool:
        """Return whether what was received then, and stands there in the log, is meant."""
        span = self.spans.get(str(partition))
        return span is not None and span.first <= offset < span.end and self._covers_ms(received_at_ms)

    def _covers_ms(self, at_ms: int) -> bool:
        return (self.from_ms is None or at_ms >= self.from_ms) and (self.to_ms is None or at_ms < self.to_ms)


class Readable(Protocol):
    """A read-only handle of the store."""

    def query(self, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of `sql`."""
        ...


class Tables(Protocol):
    """What a backfill needs of the store."""

    def insert(self, table: str, columns: Mapping[str, list[Any]], *, token: str) -> int:
        """Insert rows; the same `token` twice inserts once."""
        ...

    def define(self, statement: str) -> None:
        """Run a statement of ours."""
        ...

    def reader(self) -> Readable:
        """Return a read-only handle."""
        ...


def check_run_id(run_id: str) -> str:
    """Return `run_id` if it can be part of a table's name.

    Raises
    ------
    SettingsError
        If not.

    Examples
    --------
    >>> check_run_id("policy2")
    'policy2'
    """
    if not _RUN_ID.fullmatch(run_id):
        raise SettingsError(f"--run-id: {run_id!r} must be 1 to 24 of a-z and 0-9")
    return run_id


class ShadowTables:
    """The shadow tables of one run, and the list of all runs.

    Parameters
    ----------
    store
        Where they live; their makeup is that of the live tables beside them.
    run_id
        The run.
    """

    def __init__(self, store: Tables, run_id: str) -> None:
        self._store, self.run_id = store, check_run_id(run_id)
        store.define(_RUNS)
        self.reader = store.reader()

    def name(self, table: str, kind: str = "") -> str:
        """Return the name of the shadow of `table`; `kind` is empty, ``_old`` or ``_new``."""
        return f"{table}__{self.run_id}{kind}"

    def find(self) -> tuple[Plan, RunState] | None:
        """Return plan and state of the run, None if it never began or was dropped."""
        rows = self.reader.query(
            "SELECT state, plan FROM backfill_runs FINAL WHERE run_id = {run:String}", {"run": self.run_id}
        )
        if not rows or rows[0]["state"] == "dropped":
            return None
        return msgspec.json.decode(rows[0]["plan"], type=Plan), rows[0]["state"]

    def begin(self, plan: Plan) -> Plan:
        """Make the tables and remember `plan`; return the plan of a run that had begun before.

        Raises
        ------
        BackfillError
            If the run began with another configuration or range, or was swapped.
        """
        found = self.find()
        if found is None:
            for table in TABLES:
                self._store.define(f"DROP TABLE IF EXISTS {self.name(table)} SYNC")
                self._store.define(f"CREATE TABLE {self.name(table)} AS {table}")
            self.mark(plan, "running")
            return plan
        before, state = found
        if state not in {"running", "complete"}:
            raise BackfillError(f"backfill {self.run_id} is {state}: choose another --run-id, or drop it")
        if _asked(before) != _asked(plan):
            raise BackfillError(
                f"backfill {self.run_id} began with another configuration or range: "
                "go on with those, or choose another --run-id"
            )
        return before

    def mark(self, plan: Plan, state: RunState) -> None:
        """Remember the state of the run."""
        now_ms = time.time_ns() // 1_000_000
        row: dict[str, list[Any]] = {
            "run_id": [self.run_id],
            "at": [now_ms],
            "state": [state],
            "plan": [msgspec.json.encode(plan).decode()],
        }
        self._store.insert("backfill_runs", row, token=f"backfill/{self.run_id}/{state}/{now_ms}")

    def next_place(self, partition: int) -> int:
        """Return the place after the last one of `partition` that was scored again; 0 if none was."""
        rows = self.reader.query(
            f"SELECT count() AS n, max(src_offset) AS last FROM {self.name('scorecards')} "  # noqa: S608 - ours
            "WHERE src_partition = {partition:UInt32}",
            {"partition": partition},
        )
        return int(rows[0]["last"]) + 1 if rows[0]["n"] else 0

    def insert(self, partition: int, first: int, last: int, tables: Mapping[str, Any]) -> None:
        """Insert the rows of the places from `first` to `last`.

        A repetition, after a crash between the two tables, gives rows of the same sorting key.
        """
        for table in TABLES:
            if table in tables:
                token = f"backfill/{self.run_id}/{partition}/{first}-{last}/{table}"
                self._store.insert(self.name(table), tables[table], token=token)

    def drop(self) -> list[str]:
        """Drop every table of the run and return their names."""
        found = self.find()
        names = [self.name(table, kind) for table in TABLES for kind in ("", "_new", "_old")]
        there = self.reader.query(
            "SELECT name FROM system.tables "
            "WHERE database = currentDatabase() AND name IN {names:Array(String)}",
            {"names": names},
        )
        dropped = sorted(row["name"] for row in there)
        for name in dropped:
            self._store.define(f"DROP TABLE IF EXISTS {name} SYNC")
        if found is not None:
            self.mark(found[0], "settled" if found[1] in {"swapped", "settled"} else "dropped")
        return dropped


def swapped_plans(store: Readable) -> list[Plan]:
    """Return the plans of all runs whose rows are the live ones now."""
    try:
        rows = store.query("SELECT plan FROM backfill_runs FINAL WHERE state IN ('swapped', 'settled')", {})
    except StoreError as error:
        if error.code != _UNKNOWN_TABLE:
            raise
        return []  # nothing was ever backfilled
    return [msgspec.json.decode(row["plan"], type=Plan) for row in rows]


def _asked(plan: Plan) -> tuple[object, ...]:
    """Return what a user asked for; the end of a range by time moves with the log."""
    starts = {part: span.first if plan.from_ms is not None else span for part, span in plan.spans.items()}
    by_time = plan.from_ms is not None
    return (plan.topic, plan.from_ms, plan.to_ms, plan.configuration, None if by_time else starts)
