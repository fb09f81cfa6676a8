"""Moves one act at a time along its states; every arrow is committed before the next thing is touched."""

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from detectors.records import Action, ActionState
from streams.notifiers import Permanent, Retryable
from streams.response.calling import LEASE_S, call, wait_ms
from streams.response.ledger import Act, Ledger
from streams.response.verification import judge
from streams.response.wording import Wording
from streams.rollbacks import Move, RollbackTarget, Served
from streams.settings import ActSettings

SUPERSEDED = "superseded"
ERROR_CHARS = 200


class Execution:
    """Carries out and verifies the open acts of a ledger."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        target_of: Callable[[str], RollbackTarget | None],
        settings: ActSettings,
        clock: Callable[[], int],
        wording: Wording,
    ) -> None:
        self._ledger = ledger
        self._target_of = target_of
        self._settings = settings
        self._clock = clock
        self._wording = wording

    async def advance(self) -> int:
        """Move every open act at most one transition; return how many moved."""
        with self._ledger.begin() as transaction:
            acts = self._ledger.open_acts(transaction)
        return sum(await asyncio.gather(*(self._advance(act) for act in acts)))

    async def _advance(self, act: Act) -> int:
        if act.state == "DECIDED":
            return self._move(act, "EXECUTING", "intent", {})
        if act.state == "VERIFYING":
            return self._verify(act)
        if act.next_at_ms > self._clock():
            return 0
        return await self._execute(act)

    async def _execute(self, act: Act) -> int:
        """Make one attempt: look, then move traffic if it is still needed and still right."""
        target = self._target_of(act.deployment)
        if target is None:
            return self._move(act, "FAILED", "no_target", {})
        with self._ledger.begin() as transaction:
            # Counted before the call: an attempt that killed us is an attempt.
            claimed = self._ledger.change(
                transaction,
                act,
                attempts=act.attempts + 1,
                next_at_ms=self._clock() + int(LEASE_S * 1000),
            )
        if claimed is None:
            return 0
        try:
            return await self._attempt(claimed, target)
        except Permanent as verdict:
            reason = SUPERSEDED if str(verdict) == SUPERSEDED else "refused"
            return self._move(claimed, "FAILED", reason, {"error": str(verdict)[:ERROR_CHARS]})
        except Retryable as verdict:
            return self._retry(claimed, verdict)

    async def _attempt(self, act: Act, target: RollbackTarget) -> int:
        served = await call(target.current(act.deployment))
        detail: dict[str, Any] = {"shares": served.shares, "generation": served.generation}
        if self._is_done(act, served):
            return self._begin_verifying(act, "already_moved" if act.attempts == 1 else "moved", detail)
        if served.shares.get(act.from_release, 0.0) <= 0.0:
            return self._move(act, "FAILED", SUPERSEDED, detail)
        if not self._still_right(act):
            return self._move(act, "FAILED", "roles_changed", detail)
        if act.attempts > self._settings.max_attempts:
            return self._move(act, "FAILED", "retries_exhausted", detail)
        move = Move(
            action_id=act.action_id,
            deployment=act.deployment,
            from_release=act.from_release,
            to_release=act.to_release,
            reason=act.decision.reason,
        )
        receipt = await call(target.rollback(move))
        if not receipt.accepted:
            return self._move(act, "FAILED", "refused", receipt.detail)
        return self._begin_verifying(act, "accepted", {**detail, "receipt": receipt.detail})

    def _retry(self, act: Act, verdict: Retryable) -> int:
        """Plan the next attempt; after the last move one more look is allowed, for it may have arrived."""
        if act.attempts > self._settings.max_attempts:
            detail = {"error": str(verdict)[:ERROR_CHARS]}
            return self._move(act, "FAILED", "retries_exhausted", detail)
        with self._ledger.begin() as transaction:
            next_at_ms = self._clock() + wait_ms(act.attempts, verdict.after_s)
            self._ledger.change(transaction, act, next_at_ms=next_at_ms)
        return 0

    def _is_done(self, act: Act, served: Served) -> bool:
        epsilon = self._settings.share_epsilon
        return (
            served.shares.get(act.to_release, 0.0) >= 1.0 - epsilon - 1e-9
            and served.shares.get(act.from_release, 0.0) <= epsilon
        )

    def _still_right(self, act: Act) -> bool:
        """Return whether the owner still declares one side a candidate and the other the stable release."""
        with self._ledger.begin() as transaction:
            declared = self._ledger.declared(transaction, act.partition, act.deployment)
        roles = {name: role for name, (role, _) in declared.items()}
        return roles.get(act.from_release) == "candidate" and roles.get(act.to_release) == "stable"

    def _begin_verifying(self, act: Act, reason: str, detail: dict[str, Any]) -> int:
        return self._move(act, "VERIFYING", reason, detail, called_at_ms=self._clock())

    def _verify(self, act: Act) -> int:
        with self._ledger.begin() as transaction:
            seen = self._ledger.observations(transaction, act.action_id)
        found = judge(
            seen,
            from_release=act.from_release,
            to_release=act.to_release,
            called_at_ms=act.called_at_ms,
            now_ms=self._clock(),
            baseline=act.decision.baseline,
            settings=self._settings,
        )
        if found.verdict == "waiting":
            return 0
        state: ActionState = "ROLLED_BACK" if found.verdict == "recovered" else "FAILED"
        return self._move(act, state, found.reason, found.detail)

    def _move(self, act: Act, state: ActionState, reason: str, detail: dict[str, Any], **values: Any) -> int:
        """Commit one transition with its audit row and, at an end, its notices; 0 if another was quicker."""
        with self._ledger.begin() as transaction:
            moved = self._ledger.move(
                transaction, act, state, at_ms=self._clock(), reason=reason, detail=detail, **values
            )
            if moved is None:
                return 0
            if state in {"ROLLED_BACK", "FAILED"}:
                self._tell(transaction, moved)
        return 1

    def _tell(self, transaction: Connection, act: Act) -> None:
        actions: list[Action] = self._ledger.latest_actions(transaction)
        action = next(one for one in actions if one.action_id == act.action_id)
        self._wording.tell_end(transaction, act, action)
