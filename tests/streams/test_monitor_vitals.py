"""Readiness: what is stuck, behind or broken is said, and nothing else."""

from types import SimpleNamespace

import pytest

from streams.settings import JournalSettings
from streams.vitals import Vitals


class Parts:
    """Stand-ins for the parts of a monitor, all well."""

    def __init__(self) -> None:
        self.ages = {"think": 0.1, "land": 0.1, "act_feed": 0.1, "act_advance": 0.1, "act_deliver": 0.1}
        self.counted: dict[tuple[str, str], int] = {}
        self.ends = {"interactions": {0: 10}, "decisions": {0: 3}}
        self.failure = self.landing = ""

    def vitals(self) -> Vitals:
        act = SimpleNamespace(
            round_ages=lambda: {name: age for name, age in self.ages.items() if name.startswith("act_")},
            positions=lambda: {0: 3},
        )
        return Vitals(
            JournalSettings(stuck_after_s=30.0, lag_limit=100),
            journal=SimpleNamespace(ends=self.ends.__getitem__, positions=lambda *_: {0: 10}),
            pipeline=SimpleNamespace(counts=lambda: self.counted, watermarks=dict),
            stages=[SimpleNamespace(name="score", source="interactions")],
            think=SimpleNamespace(round_age_s=lambda: self.ages["think"]),
            lander=SimpleNamespace(lag=dict),
            land=SimpleNamespace(problem=self.landing, round_age_s=lambda: self.ages["land"]),
            act=act,
            machine=SimpleNamespace(
                count_states=lambda: ({"pending": 2, "sent": 9}, {"DECIDED": 1, "VERIFYING": 1, "FAILED": 4})
            ),
            door=SimpleNamespace(snapshot=dict),
            failure=lambda: self.failure,
        )


@pytest.fixture
def parts() -> Parts:
    return Parts()


def test_all_is_well(parts):
    assert parts.vitals().ready().problems == {}


@pytest.mark.parametrize("loop", ["think", "act_feed", "act_advance", "act_deliver"])
def test_a_loop_that_is_stuck_is_not_ready_and_is_alive(parts, loop):
    parts.ages[loop] = 31.0
    vitals = parts.vitals()
    assert vitals.ready().problems == {loop: "its last round ended 31 s ago"}
    assert vitals.alive().problems == {}


def test_landing_that_waits_for_its_store_is_told_by_its_own_words(parts):
    parts.ages["land"], parts.landing = 31.0, "cannot insert: ConnectionError"
    assert parts.vitals().ready().problems == {"landing": "cannot insert: ConnectionError"}


def test_a_stage_too_far_behind_is_not_ready(parts):
    parts.ends["interactions"] = {0: 110}
    assert parts.vitals().ready().problems == {}
    parts.ends["interactions"] = {0: 111}
    assert parts.vitals().ready().problems == {"lag score": "101 records are not read yet"}


def test_a_rule_that_raises_is_told_for_a_while(parts, monkeypatch):
    now_s = 1_000.0
    monkeypatch.setattr("streams.vitals.time.monotonic", lambda: now_s)
    parts.counted = {("rule_error_old", "d"): 3, ("late", "d"): 9}
    vitals = parts.vitals()
    assert vitals.ready().problems == {}
    parts.counted = {("rule_error_old", "d"): 3, ("late", "d"): 10, ("rule_error_mine", "d"): 1}
    assert set(vitals.ready().problems) == {"rule mine"}
    now_s += 599.0
    assert set(vitals.ready().problems) == {"rule mine"}
    now_s += 2.0
    assert vitals.ready().problems == {}
    parts.counted[("rule_error_mine", "e")] = 1
    assert set(vitals.ready().problems) == {"rule mine"}


def test_a_failed_process_is_neither_ready_nor_alive(parts):
    parts.failure = "think failed: ValueError"
    vitals = parts.vitals()
    assert vitals.alive().problems == vitals.ready().problems == {"process": "think failed: ValueError"}


def test_the_readings_hold_acts_notices_and_ages(parts):
    found = {gauge.name: gauge.values for gauge in parts.vitals().read()}
    assert found["notices"] == {("pending",): 2.0, ("dead",): 0.0}
    assert found["acts"] == {("open",): 2.0, ("failed",): 4.0}
    assert set(found["round_age_seconds"]) == {(name,) for name in parts.ages}
    assert found["stage_lag_records"] == {("score",): 0.0, ("act",): 0.0}
