"""What people are told at which transition, in plain sentences."""

from typing import Final
from urllib.parse import urlencode

from sqlalchemy import Connection

from detectors.records import Action, Decision
from detectors.records.wording import describe_decision
from streams.response.ledger import Act, Ruling
from streams.response.outbox import post

REASONS: Final = {
    "page": "Not rolled back: nobody permitted it (page only).",
    "rollback": "A rollback to {to} has begun.",
    "dry_run": "DRY RUN, nothing was changed: would have rolled back to {to}.",
    "already_acting": "A rollback of this release had already begun.",
    "common_cause": "Not rolled back: stable traffic moved too.",
    "not_a_candidate": "Not rolled back: this release is not declared a candidate.",
    "no_stable_release": "Not rolled back: no stable release is declared.",
    "several_stable_releases": "Not rolled back: more than one stable release is declared.",
    "no_target": "Not rolled back: no rollback target is configured for this deployment.",
}
"""Outcome of a decision -> what the first page says about what was done."""

_LOOK_MS: Final = 3_600_000


class Wording:
    """Writes the notices of every transition that tells somebody, for all channels.

    Parameters
    ----------
    channels
        Every one gets every notice.
    page_url
        Where the built-in page is reached from outside; each notice then links to its own decision there.
    """

    def __init__(self, *, channels: tuple[str, ...], page_url: str) -> None:
        self._channels = channels
        self._page_url = page_url

    def tell_decided(self, transaction: Connection, ruling: Ruling, act: Act | None, *, at_ms: int) -> None:
        """Write the page of a decision; it never waits for the act it may have begun."""
        to_release = "" if act is None else act.to_release
        told = REASONS[ruling.outcome].format(to=to_release)
        summary = f"{describe_decision(ruling.decision, than=to_release)} {told}"
        self._post(transaction, ruling.decision, "DECIDED", summary, at_ms=at_ms)

    def tell_end(self, transaction: Connection, act: Act, action: Action) -> None:
        """Write the notice of a terminal state."""
        moved = f"{act.deployment}: rollback from {act.from_release} to {act.to_release}"
        if act.state == "ROLLED_BACK":
            summary = f"{moved} is verified: its traffic has left and the metric is back."
        else:
            summary = f"{moved} FAILED ({act.reason.replace('_', ' ')}). A person must look at it now."
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
                links=page_links(self._page_url, decision),
            )


def page_links(page_url: str, decision: Decision) -> dict[str, str]:
    """Return the links of a notice: the built-in page at `decision`, an hour around it, or none.

    Examples
    --------
    >>> asked = Decision(decision_id="d-1", deployment="support", release="2.4", cause="release",
    ...     verbs=("page",), reason="worse", rule="r", at_ms=5, summary="", metric="m", segment="all")
    >>> page_links("https://plumbline.example/", asked)["page"]
    'https://plumbline.example/?deployment=support&to_ms=3600005#decision-d-1'
    """
    if not page_url:
        return {}
    query = urlencode(
        {"deployment": decision.deployment, "to_ms": decision.at_ms + _LOOK_MS}, errors="replace"
    )
    return {"page": f"{page_url.rstrip('/')}/?{query}#decision-{decision.decision_id}"}
