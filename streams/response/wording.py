"""What people are told at which transition, in one plain sentence."""

from typing import Final

from sqlalchemy import Connection

from detectors.records import Action, Decision
from streams.response.ledger import Act, Ruling
from streams.response.outbox import post

REASONS: Final = {
    "page": "",
    "rollback": "A rollback to {to} has begun.",
    "dry_run": "Dry run: traffic would be moved to {to}; nothing was called.",
    "already_acting": "A rollback of this release was already begun.",
    "common_cause": "No rollback: stable traffic moved too.",
    "not_a_candidate": "No rollback: this release is not declared a candidate.",
    "no_stable_release": "No rollback: no stable release is declared.",
    "several_stable_releases": "No rollback: more than one stable release is declared.",
    "no_target": "No rollback: no rollback target is configured for this deployment.",
}
"""Outcome of a decision -> what the first page adds to the decision's own sentence."""


class Wording:
    """Writes the notices of every transition that tells somebody, for all channels."""

    def __init__(self, *, channels: tuple[str, ...], page_url: str) -> None:
        self._channels = channels
        self._links = {"page": page_url} if page_url else {}

    def tell_decided(self, transaction: Connection, ruling: Ruling, act: Act | None, *, at_ms: int) -> None:
        """Write the page of a decision; it never waits for the act it may have begun."""
        told = REASONS[ruling.outcome].format(to="" if act is None else act.to_release)
        summary = f"{ruling.decision.summary}. {told}".strip()
        self._post(transaction, ruling.decision, "DECIDED", summary, at_ms=at_ms)

    def tell_end(self, transaction: Connection, act: Act, action: Action) -> None:
        """Write the notice of a terminal state."""
        moved = f"{act.deployment}: rollback from {act.from_release} to {act.to_release}"
        if act.state == "ROLLED_BACK":
            summary = f"{moved} is verified: its traffic has left and the metric is back."
        else:
            summary = f"{moved} FAILED ({act.reason}). A person must look at it now."
        self._post(transaction, act.decision, act.state, summary, at_ms=act.updated_at_ms, action=action)

    def _post(
        self,
        transaction: Connection,
        decision: Decision,
        transition: str,
        summary: str,
        *,
        at_ms: int,
        action: Action | None = None,
    ) -> None:
        for channel in self._channels:
            post(
                transaction,
                channel=channel,
                decision=decision,
                transition=transition,
                summary=summary,
                at_ms=at_ms,
                action=action,
                links=self._links,
            )
