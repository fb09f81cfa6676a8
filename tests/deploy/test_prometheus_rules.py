"""The alert rules read what is served: every metric they name is one that a worker tells."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import deploy
from detectors.stages.contract import StageState
from detectors.stages.score import WATERMARK
from streams.health import _Readings
from streams.kafka.runner import StageRunner
from streams.kafka.state_records import Position
from streams.kafka.vitals import Reading, WorkerVitals
from streams.kafka.vitals_of import read_act, read_land
from streams.kafka.watchdog import Look

RULES = Path(deploy.__file__).parent / "prometheus" / "plumbline.rules.yaml"
_WELL = Look(assigned=True, behind=False, waiting=False, moved=0.0)


class Told:
    def __init__(self, stage: str, reading: Reading) -> None:
        self.stage, self._reading = stage, reading

    def read(self) -> Reading:
        return self._reading


def act_runner() -> SimpleNamespace:
    return SimpleNamespace(
        app=SimpleNamespace(positions=dict, rebalances=1, refetches=0, placed=True, heard_s=0.0),
        tasks=SimpleNamespace(round_ages=lambda: {"act_feed": 1.0}),
        intake=SimpleNamespace(places={0: 65_536}, progress_s=0.0),
        counts=({"pending": 1}, {"FAILED": 1}),
        copies=SimpleNamespace(written=3),
    )


def lander() -> SimpleNamespace:
    counts = SimpleNamespace(rows={"scores": 1}, unreadable={"t": 1}, lost={"t": 1}, ranges=2, repeated=1)
    return SimpleNamespace(landed=lambda: {("t", 0): 5}, counts=counts, problem="", progress_s=0.0)


def served() -> str:
    state = StageState({})
    state.put(WATERMARK, 1)
    state.count("late", "d")
    desk = SimpleNamespace(lane=SimpleNamespace(writer=SimpleNamespace(count=2, seconds=0.5)))
    paced = SimpleNamespace(pace=SimpleNamespace(wait_ms=120))
    runner = SimpleNamespace(
        stage="score",
        positions={0: Position(place=0)},
        lost=0,
        _desks={0: desk},
        _closed=(1, 0.25),
        app=paced,
    )
    thinking = Told("score", Reading(look=_WELL, progress_age_s=1.0, ends={}, reached={("t", 0): 1},
                                     more=StageRunner._counts(runner)))  # fmt: skip
    thinking.states, thinking.commits = {0: state}, 1
    act = Told("act", read_act(act_runner(), "decisions", {}))
    app = SimpleNamespace(rebalances=1, refetches=0, placed=True, heard_s=0.0)
    land = Told("land", read_land(lander(), app, {("t", 0): 9}))
    registry = CollectorRegistry()
    registry.register(_Readings(WorkerVitals([thinking, act, land], stuck_after_s=60.0).read))
    return generate_latest(registry).decode()


def test_every_metric_of_the_rules_is_served():
    text = served()
    named = set(re.findall(r"plumbline_[a-z_]+", RULES.read_text(encoding="utf-8")))
    missing = {name for name in named if not re.search(rf"^{name}(?:{{| )", text, re.MULTILINE)}
    assert missing == set()
    assert len(named) >= 12


def test_the_time_of_transactions_is_served_and_outlives_their_partitions():
    text = served()
    assert 'plumbline_stage_writes_total{stage="score"} 3.0' in text
    assert 'plumbline_stage_write_seconds_total{stage="score"} 0.75' in text


def test_how_long_a_fetch_waits_is_served():
    assert 'plumbline_stage_fetch_wait_seconds{stage="score"} 0.12' in served()


def test_every_alert_says_how_bad_it_is_and_what_to_do():
    alerts = RULES.read_text(encoding="utf-8").split("- alert: ")[1:]
    assert len({alert.split("\n")[0] for alert in alerts}) == len(alerts) >= 12
    for alert in alerts:
        assert re.search(r"severity: (page|ticket)\b", alert)
        assert "summary: " in alert
        assert "remedy: " in alert


@pytest.mark.parametrize("kind", ["late", "score_error_refusal", "rule_error_worse"])
def test_what_is_selected_by_kind_is_a_kind_that_is_counted(kind):
    patterns = re.findall(r'kind=~?"([^"]+)"', RULES.read_text(encoding="utf-8"))
    assert any(re.fullmatch(pattern, kind) for pattern in patterns)
