"""How far the copies of the ledger in the log have come, and how many acts there are; kept by the ledger."""

from collections.abc import Mapping
from typing import Literal

from sqlalchemy import Connection, func, insert, select, update

from streams.response.tables import acts, copied

CopiedTable = Literal["transitions", "settlements"]
START: dict[CopiedTable, int] = {"transitions": 0, "settlements": 0}


def read_copied(transaction: Connection) -> dict[CopiedTable, int]:
    """Return, per table, the last row whose copy is in the log; 0 if there is none."""
    found = {row.name: int(row.row_id) for row in transaction.execute(select(copied))}
    return {name: found.get(name, row_id) for name, row_id in START.items()}


def mark_copied(transaction: Connection, reached: Mapping[CopiedTable, int]) -> None:
    """Store, per table, the last row whose copy is in the log."""
    for name, row_id in reached.items():
        changed = transaction.execute(update(copied).where(copied.c.name == name).values(row_id=row_id))
        if changed.rowcount == 0:
            transaction.execute(insert(copied).values(name=name, row_id=row_id))


def count_acts(transaction: Connection) -> dict[str, int]:
    """Return how many acts that are no dry runs are in each state that occurs."""
    query = select(acts.c.state, func.count()).where(acts.c.dry_run.is_(False)).group_by(acts.c.state)
    return {str(state): int(count) for state, count in transaction.execute(query)}
