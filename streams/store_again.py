"""Inserts that may have been done already: the store is asked what it holds, and given what is missing.

The engine's own memory of deduplication tokens is not enough for that. Of ClickHouse 26.9 (chDB 4.4) it was
measured, on tmpfs and on ext4, that it remembers the token of an insert that a full disk ended: the
repetition was answered as done and stored nothing. And what it remembers is a log on that disk.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from streams.store_connection import StoreError

Columns = Mapping[str, Sequence[Any]]
Send = Callable[[Columns, str], None]
"""Inserts columns under a token."""
Query = Callable[[str, Mapping[str, Any]], list[dict[str, Any]]]
"""Returns the rows of a SELECT with parameters."""

TOLD_APART: Final[Mapping[str, tuple[str, ...]]] = {
    "interactions": ("deployment", "interaction_id"),
    "interaction_text": ("deployment", "interaction_id"),
    "scorecards": ("deployment", "interaction_id"),
    "scores": ("deployment", "interaction_id", "metric", "version"),
    "signals": ("deployment", "signal_id"),
    "decisions": ("deployment", "decision_id"),
    "actions": ("deployment", "action_id", "seq"),
    "releases": ("deployment", "release", "content"),
    "feedback": ("deployment", "feedback_id"),
    "labels": ("deployment", "label_id"),
    "comments": ("deployment", "source", "source_id"),
    "reference_points": ("deployment", "metric", "segment", "release", "reference_id"),
}
"""What tells the rows of a batch apart, of each table: its sorting key without times. Rows that are alike in
it the engine may make one of, at the insert or later."""

_ATTEMPTS: Final = 32


def complete(query: Query, table: str, columns: Columns, *, token: str, send: Send) -> None:
    """Store those rows of `columns` that are not there; return when all are.

    Parameters
    ----------
    query
        Of the database with `table`. It must not be the connection that inserts: what a query that fails
        has put out stands before the next answer, if nobody sees to it.
    table, columns
        One batch, by column, with ``src_partition`` and ``src_offset``.
    token
        Of the batch. It is used first: an earlier insert that is still on its way then stores nothing.
    send
        Inserts; called once for each attempt.

    Raises
    ------
    StoreError
        If the engine says again and again that rows are stored which are not there.
    """
    for attempt in range(_ATTEMPTS):
        there = _rows_there(query, table, columns)
        missing = [row for row, told in enumerate(_identities(table, columns)) if told not in there]
        if not missing:
            return
        rest = {name: [values[row] for row in missing] for name, values in columns.items()}
        send(rest, f"{token}/again-{attempt}" if attempt else token)
    raise StoreError(
        f"cannot insert into {table}: the store says that rows are stored and they are not: see to its disk"
    )


def _identities(table: str, columns: Columns) -> list[tuple[str, ...]]:
    return list(zip(*[[str(value) for value in columns[name]] for name in TOLD_APART[table]], strict=True))


def _rows_there(query: Query, table: str, columns: Columns) -> set[tuple[str, ...]]:
    """Return the identities of the rows with places as in `columns`."""
    told = ", ".join(f"toString({name})" for name in TOLD_APART[table])
    where = (
        "src_partition IN {partitions:Array(UInt32)} AND src_offset BETWEEN {first:UInt64} AND {last:UInt64}"
    )
    places = columns["src_offset"]
    parameters = {
        "partitions": sorted(set(columns["src_partition"])),
        "first": min(places),
        "last": max(places),
    }
    if "received_at" in columns:  # days of which nothing is in the batch need not be read
        since, until = min(columns["received_at"]), max(columns["received_at"])
        where += " AND received_at >= fromUnixTimestamp64Milli({since:Int64})"
        where += " AND received_at <= fromUnixTimestamp64Milli({until:Int64})"
        parameters |= {"since": since, "until": until}
    sql = f"SELECT DISTINCT {told} FROM {table} WHERE {where}"  # noqa: S608 - the names are ours
    return {tuple(row.values()) for row in query(sql, parameters)}
