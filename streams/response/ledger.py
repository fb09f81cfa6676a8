"""The ledger: everything the response side must remember, in transactions.

Every write of one cause stands in one transaction: a decision with its pages, a transition with its audit row
and its notices. A change of an act names the state and version it started from; when neither fits any more,
somebody else moved the act and nothing is written.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Row, create_engine, event, func, insert, select, update

from detectors.records import Action, ActionState, Decision, Release
from detectors.records.release import Role
from streams.response.tables import METADATA, acts, positions, releases, rulings, transitions, watches
from streams.response.verification import Observation

OPEN: Final[tuple[ActionState, ...]] = ("DECIDED", "EXECUTING", "VERIFYING")
STEPS: Final[dict[ActionState, frozenset[ActionState]]] = {
    "DECIDED": frozenset({"EXECUTING"}),
    "EXECUTING": frozenset({"VERIFYING", "FAILED"}),
    "VERIFYING": frozenset({"ROLLED_BACK", "FAILED"}),
    "ROLLED_BACK": frozenset(),
    "FAILED": frozenset(),
}
"""The whole machine: which state may follow which."""


class Act(Struct, frozen=True, kw_only=True):
    """One rollback; ``version`` changes with every write, ``seq`` with every transition."""

    action_id: str
    decision: Decision
    partition: int
    deployment: str
    from_release: str
    to_release: str
    target: str
    dry_run: bool
    state: ActionState
    reason: str
    version: int = 0
    seq: int = 0
    attempts: int = 0
    next_at_ms: int = 0
    called_at_ms: int = 0
    decided_at_ms: int = 0
    updated_at_ms: int = 0


class Ruling(Struct, frozen=True, kw_only=True):
    """What became of a decision.

    ``outcome`` is ``page``, ``rollback``, ``dry_run``, or the named reason why no act was begun.
    ``action_id`` is empty where there is no act.
    """

    decision: Decision
    outcome: str
    at_ms: int
    action_id: str = ""


class Ledger:
    """The tables of :mod:`streams.response.tables` behind typed reads and writes.

    Parameters
    ----------
    url
        An SQLAlchemy URL. SQLite runs in WAL mode with ``synchronous=FULL``: what was committed survives a
        power cut. Missing tables are made.

    Examples
    --------
    >>> ledger = Ledger("sqlite://")
    >>> with ledger.begin() as transaction:
    ...     ledger.position(transaction, 0)
    0
    """

    def __init__(self, url: str) -> None:
        self._turn = threading.Lock()
        self._engine = create_engine(url)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_immediate)
        METADATA.create_all(self._engine)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Return one transaction: committed at the end of the block, undone if it raises.

        The threads of one process take turns here: a database that is asked again and again for its write
        lock would let the busiest of them go first for ever.
        """
        with self._turn, self._engine.begin() as transaction:
            yield transaction

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def position(self, transaction: Connection, partition: int) -> int:
        """Return the offset of the first record of `partition` that is not in the ledger yet."""
        row = transaction.execute(
            select(positions.c.next_offset).where(positions.c.partition == partition)
        ).first()
        return 0 if row is None else int(row.next_offset)

    def move_position(self, transaction: Connection, partition: int, next_offset: int) -> None:
        """Store `next_offset` as the position of `partition`."""
        changed = transaction.execute(
            update(positions).where(positions.c.partition == partition).values(next_offset=next_offset)
        )
        if changed.rowcount == 0:
            transaction.execute(insert(positions).values(partition=partition, next_offset=next_offset))

    def declare(self, transaction: Connection, partition: int, release: Release) -> None:
        """Store what the owner declared last about `release`, as seen by `partition`."""
        where = (
            (releases.c.partition == partition)
            & (releases.c.deployment == release.deployment)
            & (releases.c.release == release.release)
        )
        values: dict[str, Any] = {"role": release.role, "started_at_ms": release.started_at_ms}
        if transaction.execute(update(releases).where(where).values(**values)).rowcount == 0:
            transaction.execute(
                insert(releases).values(
                    partition=partition, deployment=release.deployment, release=release.release, **values
                )
            )

    def declared(
        self, transaction: Connection, partition: int, deployment: str
    ) -> dict[str, tuple[Role, int]]:
        """Return role and start (ms) of every declared release of `deployment`, by name."""
        rows = transaction.execute(
            select(releases).where(releases.c.partition == partition, releases.c.deployment == deployment)
        )
        return {row.release: (row.role, int(row.started_at_ms)) for row in rows}

    def ruled(self, transaction: Connection, decision_id: str) -> bool:
        """Return whether the decision was seen before."""
        query = select(rulings.c.decision_id).where(rulings.c.decision_id == decision_id)
        return transaction.execute(query).first() is not None

    def add_ruling(self, transaction: Connection, ruling: Ruling) -> None:
        """Store a decision with what became of it."""
        transaction.execute(
            insert(rulings).values(
                decision_id=ruling.decision.decision_id,
                outcome=ruling.outcome,
                action_id=ruling.action_id,
                at_ms=ruling.at_ms,
                decision=msgspec.json.encode(ruling.decision).decode(),
            )
        )

    def rulings(self, transaction: Connection) -> list[Ruling]:
        """Return every decision with what became of it, oldest first."""
        rows = transaction.execute(select(rulings).order_by(rulings.c.at_ms, rulings.c.decision_id))
        return [
            Ruling(
                decision=msgspec.json.decode(row.decision, type=Decision),
                outcome=row.outcome,
                at_ms=row.at_ms,
                action_id=row.action_id,
            )
            for row in rows
        ]

    def find_act(self, transaction: Connection, action_id: str) -> Act | None:
        """Return the act of that id, or None."""
        row = transaction.execute(select(acts).where(acts.c.action_id == action_id)).first()
        return None if row is None else _act(row)

    def open_acts(self, transaction: Connection) -> list[Act]:
        """Return the acts that still have somewhere to go, oldest first; dry runs have not."""
        query = select(acts).where(acts.c.state.in_(OPEN), acts.c.dry_run.is_(False))
        return [
            _act(row) for row in transaction.execute(query.order_by(acts.c.decided_at_ms, acts.c.action_id))
        ]

    def add_act(self, transaction: Connection, act: Act) -> None:
        """Store a new act in state DECIDED with its first audit row."""
        values = msgspec.structs.asdict(act)
        values["decision"] = msgspec.json.encode(act.decision).decode()
        transaction.execute(insert(acts).values(decision_id=act.decision.decision_id, **values))
        self._audit(transaction, act, {})

    def change(self, transaction: Connection, act: Act, **values: Any) -> Act | None:
        """Write `values` into `act` without a transition; None if somebody else changed it meanwhile."""
        return self._write(transaction, act, msgspec.structs.replace(act, version=act.version + 1, **values))

    def move(
        self,
        transaction: Connection,
        act: Act,
        state: ActionState,
        *,
        at_ms: int,
        reason: str,
        detail: dict[str, Any],
        **values: Any,
    ) -> Act | None:
        """Move `act` to `state` with an audit row; None if somebody else changed it meanwhile.

        Raises
        ------
        ValueError
            If no such transition exists in :data:`STEPS`.
        """
        if state not in STEPS[act.state]:
            raise ValueError(f"there is no transition from {act.state} to {state}")
        moved = msgspec.structs.replace(
            act,
            state=state,
            reason=reason,
            seq=act.seq + 1,
            version=act.version + 1,
            updated_at_ms=at_ms,
            **values,
        )
        written = self._write(transaction, act, moved)
        if written is not None:
            self._audit(transaction, written, detail)
        return written

    def _write(self, transaction: Connection, before: Act, after: Act) -> Act | None:
        changed = transaction.execute(
            update(acts)
            .where(
                acts.c.action_id == before.action_id,
                acts.c.state == before.state,
                acts.c.version == before.version,
            )
            .values(
                state=after.state,
                version=after.version,
                seq=after.seq,
                reason=after.reason,
                attempts=after.attempts,
                next_at_ms=after.next_at_ms,
                called_at_ms=after.called_at_ms,
                updated_at_ms=after.updated_at_ms,
            )
        )
        return after if changed.rowcount == 1 else None

    def _audit(self, transaction: Connection, act: Act, detail: dict[str, Any]) -> None:
        transaction.execute(
            insert(transitions).values(
                action_id=act.action_id,
                seq=act.seq,
                state=act.state,
                at_ms=act.updated_at_ms,
                reason=act.reason,
                detail=msgspec.json.encode(detail).decode(),
            )
        )

    def transitions_after(
        self, transaction: Connection, row_id: int, *, limit: int
    ) -> list[tuple[int, Action]]:
        """Return up to `limit` transitions with a row id above `row_id`, in order."""
        query = select(transitions, *_ACT_COLUMNS).join(acts, acts.c.action_id == transitions.c.action_id)
        query = query.where(transitions.c.id > row_id).order_by(transitions.c.id).limit(limit)
        rows = transaction.execute(query)
        return [(int(row.id), _action(row)) for row in rows]

    def latest_actions(self, transaction: Connection) -> list[Action]:
        """Return the latest transition of every act, oldest act first."""
        query = (
            select(transitions, *_ACT_COLUMNS)
            .join(acts, (acts.c.action_id == transitions.c.action_id) & (acts.c.seq == transitions.c.seq))
            .order_by(acts.c.decided_at_ms, acts.c.action_id)
        )
        return [_action(row) for row in transaction.execute(query)]

    def observe(self, transaction: Connection, action_id: str, seen: Observation) -> None:
        """Store `seen` for an act; the same stream and bucket again changes nothing."""
        key = (
            (watches.c.action_id == action_id)
            & (watches.c.test == seen.test)
            & (watches.c.release == seen.release)
            & (watches.c.at_ms == seen.at_ms)
        )
        if transaction.execute(select(func.count()).select_from(watches).where(key)).scalar_one() == 0:
            transaction.execute(insert(watches).values(action_id=action_id, **msgspec.structs.asdict(seen)))

    def observations(self, transaction: Connection, action_id: str) -> Sequence[Observation]:
        """Return everything seen for an act, in order of time."""
        rows = transaction.execute(
            select(watches).where(watches.c.action_id == action_id).order_by(watches.c.at_ms)
        )
        names = Observation.__struct_fields__
        return [Observation(**{name: getattr(row, name) for name in names}) for row in rows]


_ACT_COLUMNS: Final = (
    acts.c.decision_id,
    acts.c.deployment,
    acts.c.from_release,
    acts.c.to_release,
    acts.c.target,
    acts.c.dry_run,
)


def _act(row: Row[Any]) -> Act:
    values = {name: getattr(row, name) for name in Act.__struct_fields__ if name != "decision"}
    return Act(decision=msgspec.json.decode(row.decision, type=Decision), **values)


def _action(row: Row[Any]) -> Action:
    return Action(
        action_id=row.action_id,
        seq=row.seq,
        deployment=row.deployment,
        release=row.from_release,
        decision_id=row.decision_id,
        kind="rollback",
        target=row.target,
        state=row.state,
        at_ms=row.at_ms,
        reason=row.reason,
        from_release=row.from_release,
        to_release=row.to_release,
        dry_run=row.dry_run,
        detail=msgspec.json.decode(row.detail),
    )


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver would leave reads outside
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    # A transaction that reads and then writes must hold the write lock from its start, or it may fail later.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
