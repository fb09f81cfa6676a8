"""Vitals of a worker: what is ready, what is told, and to whom."""

import asyncio

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.stages.contract import StageState
from detectors.stages.score import WATERMARK
from streams.health import Gauge
from streams.kafka.vitals import LagClock, Reading, WorkerVitals, open_listener, require_worker_token
from streams.kafka.watchdog import Look
from streams.settings import SettingsError, WorkerSettings

WELL = Look(assigned=True, behind=True, waiting=False, moved=1.0)


class Worker:
    """A worker made of readings."""

    def __init__(self, stage: str = "score", **fields) -> None:
        self.stage = stage
        self.reading = Reading(
            **{
                "look": WELL,
                "progress_age_s": 1.0,
                "ends": {("t", 0): 10, ("t", 1): 4},
                "reached": {("t", 0): 7, ("t", 1): 4},
                **fields,
            }
        )

    def read(self) -> Reading:
        return self.reading


def vitals(*workers: Worker, **more) -> WorkerVitals:
    return WorkerVitals(workers or (Worker(),), stuck_after_s=60.0, **more)


def values(found, name: str):
    (gauge,) = [one for one in found if one.name == name]
    return dict(gauge.values)


def test_a_worker_that_moves_is_ready():
    assert vitals().ready().problems == {}
    assert vitals().alive().problems == {}


@pytest.mark.parametrize(
    ("worker", "problem"),
    [
        (Worker(look=Look(False, False, False, 0.0)), "no partition is assigned"),
        (Worker(progress_age_s=31.0), "nothing was committed for 31 s"),
        (Worker(problem="the store does not answer"), "the store does not answer"),
    ],
)
def test_what_keeps_it_from_working_is_told(worker, problem):
    assert vitals(worker).ready().problems == {"score": problem}
    assert vitals(worker).alive().problems == {}


def test_an_idle_worker_is_ready_however_long_nothing_came():
    idle = Worker(look=Look(True, False, False, 0.0), progress_age_s=1e6)
    assert vitals(idle).ready().problems == {}


def test_a_failure_is_not_alive():
    failed = vitals(failure=lambda: "score failed: BrokerError")
    assert failed.alive().problems == failed.ready().problems == {"process": "score failed: BrokerError"}


def test_lags_are_told_by_partition_in_records_and_seconds():
    now_s = [100.0]
    worker = Worker()
    one = vitals(worker, clock=lambda: now_s[0])
    assert values(one.read(), "stage_lag_records") == {("score", "t", "0"): 3.0, ("score", "t", "1"): 0.0}
    now_s[0] = 130.0
    assert values(one.read(), "stage_lag_seconds") == {("score", "t", "0"): 30.0, ("score", "t", "1"): 0.0}
    assert values(one.read(), "stage_offset")["score", "t", "0"] == 7.0
    assert values(one.read(), "resident_bytes")[()] > 1e6


def test_several_runners_of_a_worker_share_the_names_of_their_readings():
    extra = Gauge("transactions", "How many.", ("stage",), {("a",): 1.0}, True)
    other = Gauge("transactions", "How many.", ("stage",), {("b",): 2.0}, True)
    both = vitals(Worker("a", more=(extra,)), Worker("b", more=(other,), reached={("u", 0): 1}))
    found = list(both.read())
    assert len({one.name for one in found}) == len(found)
    assert values(found, "transactions") == {("a",): 1.0, ("b",): 2.0}
    assert len(values(found, "stage_lag_records")) == 3


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.floats(0.1, 10)), max_size=60))
def test_the_age_of_a_lag_is_bounded_by_when_it_could_have_begun(steps):
    clock, end, reached, now_s, drained_s = LagClock(), 0, 0, 0.0, 0.0
    for grown, done, pause_s in steps:
        now_s, end = now_s + pause_s, end + grown
        reached = min(end, reached + done)
        age_s = clock.age_s(end, reached, now_s)
        if reached == end:
            drained_s = now_s
            assert age_s == 0.0
        else:
            assert 0.0 <= age_s <= now_s - drained_s


def test_beyond_this_machine_a_token_is_needed(monkeypatch):
    with pytest.raises(SettingsError, match=r"worker\.token_env"):
        require_worker_token(WorkerSettings(metrics_host="192.0.2.1"))
    monkeypatch.setenv("WORKER_TOKEN", "tok-1")
    settings = WorkerSettings(metrics_host="192.0.2.1", token_env="WORKER_TOKEN")
    assert require_worker_token(settings) == "tok-1"


def ask(settings: WorkerSettings, **headers: str) -> dict[str, tuple[int, str]]:
    async def story():
        listener = open_listener(settings, vitals(Worker(problem="away")))
        await listener.start()
        try:
            async with httpx2.AsyncClient(base_url=listener.url, headers=headers) as client:
                found = {}
                for path in ("/healthz", "/readyz", "/metrics"):
                    answer = await client.get(path)
                    found[path] = (answer.status_code, answer.text)
                return found
        finally:
            await listener.close()

    return asyncio.run(story())


def test_it_is_served_in_the_form_of_prometheus():
    found = ask(WorkerSettings())
    assert found["/healthz"][0] == 200
    assert found["/readyz"] == (503, '{"ok":false,"problems":{"score":"away"}}')
    assert 'plumbline_stage_lag_records{partition="0",stage="score",topic="t"} 3.0' in found["/metrics"][1]
    assert ask(WorkerSettings(), host="evil.example")["/metrics"][0] == 400


def test_the_metrics_need_the_token_and_the_probes_do_not(monkeypatch):
    monkeypatch.setenv("WORKER_TOKEN", "tok-1")
    settings = WorkerSettings(token_env="WORKER_TOKEN")
    assert [ask(settings)[path][0] for path in ("/healthz", "/readyz", "/metrics")] == [200, 503, 401]
    assert ask(settings, authorization="Bearer tok-1")["/metrics"][0] == 200


def test_a_thinking_stage_tells_what_it_set_aside_and_how_far_time_is():
    state = StageState({})
    state.put(WATERMARK, 5_000)
    state.count("score_error_refusal", "d", 3)
    worker = Worker()
    worker.states, worker.commits = {1: state}, 9
    found = list(vitals(worker).read())
    assert values(found, "set_aside_records") == {("score", "1", "score_error_refusal", "d"): 3.0}
    assert values(found, "watermark_ms") == {("1",): 5_000.0}
    assert values(found, "stage_transactions") == {("score",): 9.0}
