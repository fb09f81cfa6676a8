"""Every registered rule keeps every check; what the one we ship means; broken rules are found."""

from functools import partial

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
