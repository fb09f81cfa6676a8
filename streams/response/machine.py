"""The response machine: decisions in, pages and verified rollbacks out, through one ledger.

``DECIDED -> EXECUTING -> VERIFYING -> ROLLED_BACK | FAILED``. Each arrow is one committed transaction,
written before the world is touched or after it was looked at again, so a process that dies anywhere is
continued by the next one over the same ledger.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection

from detectors.records import Action, Decision, Release, Signal
from detectors.records.codec import Record
from streams.notifiers import Notifier
from streams.response import copies, outbox
from streams.response.copies import CopiedTable
from streams.response.delivery import Delivery
from streams.response.eligibility import Plan, plan
from streams.response.execution import Execution
from streams.response.ledger import Act, Ledger, Ruling
from streams.response.outbox import Posted
from streams.response.verification import Observation
from streams.response.wording import Wording
from streams.rollbacks import RollbackTarget
from streams.settings import ActSettings

ANY_DEPLOYMENT = "*"


class ResponseMachine:
    """Takes decisions, tells people, moves traffic back, and checks that it worked.

    Parameters
    ----------
    ledger
        Where everything it must remember stands.
    notifiers
        Channel name -> notifier. Every channel gets every notice.
    targets
        Deployment -> rollback target; the key ``"*"`` serves the deployments that are not named.
    settings
        Dry run, deadlines and limits.
    clock
        Act's clock: Unix milliseconds. Deadlines and retries follow it.
    bucket_s
        Length of the buckets of event time, in seconds. Only a status whose period began after the call says
        anything about it; one that does not say when it began covers the one bucket that ends with it.

    Notes
    -----
    A page is not an act: it has no state but its delivery. Pages live in the outbox (:meth:`notices`), what
    became of each decision in :meth:`rulings`; :meth:`acts` holds rollbacks only.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        notifiers: Mapping[str, Notifier],
        targets: Mapping[str, RollbackTarget],
        settings: ActSettings,
        clock: Callable[[], int],
        bucket_s: float = 60.0,
    ) -> None:
        self._ledger = ledger
        self._targets = dict(targets)
        self._settings = settings
        self._clock = clock
        self._bucket_ms = int(bucket_s * 1000)
        self._wording = Wording(channels=tuple(notifiers), page_url=settings.page_url)
        self._delivery = Delivery(ledger=ledger, notifiers=notifiers, clock=clock)
        self._execution = Execution(
            ledger=ledger,
            target_of=self._target_of,
            settings=settings,
            clock=clock,
            wording=self._wording,
        )

    def position(self, partition: int) -> int:
        """Return the offset of the first record of `partition` that was not ingested yet."""
        with self._ledger.begin() as transaction:
            return self._ledger.position(transaction, partition)

    def ingest(self, partition: int, first_offset: int, records: Sequence[tuple[int, Record]]) -> int:
        """Take `records`, pairs of offset and record, in one transaction; return how many were new.

        Offsets below the stored position are skipped, so a redelivery changes nothing. A deployment's
        releases, signals and decisions are expected on one partition, in their order.

        Raises
        ------
        ValueError
            If the offsets do not rise from `first_offset` on.
        """
        offsets = [offset for offset, _ in records]
        if offsets != sorted(set(offsets)) or (offsets and offsets[0] < first_offset):
            raise ValueError(f"partition {partition}: offsets must rise from {first_offset} on")
        with self._ledger.begin() as transaction:
            position = self._ledger.position(transaction, partition)
            fresh = [record for offset, record in records if offset >= position]
            if not fresh:
                return 0
            watching = self._ledger.open_acts(transaction)
            for record in fresh:
                if isinstance(record, Release):
                    self._ledger.declare(transaction, partition, record)
                elif isinstance(record, Decision):
                    watching.extend(self._rule(transaction, partition, record))
                elif isinstance(record, Signal):
                    self._observe(transaction, watching, record)
            self._ledger.move_position(transaction, partition, offsets[-1] + 1)
        return len(fresh)

    async def step(self) -> int:
        """Move every act at most one transition, deliver due notices; return how many of both succeeded.

        A receiver that is slow, wrong or away is recorded and tried again later; it never raises from here.
        """
        moved, sent = await asyncio.gather(self.advance(), self.deliver())
        return moved + sent

    async def advance(self) -> int:
        """Move every open act at most one transition; return how many moved."""
        return await self._execution.advance()

    async def deliver(self) -> int:
        """Deliver the due notices of every channel; return how many were accepted.

        May run beside :meth:`advance`, so that a slow pager delays no rollback.
        """
        return await self._delivery.deliver()

    def transitions_after(self, rowid: int, *, limit: int = 2**31) -> list[tuple[int, Action]]:
        """Return up to `limit` transitions after row `rowid` (0: all), oldest first, each with its row id."""
        with self._ledger.begin() as transaction:
            return self._ledger.transitions_after(transaction, rowid, limit=limit)

    def settled_after(self, place: int, *, limit: int = 2**31) -> list[tuple[int, Posted]]:
        """Return up to `limit` notices that ended after `place` (0: all), in order, each with its place."""
        with self._ledger.begin() as transaction:
            return outbox.settled_after(transaction, place, limit=limit)

    def copied(self) -> dict[CopiedTable, int]:
        """Return, per table, the last row whose copy is in the log."""
        with self._ledger.begin() as transaction:
            return copies.read_copied(transaction)

    def mark_copied(self, reached: Mapping[CopiedTable, int]) -> None:
        """Store, per table, the last row whose copy is in the log."""
        with self._ledger.begin() as transaction:
            copies.mark_copied(transaction, reached)

    def count_states(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return how many notices, and how many acts that are no dry runs, are in each state that occurs."""
        with self._ledger.begin() as transaction:
            return outbox.count_by_state(transaction), copies.count_acts(transaction)

    def acts(self) -> list[Action]:
        """Return the latest transition of every act, oldest act first."""
        with self._ledger.begin() as transaction:
            return self._ledger.latest_actions(transaction)

    def rulings(self) -> list[Ruling]:
        """Return every decision with what became of it, oldest first."""
        with self._ledger.begin() as transaction:
            return self._ledger.rulings(transaction)

    def notices(self) -> list[Posted]:
        """Return every notice with its channel and the state of its delivery, oldest first."""
        with self._ledger.begin() as transaction:
            return outbox.every(transaction)

    def _target_of(self, deployment: str) -> RollbackTarget | None:
        return self._targets.get(deployment, self._targets.get(ANY_DEPLOYMENT))

    def _rule(self, transaction: Connection, partition: int, decision: Decision) -> list[Act]:
        """Store `decision`, its page and, where it may act, its act; return the act if it is new and open."""
        if self._ledger.ruled(transaction, decision.decision_id):
            return []
        now_ms = self._clock()
        target = self._target_of(decision.deployment)
        declared = self._ledger.declared(transaction, partition, decision.deployment)
        chosen = plan(decision, declared, has_target=target is not None)
        outcome, act, begun = chosen.outcome, None, False
        if chosen.outcome == "rollback" and target is not None:
            act = self._ledger.find_act(transaction, chosen.action_id)
            begun = act is None
            if act is None:
                act = self._new_act(decision, chosen, partition=partition, target=target.name)
                self._ledger.add_act(transaction, act)
            outcome = act.reason if begun else "already_acting"
        ruling = Ruling(
            decision=decision, outcome=outcome, at_ms=now_ms, action_id="" if act is None else act.action_id
        )
        self._ledger.add_ruling(transaction, ruling)
        if decision.verbs:
            self._wording.tell_decided(transaction, ruling, act, at_ms=now_ms)
        return [act] if act is not None and begun and not act.dry_run else []

    def _new_act(self, decision: Decision, chosen: Plan, *, partition: int, target: str) -> Act:
        now_ms = self._clock()
        return Act(
            action_id=chosen.action_id,
            decision=decision,
            partition=partition,
            deployment=decision.deployment,
            from_release=decision.release,
            to_release=chosen.to_release,
            target=target,
            dry_run=self._settings.dry_run,
            state="DECIDED",
            reason="dry_run" if self._settings.dry_run else "rollback",
            decided_at_ms=now_ms,
            updated_at_ms=now_ms,
        )

    def _observe(self, transaction: Connection, watching: Sequence[Act], signal: Signal) -> None:
        """Keep a status for every open act that it can verify."""
        if signal.kind != "status" or signal.mean is None:
            return
        stream = signal.stream
        for act in watching:
            wanted = stream.test == "share" or (
                stream.test == "reference"
                and (stream.release, stream.metric, stream.segment)
                == (act.to_release, act.decision.metric, act.decision.segment)
            )
            if wanted and stream.deployment == act.deployment and stream.test in {"share", "reference"}:
                seen = Observation(
                    test=stream.test,
                    release=stream.release,
                    from_ms=signal.at_ms - self._bucket_ms if signal.from_ms is None else signal.from_ms,
                    at_ms=signal.at_ms,
                    n=signal.n,
                    mean=signal.mean,
                    baseline=signal.baseline,
                    direction=signal.direction,
                )
                self._ledger.observe(transaction, act.action_id, seen)
