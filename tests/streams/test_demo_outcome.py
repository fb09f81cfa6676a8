"""The exit code comes from the ledger and the gateway's log, and a false success is not possible."""

from typing import Any

import msgspec
import pytest

from detectors.records import Action, Decision
from streams.demo.gateway import LogEntry, Page
from streams.demo.outcome import judge_outcome

DECISION = Decision(
    decision_id="d1",
    deployment="support",
    release="2.4",
    cause="release",
    verbs=("page", "rollback"),
    reason="canary_worse",
    rule="sustained_regression",
    at_ms=1,
    summary="2.4 is worse",
    metric="over_refusal",
    segment="all",
)
ACT = Action(
    action_id="a1",
    seq=4,
    deployment="support",
    release="2.4",
    decision_id="d1",
    kind="rollback",
    target="gateway",
    state="ROLLED_BACK",
    at_ms=2,
    reason="verified",
    from_release="2.4",
    to_release="2.3",
)
BEGAN = LogEntry(at_s=5.0, kind="set", shares={"2.3": 0.8, "2.4": 0.2})
MOVED = LogEntry(
    at_s=10.0,
    kind="move",
    shares={"2.3": 1.0, "2.4": 0.0},
    action_id="a1",
    from_release="2.4",
    to_release="2.3",
)
PAGE = Page(at_s=9.0, message_id="n1", kind="plumbline.page", release="2.4", decision_id="d1")


def replace(record: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(record, **changes)


def test_caught_paged_moved_once_and_verified() -> None:
    replay = replace(MOVED, kind="replay", at_s=11.0)
    assert judge_outcome("canary", [DECISION], [ACT], [BEGAN, MOVED, replay], [PAGE]).ok


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"decisions": []}, "no decision"),
        ({"decisions": [replace(DECISION, verbs=("page",))]}, "no decision"),
        ({"decisions": [replace(DECISION, release="2.3")]}, "no decision"),
        ({"gateway_log": [BEGAN]}, "saw 0 moves"),
        ({"gateway_log": [BEGAN, MOVED, MOVED]}, "saw 2 moves"),
        ({"gateway_log": [BEGAN, replace(MOVED, to_release="2.2")]}, "expected exactly one move"),
        ({"pages": []}, "no page named 2.4"),
        ({"pages": [replace(PAGE, release="2.3")]}, "no page named 2.4"),
        ({"pages": [replace(PAGE, at_s=60.0)]}, "after the rollback"),
        ({"acts": []}, "ROLLED_BACK"),
        ({"acts": [replace(ACT, state="VERIFYING")]}, "ROLLED_BACK"),
        ({"acts": [replace(ACT, dry_run=True)]}, "ROLLED_BACK"),
        ({"gateway_log": [BEGAN, MOVED, BEGAN]}, "still serves"),
    ],
)
def test_each_missing_part_is_named(broken: dict[str, Any], reason: str) -> None:
    parts = {"decisions": [DECISION], "acts": [ACT], "gateway_log": [BEGAN, MOVED], "pages": [PAGE]} | broken
    outcome = judge_outcome("canary", **parts)
    assert not outcome.ok
    assert any(reason in one for one in outcome.reasons)


def test_a_healthy_release_is_left_alone() -> None:
    paging = replace(DECISION, verbs=("page",))
    assert judge_outcome("healthy", [paging], [], [BEGAN], [PAGE, replace(PAGE, message_id="n2")]).ok
    other = replace(PAGE, message_id="n2", decision_id="d2")
    assert not judge_outcome("healthy", [], [], [BEGAN], [PAGE, other]).ok
    assert not judge_outcome("healthy", [DECISION], [], [BEGAN], []).ok
    assert not judge_outcome("healthy", [], [], [BEGAN, MOVED], []).ok


def test_in_place_pages_and_moves_nothing() -> None:
    assert judge_outcome("in_place", [DECISION], [], [BEGAN], [PAGE]).ok
    assert not judge_outcome("in_place", [DECISION], [], [BEGAN], []).ok
    assert not judge_outcome("in_place", [DECISION], [], [BEGAN, MOVED], [PAGE]).ok
