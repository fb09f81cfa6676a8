"""Whether the demonstration showed what it promises, from the ledger and the gateway's log alone."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from detectors.records import Action, Decision
from streams.demo.gateway import LogEntry, Page

Mode = Literal["canary", "healthy", "in_place"]
STABLE, CANDIDATE = "2.3", "2.4"
PAGE_GRACE_S = 10.0
"""A page is delivered apart from the move; so long after it, in seconds, it still counts as *with* it."""


class Outcome(Struct, frozen=True):
    """`ok`, or the reasons why not."""

    ok: bool
    reasons: tuple[str, ...] = ()


def judge_outcome(
    mode: Mode,
    decisions: Sequence[Decision],
    acts: Sequence[Action],
    gateway_log: Sequence[LogEntry],
    pages: Sequence[Page],
) -> Outcome:
    """Return whether the run ended as `mode` must end.

    Parameters
    ----------
    mode
        ``canary``: 2.4 is worse and must be caught, paged, rolled back once and verified. ``healthy``: 2.4 is
        as good as 2.3; nothing may move and at most one page is forgiven. ``in_place``: 2.4 replaced 2.3
        wholly; a page must name it and nothing may move.
    decisions, acts
        The decisions, and every transition of every act, in any order.
    gateway_log, pages
        What the gateway and the pager saw, oldest first.

    Examples
    --------
    >>> judge_outcome("healthy", [], [], [], []).ok
    True
    >>> judge_outcome("in_place", [], [], [], []).reasons
    ('no page named 2.4',)
    """
    moves = [entry for entry in gateway_log if entry.kind == "move"]
    if mode == "canary":
        reasons = _judge_canary(decisions, acts, gateway_log, moves, pages)
    elif mode == "healthy":
        reasons = _judge_healthy(decisions, moves, pages)
    else:
        reasons = [] if any(page.release == CANDIDATE for page in pages) else [f"no page named {CANDIDATE}"]
        reasons += ["traffic was moved although nobody permitted it"] if moves else []
    return Outcome(ok=not reasons, reasons=tuple(reasons))


def _judge_canary(
    decisions: Sequence[Decision],
    acts: Sequence[Action],
    gateway_log: Sequence[LogEntry],
    moves: Sequence[LogEntry],
    pages: Sequence[Page],
) -> list[str]:
    reasons = []
    if not any("rollback" in one.verbs and one.release == CANDIDATE for one in decisions):
        reasons.append(f"no decision permitted a rollback of {CANDIDATE}")
    if [(move.from_release, move.to_release) for move in moves] != [(CANDIDATE, STABLE)]:
        reasons.append(f"expected exactly one move from {CANDIDATE} to {STABLE}, saw {len(moves)} moves")
    named = [page.at_s for page in pages if page.release == CANDIDATE]
    if not named:
        reasons.append(f"no page named {CANDIDATE}")
    elif moves and min(named) > moves[0].at_s + PAGE_GRACE_S:
        reasons.append("the page came after the rollback")
    if not any(act.kind == "rollback" and act.state == "ROLLED_BACK" and not act.dry_run for act in acts):
        reasons.append("no act was verified as ROLLED_BACK")
    if gateway_log and gateway_log[-1].shares.get(CANDIDATE, 0.0) > 0.0:
        reasons.append(f"{CANDIDATE} still serves traffic")
    return reasons


def _judge_healthy(
    decisions: Sequence[Decision], moves: Sequence[LogEntry], pages: Sequence[Page]
) -> list[str]:
    reasons = []
    if any("rollback" in one.verbs for one in decisions):
        reasons.append("a rollback of a healthy release was permitted")
    if moves:
        reasons.append("traffic was moved away from a healthy release")
    # One decision is one incident, however many messages tell its course.
    incidents = {page.decision_id or page.message_id for page in pages}
    if len(incidents) > 1:
        reasons.append(f"{len(incidents)} pages about a healthy release")
    return reasons
