"""Every registered rule keeps every check; what the one we ship means; broken rules are found."""

from functools import partial

import msgspec
import pytest

from detectors.checks.rule_checks import RULE_CHECKS, decisions_of, declared, story, strong_signal
from detectors.records import Decision
from detectors.rules import RULES
from detectors.rules.sustained_regression import SustainedRegression


@pytest.mark.parametrize("check", RULE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", RULES.names())
def test_conformance(name, check):
    check(partial(RULES.build, name, {}))


def reasons(test, role, *, share=0.2, **fields):
    made = decisions_of(SustainedRegression(), story(test=test, **fields), declared(role, share=share))
    return {(one.reason, one.cause, one.verbs) for one in made}


def test_what_evidence_means_depends_on_test_and_role():
    assert reasons("arm", "candidate") == {("canary_worse_than_stable", "release", ("page", "rollback"))}
    assert reasons("arm", "stable") == reasons("arm", None) == reasons("arm", "retired") == set()
    assert reasons("reference", None) == {("undeclared_release_worse", "release", ("page",))}
    assert reasons("reference", "candidate", share=0.2) == set()
    assert reasons("reference", "candidate", share=None) == {
        ("candidate_worse_than_reference", "release", ("page",))
    }
    assert reasons("reference", "stable") == {("release_worse_than_reference", "release", ("page",))}
    assert reasons("reference", "retired") == set()
    within = {("changed_within_release", "release", ("page",))}
    assert reasons("own", "stable") == reasons("own", None) == within
    assert reasons("own", "retired") == reasons("own", "candidate") == set()
    assert reasons("own", "candidate", share=None) == set()
    assert reasons("reference", "stable", split="mix") == {("traffic_mix_shift", "common", ("page",))}
    assert reasons("reference", "stable", split="both") == reasons("reference", "stable", split="within")
    assert reasons("share", "candidate") == set()


def test_both_arms_moving_is_a_common_cause():
    rule, releases, memory = SustainedRegression(), declared("candidate"), {}
    made = []
    for minute in range(5):
        for release in ("2.4", "2.3"):
            signal = strong_signal(at_ms=minute * 60_000, test="reference", release=release)
            made += rule.decide(signal, releases, memory)
    assert {(one.release, one.reason, one.cause, one.verbs) for one in made} == {
        ("2.3", "both_arms_moved", "common", ("page",))
    }


def test_a_page_waits_a_little_for_what_the_mix_of_the_traffic_says():
    def pages(effect_n):
        said = story(test="reference", split="unclear", effect_n=effect_n)
        return decisions_of(SustainedRegression(min_units=50), said, declared("stable"))

    assert not pages(199)
    assert {one.reason for one in pages(200)} == {"release_worse_than_reference"}


def test_one_alarm_has_one_page_whatever_its_units_say_later():
    rule, memory = SustainedRegression(), {}
    first = decisions_of(rule, story(test="reference", split="within"), declared("stable"), memory)
    later = decisions_of(rule, story(test="reference", split="mix"), declared("stable"), memory)
    own = decisions_of(rule, story(test="own"), declared("stable"), memory)
    assert len({one.decision_id for one in [*first, *later, *own]}) == 1


def test_it_takes_as_many_closings_and_units_as_asked():
    rule, memory = SustainedRegression(closings=3, min_units=100), {}
    made = [decisions_of(rule, [signal], declared("candidate"), memory) for signal in story(effect_n=100)[:4]]
    assert [len(one) for one in made] == [0, 0, 1, 1]
    assert not decisions_of(SustainedRegression(min_units=100), story(effect_n=99), declared("candidate"))


def test_a_new_start_of_the_release_is_a_new_episode():
    first = decisions_of(SustainedRegression(), story(), declared("candidate"))
    later = declared("candidate")
    later["2.4"] = type(later["2.4"])(
        deployment="support", release="2.4", role="candidate", started_at_ms=99, share=0.2
    )
    again = decisions_of(SustainedRegression(), story(), later)
    assert first[0].decision_id != again[0].decision_id


def blind(reason="no_arm_stamped", **fields):
    return story(
        detector="share_betting", state="blind", reason=reason, detected=False, worse=False, **fields
    )


def test_a_candidate_that_cannot_be_compared_pages_once_per_reason_and_episode():
    rule, memory = SustainedRegression(closings=3), {}
    made = decisions_of(rule, [*blind(), *blind("share_mismatch")], declared("candidate"), memory)
    assert {(one.reason, one.verbs) for one in made} == {
        ("blind_no_arm_stamped", ("page",)), ("blind_share_mismatch", ("page",)),
    }  # fmt: skip
    assert len({one.decision_id for one in made}) == 2
    assert not decisions_of(SustainedRegression(closings=3), blind()[:2], declared("candidate"))
    seen = strong_signal(detector="share_betting", state="steady", detected=False)
    assert not decisions_of(
        SustainedRegression(closings=3), [*blind()[:2], seen, *blind()[:2]], declared("candidate")
    )
    assert not decisions_of(SustainedRegression(), blind(), declared("stable"))


def test_while_a_candidate_cannot_be_compared_its_reference_may_page():
    rule, memory = SustainedRegression(), {}
    decisions_of(rule, blind(), declared("candidate"), memory)
    made = decisions_of(rule, story(test="reference"), declared("candidate"), memory)
    assert {(one.reason, one.verbs) for one in made} == {("candidate_worse_than_reference", ("page",))}
    decisions_of(
        rule, [strong_signal(detector="share_betting", state="steady")], declared("candidate"), memory
    )
    assert not decisions_of(rule, story(test="reference"), declared("candidate"), memory)


def test_each_alarm_of_a_release_pages_anew_and_its_rollback_is_decided_once():
    rule, memory = SustainedRegression(), {}

    def ids(role, test, onset):
        signals = story(test=test, release="2.4", alarmed_at_ms=onset)
        return {one.decision_id for one in decisions_of(rule, signals, declared(role), memory)}

    first, second = ids("stable", "reference", 7), ids("stable", "reference", 8)
    assert (len(first), len(second), len(first | second)) == (1, 1, 2)
    assert ids("candidate", "arm", 7) == ids("candidate", "arm", 8)


def in_segment(signal, segment, **fields):
    stream = msgspec.structs.replace(signal.stream, segment=segment)
    return msgspec.structs.replace(signal, stream=stream, **fields)


def test_a_slice_is_silent_while_the_whole_has_an_unresolved_page():
    rule, memory, releases = SustainedRegression(), {}, declared("stable")
    whole = story(test="reference")
    slices = [in_segment(one, "plan=pro") for one in whole]
    assert decisions_of(rule, whole, releases, memory)
    assert not decisions_of(rule, slices, releases, memory)
    assert not decisions_of(rule, [strong_signal(test="reference", kind="change")], releases, memory)
    decisions_of(rule, [in_segment(whole[0], "plan=pro", kind="cleared")], releases, memory)
    assert not decisions_of(rule, slices, releases, memory)  # the slice ended, the whole did not
    decisions_of(rule, [strong_signal(test="reference", kind="cleared")], releases, memory)
    assert {one.segment for one in decisions_of(rule, slices, releases, memory)} == {"plan=pro"}
    assert decisions_of(SustainedRegression(), slices, releases, {})


def test_an_older_episode_leaves_nothing():
    rule, memory = SustainedRegression(), {}
    decisions_of(rule, [*blind(), *story(test="reference")], declared("candidate"), memory)
    later = declared("candidate")
    later["2.4"] = msgspec.structs.replace(later["2.4"], started_at_ms=99)
    assert not decisions_of(rule, story(test="reference")[:2], later, memory)
    assert memory["2.4"]["episode"] == "99"
    assert memory["2.4"]["blind"] == {}


def test_releases_that_nobody_declared_do_not_fill_the_memory():
    rule, memory = SustainedRegression(), {}
    for number in range(1_000):
        decisions_of(rule, story(test="reference", release=f"r{number}")[:3], declared(None), memory)
    assert len(memory) <= 100
    assert "r999" in memory


class Broken(SustainedRegression):
    """Decides by `when`, with `fields` changed."""

    def __init__(self, when=lambda signal: True, **fields):
        super().__init__()
        self.when, self.fields = when, fields

    def decide(self, signal, releases, memory):
        if signal.kind == "status" and self.when(signal):
            values = {
                "decision_id": "d", "deployment": "support", "release": "2.4", "cause": "release",
                "verbs": ("page",), "reason": "why", "rule": self.name, "at_ms": 0, "summary": "s",
                "metric": "m", "segment": "all", "signal_ids": ("s",), **self.fields,
            }  # fmt: skip
            yield Decision(**values)


class Hoarder(SustainedRegression):
    def decide(self, signal, releases, memory):
        memory.setdefault("all", []).append(signal.signal_id)
        return super().decide(signal, releases, memory)


class Amnesiac(SustainedRegression):
    """Keeps its count beside the memory."""

    def __init__(self):
        super().__init__()
        self.own = {}

    def decide(self, signal, releases, memory):
        return super().decide(signal, releases, self.own)


def sure(signal):
    return signal.state == "drift" and signal.worse and signal.evidence >= signal.threshold


@pytest.mark.parametrize(
    "rule",
    [Broken, partial(Broken, sure, verbs=("page", "rollback")), partial(Broken, sure, reason=""),
     partial(Broken, sure, effect=float("nan")), Hoarder, Amnesiac],
)  # fmt: skip
def test_broken_rules_are_found(rule):
    found = 0
    for check in RULE_CHECKS:
        try:
            check(rule)
        except AssertionError:
            found += 1
    assert found
