"""Settings become parts, and the promised false alarms become each detector's share."""

import pytest

from detectors.rules import RULES
from detectors.scorers import SCORERS
from streams.assembly import assemble, detect_plan
from streams.settings import (
    ActSettings,
    DetectSettings,
    DoorSettings,
    JournalSettings,
    SegmentSettings,
    Settings,
    SettingsError,
    parse_settings,
)  # fmt: skip


def test_without_a_list_every_part_is_there_and_the_log_is_told():
    parts = assemble(Settings())
    assert [scorer.name for scorer in parts.score._scorers] == [
        SCORERS.build(n, {}).name for n in SCORERS.names()
    ]
    assert [rule.name for rule in parts.decide._rules] == RULES.names()
    assert list(parts.notifiers) == ["log"]
    assert parts.targets == {}
    assert [stage.name for stage in parts.stages] == ["score", "detect", "decide"]
    sources = [stage.source for stage in parts.stages]
    assert sources == ["interactions", "scorecards", "signals"]


def test_a_list_gives_what_it_names_in_its_order():
    parts = assemble(parse_settings('[[scorer]]\nname = "over_refusal"\n[[scorer]]\nname = "hedging"'))
    assert [scorer.name for scorer in parts.score._scorers] == ["over_refusal", "hedging"]


def test_the_false_alarms_are_shared_by_what_may_page():
    detect = DetectSettings(false_pages_per_week=1.0, units_per_week=1_000, false_rollback_probability=0.01)
    scorers = assemble(Settings()).score._scorers
    paging = sum(scorer.direction != "neutral" for scorer in scorers)
    plan = detect_plan(Settings(detect=detect), scorers)
    assert plan.reference_alpha == pytest.approx(1 / (1_000 * 2 * paging))
    assert plan.arm_alpha == pytest.approx(0.01 / paging)
    segments = tuple(SegmentSettings(name=name, source="model") for name in ("a", "b"))
    sliced = detect_plan(Settings(detect=detect, segment=segments), scorers)
    assert sliced.reference_alpha == pytest.approx(plan.reference_alpha / 2)
    assert sliced.segment_top == {"a": 20, "b": 20}
    assert detect_plan(Settings(detect=detect), []).reference_alpha == pytest.approx(1 / 2_000)


def test_seconds_become_milliseconds():
    plan = detect_plan(
        Settings(
            detect=DetectSettings(unit_s=0.5, lateness_s=0.25, status_s=2),
            journal=JournalSettings(partitions=9),
        ),
        [],
    )
    assert (plan.unit_ms, plan.lateness_ms, plan.status_ms, plan.source_partitions) == (500, 250, 2_000, 9)


@pytest.mark.parametrize("clamp", [True, False])
def test_time_is_live_where_the_door_clamps_it(clamp):
    assert assemble(Settings(door=DoorSettings(clamp=clamp))).score._live is clamp


HOOK = {"name": "webhook", "url": "http://10.0.0.1/x", "secret_env": "HOOK"}


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("HOOK", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


def test_networks_that_may_be_called_are_handed_down_unless_the_part_names_its_own():
    with pytest.raises(SettingsError, match=r"notifier\[0\]"):
        assemble(Settings(notifier=(HOOK,)))
    allowed = ActSettings(allow_networks=("10.0.0.0/8",))
    assert list(assemble(Settings(act=allowed, notifier=(HOOK,))).notifiers) == ["webhook"]
    own = {**HOOK, "allow_networks": ["192.168.0.0/16"]}
    (named,) = assemble(Settings(act=allowed, notifier=(own,))).notifiers.values()
    assert [str(network) for network in named._endpoint._allowed] == ["192.168.0.0/16"]  # type: ignore[attr-defined]


def test_targets_are_found_by_deployment():
    target = {**HOOK, "url": "https://a.example/r", "state_url": "https://a.example/s"}
    parts = assemble(Settings(rollback=(target, {**target, "deployment": "support"})))
    assert set(parts.targets) == {"*", "support"}


def test_an_error_never_holds_the_secret():
    for wrong in ({**HOOK, "url": "ftp://x"}, {**HOOK, "secret_file": "x"}, {**HOOK, "timeout_s": "x"}):
        with pytest.raises(SettingsError) as caught:
            assemble(Settings(notifier=(wrong,)))
        assert "MfKQ9r8G" not in str(caught.value)
