"""What should be done, and what was done."""

from typing import Any, Literal

from msgspec import Struct

Verb = Literal["page", "rollback"]
ActionState = Literal["DECIDED", "EXECUTING", "VERIFYING", "ROLLED_BACK", "DELIVERED", "FAILED"]
"""A rollback goes from DECIDED to ROLLED_BACK or FAILED; a page ends DELIVERED or FAILED."""


class Decision(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An intent: for this release, because of this cause, these verbs are permitted.

    It names no target release: only the act side knows which one is stable, soaked and servable. ``reason``
    is the named reason, ``summary`` one plain sentence without any user text.
    """

    decision_id: str
    deployment: str
    release: str
    cause: Literal["release", "common"]
    verbs: tuple[Verb, ...]
    reason: str
    rule: str
    at_ms: int
    summary: str
    metric: str
    segment: str
    signal_ids: tuple[str, ...] = ()
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    baseline: float | None = None
    n: int = 0
    began_at_ms: int | None = None
    exemplars: tuple[str, ...] = ()


class Action(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One transition of one act in the ledger: a rollback, or a page.

    ``action_id`` is unique for the act, ``seq`` counts its transitions. ``detail`` holds receipts and
    measurements, never user text and never a secret.
    """

    action_id: str
    seq: int
    deployment: str
    release: str
    decision_id: str
    kind: Verb
    target: str
    state: ActionState
    at_ms: int
    reason: str
    from_release: str = ""
    to_release: str = ""
    dry_run: bool = False
    detail: dict[str, Any] = {}
