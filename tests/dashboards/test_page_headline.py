"""The first line: the gravest thing that holds decides, and dry-run is never told as done."""

from typing import Any

import pytest

from dashboards.page.headline import headline

DECISION = {
    "decision_id": "d", "release": "b", "metric": "refusal", "summary": "Release b refuses more.",
    "verbs": ["page", "rollback"], "began_at_ms": 1_795_000_000_000, "at_ms": 1_795_000_600_000,
}  # fmt: skip
CHANGE = {
    "release": "b", "segment": "all", "metric": "refusal", "test": "arm", "kind": "change", "worse": True,
    "effect": 0.2, "n": 40,
}  # fmt: skip


def act(state: str, *, seq: int = 0, kind: str = "rollback", dry_run: bool = False) -> dict[str, Any]:
    return {
        "action_id": kind, "seq": seq, "at_ms": 1_795_000_700_000 + seq, "decision_id": "d", "kind": kind,
        "target": "gateway", "state": state, "dry_run": dry_run, "to_release": "a", "release": "b",
    }  # fmt: skip


def said(**given: Any) -> tuple[str, str]:
    values: dict[str, Any] = {
        "now_ms": 1_795_000_900_000, "last_received_ms": 1_795_000_890_000, "decisions": [], "actions": [],
        "signals": [], "states": [{"state": "steady", "metric": "m", "release": "a"}], "n": 10, "releases": 1,
    } | given  # fmt: skip
    top = headline(**values)
    assert "10 s ago" in top.note
    assert "interaction" in top.note
    return top.mood, top.sentence


@pytest.mark.parametrize(
    ("acts", "mood", "words"),
    [
        ([], "bad", "a page was due, no rollback was begun"),
        ([act("DECIDED")], "bad", "a rollback to a is decided"),
        ([act("DECIDED"), act("VERIFYING", seq=2)], "bad", "is being verified"),
        ([act("ROLLED_BACK", seq=3), act("DECIDED")], "handled", "that was verified"),
        ([act("ROLLED_BACK", seq=3, dry_run=True)], "bad", "in dry-run, nothing was changed"),
        ([act("FAILED", seq=3)], "bad", "the rollback FAILED and needs a person now"),
        ([act("FAILED", kind="page")], "bad", "the page to gateway FAILED"),
        ([act("ROLLED_BACK", kind="page")], "bad", "gateway was paged"),
    ],
)
def test_what_was_done(acts: list[dict[str, Any]], mood: str, words: str) -> None:
    assert (got := said(decisions=[DECISION], actions=acts))[0] == mood
    assert words in got[1]
    assert got[1].startswith("Release b refuses more since 11:06: ")


def test_a_later_decision_on_a_release_that_is_rolled_back_changes_nothing() -> None:
    later = DECISION | {"decision_id": "e", "summary": "Release b is less helpful."}
    mood, sentence = said(decisions=[later, DECISION], actions=[act("ROLLED_BACK", seq=3)])
    assert mood == "handled"
    assert sentence.startswith("Release b refuses more since")
    assert sentence.endswith("1 more decision below.")


def test_a_release_that_needs_somebody_comes_before_a_handled_one() -> None:
    other = DECISION | {"decision_id": "e", "release": "c", "summary": "Release c leaks."}
    mood, sentence = said(decisions=[DECISION, other], actions=[act("ROLLED_BACK", seq=3)])
    assert mood == "bad"
    assert sentence.startswith("Release c leaks since")


def test_a_change_without_a_decision_asks_to_look() -> None:
    mood, sentence = said(signals=[CHANGE])
    assert mood == "watch"
    assert "+0.200 over 40 units" in sentence


def test_a_cleared_change_is_over() -> None:
    assert said(signals=[CHANGE | {"kind": "cleared"}, CHANGE])[0] == "good"


def test_blind_streams_are_never_called_well() -> None:
    mood, sentence = said(states=[{"state": "blind", "metric": "m", "release": "a"}])
    assert mood == "watch"
    assert "1 stream of 1 cannot see: data is missing for m of a" in sentence


def test_no_data_is_not_good_news() -> None:
    assert said(n=0, states=[])[0] == "empty"
    assert said(states=[])[0] == "empty"


def test_silence_is_not_good_news() -> None:
    top = headline(
        now_ms=10_000_000, last_received_ms=1_000_000, decisions=[], actions=[], signals=[],
        states=[{"state": "steady", "metric": "m", "release": "a"}], n=10, releases=1,
    )  # fmt: skip
    assert (top.mood, top.sentence) == ("watch", "Nothing has been received for 2 h 30 min.")


def test_steady_and_warming() -> None:
    assert said() == ("good", "Nothing is wrong: no stream has left its reference.")
    assert (
        "1 of 1 stream still warming up"
        in said(states=[{"state": "warming", "metric": "m", "release": "a"}])[1]
    )
