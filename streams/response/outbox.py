"""The outbox: notices are written with what they tell of, and delivered afterwards until they arrive.

A notice is unique for decision x transition x channel. Its id never changes, so a receiver that drops ids it
has seen shows it once, however often it was sent.
"""

from typing import Any, Final, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Row, func, insert, select, update

from detectors.records import Action, Decision
from detectors.records.ids import derive_id
from streams.notifiers import Notice
from streams.response.tables import outbox, settlements

OutboxState = Literal["pending", "sent", "dead"]
REASON_CHARS: Final = 256


class Posted(Struct, frozen=True, kw_only=True):
    """One row: the notice, the channel it goes to and how far it came."""

    notice: Notice
    channel: str
    state: OutboxState
    attempts: int
    next_at_ms: int
    updated_at_ms: int
    reason: str = ""


def post(
    transaction: Connection,
    *,
    channel: str,
    decision: Decision,
    transition: str,
    summary: str,
    at_ms: int,
    action: Action | None,
    links: dict[str, str],
) -> None:
    """Write one notice for one channel; the same decision, transition and channel again changes nothing."""
    notice_id = derive_id("notice", decision.decision_id, transition, channel)
    if transaction.execute(select(outbox.c.id).where(outbox.c.notice_id == notice_id)).first():
        return
    notice = Notice(
        notice_id=notice_id,
        decision=decision,
        transition=transition,
        summary=summary,
        action=action,
        links=links,
    )
    transaction.execute(
        insert(outbox).values(
            notice_id=notice_id,
            decision_id=decision.decision_id,
            transition=transition,
            channel=channel,
            state="pending",
            attempts=0,
            next_at_ms=at_ms,
            updated_at_ms=at_ms,
            reason="",
            notice=msgspec.json.encode(notice).decode(),
        )
    )


def due(transaction: Connection, channel: str, now_ms: int, *, limit: int) -> list[Posted]:
    """Return the notices of `channel` whose time has come, oldest first."""
    query = select(outbox).where(
        outbox.c.channel == channel, outbox.c.state == "pending", outbox.c.next_at_ms <= now_ms
    )
    return [_posted(row) for row in transaction.execute(query.order_by(outbox.c.id).limit(limit))]


def every(transaction: Connection) -> list[Posted]:
    """Return every notice in the order in which it was written."""
    return [_posted(row) for row in transaction.execute(select(outbox).order_by(outbox.c.id))]


def claim(transaction: Connection, row: Posted, *, until_ms: int, now_ms: int) -> bool:
    """Count an attempt and keep others off the row until `until_ms`; False if another was quicker."""
    values = {"attempts": row.attempts + 1, "next_at_ms": until_ms, "updated_at_ms": now_ms}
    return _write(transaction, row, row.attempts, values)


def settle(
    transaction: Connection, row: Posted, state: OutboxState, *, now_ms: int, next_at_ms: int, reason: str
) -> bool:
    """Store the end of the attempt that :func:`claim` began; False if another attempt began meanwhile.

    A row that ends here (*sent* or *dead*) takes the next place in the order of :func:`settled_after`.
    """
    values = {
        "state": state,
        "next_at_ms": next_at_ms,
        "updated_at_ms": now_ms,
        "reason": reason[:REASON_CHARS],
    }
    settled = _write(transaction, row, row.attempts + 1, values)
    if settled and state != "pending":
        transaction.execute(insert(settlements).values(notice_id=row.notice.notice_id))
    return settled


def settled_after(transaction: Connection, row_id: int, *, limit: int) -> list[tuple[int, Posted]]:
    """Return up to `limit` notices that ended after place `row_id` (0: all), each with its own place."""
    query = (
        select(outbox, settlements.c.id.label("place"))
        .join(settlements, settlements.c.notice_id == outbox.c.notice_id)
        .where(settlements.c.id > row_id)
    )
    rows = transaction.execute(query.order_by(settlements.c.id).limit(limit))
    return [(int(row.place), _posted(row)) for row in rows]


def count_by_state(transaction: Connection) -> dict[str, int]:
    """Return how many notices are in each state that occurs."""
    rows = transaction.execute(select(outbox.c.state, func.count()).group_by(outbox.c.state))
    return {str(state): int(count) for state, count in rows}


def _write(transaction: Connection, row: Posted, attempts: int, values: dict[str, Any]) -> bool:
    changed = transaction.execute(
        update(outbox)
        .where(
            outbox.c.notice_id == row.notice.notice_id,
            outbox.c.state == "pending",
            outbox.c.attempts == attempts,
        )
        .values(**values)
    )
    return changed.rowcount == 1


def _posted(row: Row[Any]) -> Posted:
    return Posted(
        notice=msgspec.json.decode(row.notice, type=Notice),
        channel=row.channel,
        state=row.state,
        attempts=row.attempts,
        next_at_ms=row.next_at_ms,
        updated_at_ms=row.updated_at_ms,
        reason=row.reason,
    )
