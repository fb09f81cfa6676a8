"""The first line: the gravest thing that holds decides, and dry-run is never told as done."""

from typing import Any

import pytest

from dashboards.page.headline import headline
from dashboards.page.standing import Standing

DECISION = {
    "decision_id": "d", "deployment": "support", "release": "b", "cause": "release", "metric": "refusal",
    "segment": "all", "verbs": ["page", "rollback"], "reason": "canary_worse_than_stable", "rule": "r",
    "began_at_ms": 1_795_000_000_000, "at_ms": 1_795_000_600_000, "effect": 0.1, "low": 0.05, "high": 0.15,
    "baseline": 0.02, "n": 300, "signal_ids": [], "exemplars": [],
}  # fmt: skip
DRIFT = {
    "deployment": "support", "release": "a", "segment": "all", "metric": "helpful", "test": "reference",
    "state": "drift", "worse": True, "role": "stable", "reason": "", "n": 410, "mean": 0.931,
    "baseline": 0.97, "at_ms": 1_795_000_600_000, "began_at_ms": 1_795_000_000_000,
}  # fmt: skip
BLIND = DRIFT | {"state": "blind", "worse": False, "reason": "share_mismatch"}


def act(state: str, *, seq: int = 0, kind: str = "rollback", dry_run: bool = False) -> dict[str, Any]:
    return {
        "action_id": kind, "seq": seq, "at_ms": 1_795_000_700_000 + seq, "decision_id": "d", "kind": kind,
        "target": "gateway", "state": state, "dry_run": dry_run, "to_release": "a", "release": "b",
    }  # fmt: skip


def said(
    *, open_decisions: tuple[Any, ...] = (), troubled: tuple[Any, ...] = (), **given: Any
) -> tuple[str, str]:
    values: dict[str, Any] = {
        "now_ms": 1_795_000_900_000, "last_received_ms": 1_795_000_890_000, "decisions": list(open_decisions),
        "actions": [], "standing": Standing(open_decisions, troubled),
        "states": [{"state": "steady", "metric": "m", "release": "a"}], "n": 10, "releases": 1,
    } | given  # fmt: skip
    top = headline(**values)
    assert "interaction" in top.note
    return top.mood, top.sentence


@pytest.mark.parametrize(
    ("acts", "words"),
    [
        ([], "No rollback was begun, though one is permitted"),
        ([act("DECIDED")], "A rollback to a is decided"),
        ([act("DECIDED"), act("VERIFYING", seq=2)], "is being verified"),
        ([act("DECIDED", dry_run=True)], "DRY RUN, nothing was changed: would have rolled back to a"),
        ([act("FAILED", seq=3)], "The rollback FAILED and needs a person now"),
        ([act("FAILED", kind="page")], "the page to gateway FAILED"),
        ([act("DELIVERED", kind="page")], "gateway was paged"),
        ([act("DECIDED", kind="page")], "the page to gateway is NOT delivered yet"),
    ],
)
def test_an_open_decision_is_wrong_whatever_was_begun(acts: list[dict[str, Any]], words: str) -> None:
    mood, sentence = said(open_decisions=(DECISION,), actions=acts)
    assert mood == "bad"
    assert sentence.startswith("support b is WORSE than ")
    assert "refusal 2.0 % -> 12.0 % (+5.0 to +15.0 points, 300 " in sentence
    assert words in sentence


def test_a_page_only_decision_says_that_nobody_permitted_more() -> None:
    mood, sentence = said(open_decisions=(DECISION | {"verbs": ["page"]},))
    assert mood == "bad"
    assert "Not rolled back: nobody permitted it (page only)." in sentence


def test_a_verified_rollback_is_handled() -> None:
    later = DECISION | {"decision_id": "e", "metric": "helpful"}
    mood, sentence = said(decisions=[later, DECISION], actions=[act("ROLLED_BACK", seq=3)])
    assert mood == "handled"
    assert sentence.startswith("support b is WORSE than a: refusal ")
    assert "It was rolled back to a and that was verified" in sentence
    assert sentence.endswith("1 more decision below.")


def test_a_decision_that_has_cleared_is_handled_and_says_so() -> None:
    mood, sentence = said(decisions=[DECISION | {"verbs": ["page"]}])
    assert mood == "handled"
    assert "It is over: the metric is back, or the release is out of service." in sentence


def test_an_open_decision_comes_before_a_handled_one() -> None:
    other = DECISION | {"decision_id": "e", "release": "c"}
    mood, sentence = said(
        open_decisions=(other,), decisions=[DECISION, other], actions=[act("ROLLED_BACK", seq=3)]
    )
    assert mood == "bad"
    assert sentence.startswith("support c is WORSE")


def test_a_stream_in_drift_is_never_called_well() -> None:
    mood, sentence = said(troubled=(DRIFT, DRIFT | {"metric": "honest"}))
    assert mood == "watch"
    assert sentence == (
        "a drifts for the WORSE against the reference: helpful 97.0 % -> 93.1 % over 410 units"
        " since 11:06 UTC. No rule has asked for action. 1 more stream too."
    )


def test_drift_outranks_a_handled_decision_and_silence() -> None:
    _, sentence = said(troubled=(DRIFT,), decisions=[DECISION], last_received_ms=1_794_000_000_000)
    assert "drifts for the WORSE" in sentence


def test_drift_that_is_not_worse_is_told_and_wakes_nobody() -> None:
    mood, sentence = said(troubled=(DRIFT | {"worse": False, "metric": "words"},))
    assert (mood, sentence) == ("good", "Nothing is worse. Moved, without being worse: words of a.")


def test_a_blind_candidate_is_named_before_a_handled_decision() -> None:
    mood, sentence = said(troubled=(BLIND | {"role": "candidate", "release": "b"},), decisions=[DECISION])
    assert mood == "watch"
    assert sentence == (
        "The candidate is not watched: 1 stream cannot see helpful of b (share mismatch)."
    )  # fmt: skip


def test_blind_and_warning_are_never_called_well() -> None:
    assert said(troubled=(BLIND,)) == ("watch", "1 stream cannot see helpful of a (share mismatch).")
    assert said(troubled=(DRIFT | {"state": "warning"},)) == (
        "watch",
        "1 stream near to drift: helpful of a.",
    )


def test_no_data_is_not_good_news() -> None:
    assert said(n=0, states=[])[0] == "empty"
    assert said(states=[])[0] == "empty"


def test_silence_is_not_good_news() -> None:
    assert said(now_ms=10_000_000, last_received_ms=1_000_000) == (
        "watch",
        "Nothing has been received for 2 h 30 min.",
    )


def test_steady_and_warming() -> None:
    assert said() == ("good", "Nothing is wrong: no stream has left its reference.")
    warming = [{"state": "warming", "metric": "m", "release": "a"}]
    assert "1 of 1 stream still warming up" in said(states=warming)[1]
