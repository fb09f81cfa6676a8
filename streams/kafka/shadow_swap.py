"""Puts what was scored again in the place of what was scored first, a day at a time, and takes it back.

A day of a table is one partition of it, and one partition is replaced atomically. What the run does not cover
of a day is copied beside it first, so that the whole day can be replaced. The rows that go are kept in
``<table>__<run>_old``.
"""

import datetime
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from streams.kafka.envelope import place_of
from streams.kafka.shadow import TABLES, BackfillError, Plan, ShadowTables, Tables

_CARDS: Final = "scorecards"
_SETTLED_S: Final = 600.0
_IDS: Final = "deployment, interaction_id"
_DAY_OF: Final = "toDate(received_at) = {day:Date}"


class Day(Struct, frozen=True, kw_only=True):
    """One day of a run: interactions scored again, and what of the live table has no counterpart.

    ``missing`` are covered and were not scored again, ``extra`` were scored again and have not landed.
    """

    day: datetime.date
    covered: int
    missing: int
    extra: int
    newest_ms: int


class Swap:
    """Swaps, and undoes, one run.

    Parameters
    ----------
    store
        Where the tables live. A live monitor may write to it meanwhile, but not to the days that are swapped.
    shadow
        The run's tables.
    now_ms
        Wall clock, Unix milliseconds.
    """

    def __init__(
        self,
        store: Tables,
        shadow: ShadowTables,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._store, self._shadow, self._now_ms = store, shadow, now_ms

    def days(self, plan: Plan) -> list[Day]:
        """Return the days that the run covers, with what is incomplete."""
        covered, parameters = _covered(plan)
        cards, shadow = _CARDS, self._shadow.name(_CARDS)
        sql = f"""
        SELECT day, countIf(again) AS n, countIf(live AND NOT again) AS missing,
               countIf(again AND NOT live) AS extra, toUnixTimestamp64Milli(max(landed)) AS newest
        FROM (
          SELECT toDate(received_at) AS day, {_IDS}, max(is_live) AS live, max(is_live = 0) AS again,
                 max(landed_at) AS landed
          FROM (
            SELECT received_at, {_IDS}, landed_at, 1 AS is_live FROM {cards} WHERE {covered}
            UNION ALL
            SELECT received_at, {_IDS}, toDateTime64(0, 3, 'UTC') AS landed_at, 0 AS is_live FROM {shadow}
          ) GROUP BY day, {_IDS}
        ) GROUP BY day ORDER BY day
        """  # noqa: S608 - the names are ours
        return [
            Day(
                day=row["day"],
                covered=int(row["n"]),
                missing=int(row["missing"]),
                extra=int(row["extra"]),
                newest_ms=int(row["newest"]),
            )
            for row in self._shadow.reader.query(sql, parameters)
        ]

    def swap(self, *, advance: Callable[[datetime.date], None] = lambda _day: None) -> list[Day]:
        """Replace every day that the run covers, and return the days; an interrupted swap is gone on with.

        Raises
        ------
        BackfillError
            If the run is not complete, has not scored all that it covers, or covers what has not landed, or
            is still landing.
        """
        plan, state = self._known()
        if state == "swapped":
            raise BackfillError(f"backfill {self._shadow.run_id} is swapped already")
        if state != "complete":
            raise BackfillError(
                f"backfill {self._shadow.run_id} is {state}: let `plumbline backfill run` finish it first"
            )
        days = self.days(plan)
        self._refuse_incomplete(days)
        for day in days:
            self._keep(day.day)
            for table in TABLES:
                self._compose(table, day.day)
            for table in TABLES:
                self._replace(table, day.day, "_old", "_new")
            advance(day.day)
        self._shadow.mark(plan, "swapped")
        return days

    def undo(self) -> list[datetime.date]:
        """Put the kept rows back, day by day, and return the days; the run can be swapped again.

        Raises
        ------
        BackfillError
            If the run is not swapped, or rows landed in such a day since.
        """
        plan, state = self._known()
        if state != "swapped":
            raise BackfillError(f"backfill {self._shadow.run_id} is {state}: there is nothing to undo")
        days = [day.day for day in self.days(plan)]
        for day in days:
            for table in TABLES:
                self._replace(table, day, "_new", "_old")
        self._shadow.mark(plan, "complete")
        for table in TABLES:
            for kind in ("_new", "_old"):
                self._store.define(f"DROP TABLE IF EXISTS {self._shadow.name(table, kind)} SYNC")
        return days

    def _known(self) -> tuple[Plan, str]:
        found = self._shadow.find()
        if found is None:
            raise BackfillError(f"there is no backfill {self._shadow.run_id}: run it first")
        return found

    def _refuse_incomplete(self, days: list[Day]) -> None:
        run = self._shadow.run_id
        if not days:
            raise BackfillError(f"backfill {run} covers no interaction")
        for day in days:
            if day.missing:
                raise BackfillError(
                    f"backfill {run}: {day.missing} interactions of {day.day} were not scored again, for the "
                    "log no longer holds them: choose a range that it holds"
                )
            if day.extra:
                raise BackfillError(
                    f"backfill {run}: {day.extra} interactions of {day.day} have not landed yet: "
                    "let landing catch up"
                )
        newest = max(day.newest_ms for day in days)
        if self._now_ms() - newest < _SETTLED_S * 1000:
            raise BackfillError(
                f"backfill {run}: rows of its range landed within the last {_SETTLED_S / 60:.0f} minutes: "
                "wait, so that none lands in between"
            )

    def _keep(self, day: datetime.date) -> None:
        """Copy the live day, of every table, to where it is kept; a day that was replaced is kept already."""
        for table in TABLES:
            kept = self._shadow.name(table, "_old")
            self._store.define(f"CREATE TABLE IF NOT EXISTS {kept} AS {table}")
            if self._count(kept, day) == 0:
                self._store.define(f"ALTER TABLE {kept} REPLACE PARTITION ID '{day:%Y%m%d}' FROM {table}")

    def _compose(self, table: str, day: datetime.date) -> None:
        """Make the new day: what was scored again, under the places of the rows it replaces, and the rest."""
        new, shadow = self._shadow.name(table, "_new"), self._shadow.name(table)
        old, ids = self._shadow.name(table, "_old"), self._shadow.name(_CARDS)
        cards, columns = self._shadow.name(_CARDS, "_old"), self._columns(table)
        on_day = f"toDate(received_at) = '{day:%Y-%m-%d}'"
        self._store.define(f"CREATE TABLE IF NOT EXISTS {new} AS {table}")
        self._store.define(f"ALTER TABLE {new} DROP PARTITION ID '{day:%Y%m%d}'")
        taken = ", ".join(f"l.{name}" if name.startswith("src_") else f"s.{name}" for name in columns)
        self._store.define(
            f"INSERT INTO {new} ({', '.join(columns)}) SELECT {taken} "  # noqa: S608 - the names are ours
            f"FROM (SELECT * FROM {shadow} FINAL WHERE {on_day}) AS s "
            f"INNER JOIN (SELECT {_IDS}, src_partition, src_offset FROM {cards} FINAL WHERE {on_day}) AS l "
            f"USING ({_IDS}) SETTINGS insert_deduplicate = 0"
        )
        self._store.define(
            f"INSERT INTO {new} ({', '.join(columns)}) SELECT {', '.join(columns)} FROM {old} "  # noqa: S608
            f"WHERE {on_day} AND ({_IDS}) NOT IN (SELECT {_IDS} FROM {ids} WHERE {on_day}) "
            "SETTINGS insert_deduplicate = 0"
        )

    def _replace(self, table: str, day: datetime.date, expected: str, wanted: str) -> None:
        """Put the day of one table beside the live one in its place, if the live one is as `expected`."""
        name = self._shadow.name(table, wanted)
        found, known = self._count(table, day), self._count(self._shadow.name(table, expected), day)
        if found != known:
            if found == self._count(name, day):
                return  # it was replaced before the interruption
            raise BackfillError(
                f"backfill {self._shadow.run_id}: {table} of {day} has {found} rows and had {known}: rows "
                "landed in between; drop the run by `plumbline backfill drop`, and begin again when none land"
            )
        self._store.define(f"ALTER TABLE {table} REPLACE PARTITION ID '{day:%Y%m%d}' FROM {name}")

    def _count(self, table: str, day: datetime.date) -> int:
        sql = f"SELECT count() AS n FROM {table} FINAL WHERE {_DAY_OF}"  # noqa: S608 - the names are ours
        return int(self._shadow.reader.query(sql, {"day": day})[0]["n"])

    def _columns(self, table: str) -> list[str]:
        rows = self._shadow.reader.query(
            "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = {table:String} "
            "ORDER BY position",
            {"table": table},
        )
        return [row["name"] for row in rows]


def _covered(plan: Plan) -> tuple[str, Mapping[str, Any]]:
    """Return the condition on live scorecards that says what `plan` covers, and its parameters."""
    if plan.from_ms is not None:
        return (
            "toUnixTimestamp64Milli(received_at) >= {from:Int64} "
            "AND toUnixTimestamp64Milli(received_at) < {to:Int64}",
            {"from": plan.from_ms, "to": plan.to_ms},
        )
    parts = [
        f"(source_partition = {int(part)} AND source_offset >= {place_of(span.first)} "
        f"AND source_offset < {place_of(span.end)})"
        for part, span in plan.spans.items()
    ]
    return (" OR ".join(parts) or "0"), {}
