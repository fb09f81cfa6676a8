"""Decide: each decision once, what the act side needs passed on, and a rule's memory kept as it left it."""

import msgspec

from detectors.checks.rule_checks import declared, story, strong_signal
from detectors.records import Decision, Release, Signal
from detectors.rules.sustained_regression import SustainedRegression
from detectors.stages import Delivery
from detectors.stages.decide import DecideStage


def run(stage, records, *, restart_every: int = 0):
    stored, state, outputs = {}, stage.restore(0, {}), []
    for number, record in enumerate(records):
        state, found = stage.step(state, [Delivery(0, number, record)])
        outputs += found
        for key, blob in stage.changes(state).items():
            if blob is None:
                stored.pop(key, None)
            else:
                stored[key] = blob
        if restart_every and number % restart_every == 0:
            state = stage.restore(0, dict(stored))
    assert {(output.topic, output.key) for output in outputs} <= {("decisions", "support")}
    return [output.record for output in outputs]


def canary(**fields):
    return [*declared("candidate").values(), *story(**fields)]


def kinds(records):
    return [type(record).__name__ for record in records]


def test_a_decision_is_made_once_and_the_declarations_go_before_it():
    found = run(DecideStage([SustainedRegression()]), canary())
    assert kinds(found)[:3] == ["Release", "Release", "Decision"]
    assert kinds(found).count("Decision") == 1


def test_the_same_decision_of_two_rules_is_one():
    found = run(DecideStage([SustainedRegression(), SustainedRegression(closings=5)]), canary())
    assert kinds(found).count("Decision") == 1


def test_statuses_are_passed_on_only_when_there_is_something_to_verify():
    share = strong_signal(test="share", at_ms=1, state="steady", detected=False)
    reference = strong_signal(test="reference", at_ms=2, release="2.3", state="steady", detected=False)
    other = msgspec.structs.replace(
        reference, stream=msgspec.structs.replace(reference.stream, metric="honest"), signal_id="o"
    )
    stage = DecideStage([SustainedRegression()])
    assert kinds(run(stage, [share, reference])) == []
    found = run(
        stage, [*canary(), share, reference, other, msgspec.structs.replace(reference, kind="change")]
    )
    watched = [record for record in found if isinstance(record, Signal)]
    assert watched == [share, reference]


def test_a_restart_at_any_record_changes_nothing():
    stage = DecideStage([SustainedRegression(closings=4)])
    whole = run(stage, canary())
    for every in (1, 2, 3):
        assert run(stage, canary(), restart_every=every) == whole


class Nested:
    """Keeps its count inside a list, and decides at the third signal."""

    name = "nested"

    def decide(self, signal, releases, memory):
        seen = memory.setdefault("seen", {}).setdefault("ids", [])
        seen.append(signal.signal_id)
        if len(seen) != 3:
            return
        yield Decision(
            decision_id="d", deployment="support", release="2.4", cause="release", verbs=("page",),
            reason="third", rule=self.name, at_ms=signal.at_ms, summary="s", metric="m", segment="all",
        )  # fmt: skip


def test_memory_that_is_changed_in_place_is_stored():
    for every in (0, 1):
        found = run(DecideStage([Nested()]), story()[:5], restart_every=every)
        assert [record.reason for record in found if isinstance(record, Decision)] == ["third"]


def test_memory_that_did_not_change_is_not_written_again():
    stage = DecideStage([SustainedRegression()])
    state = stage.restore(0, {})
    state, _ = stage.step(state, [Delivery(0, 0, strong_signal(kind="change"))])
    assert stage.changes(state) == {}


def test_deployments_have_memories_of_their_own():
    signals = []
    for number, signal in enumerate(story()[:3]):
        stream = msgspec.structs.replace(signal.stream, deployment=f"other{number}")
        signals.append(msgspec.structs.replace(signal, stream=stream))
    releases = [
        msgspec.structs.replace(r, deployment=f"other{n}")
        for n in range(3)
        for r in declared("candidate").values()
    ]
    stage, state = DecideStage([SustainedRegression()]), None
    state = stage.restore(0, {})
    _, outputs = stage.step(state, [Delivery(0, n, r) for n, r in enumerate([*releases, *signals])])
    assert all(isinstance(output.record, Release) for output in outputs)
