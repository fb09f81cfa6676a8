"""The driver against a door that keeps the contract and a monitor that acts when it has seen enough."""

import asyncio
import base64
import io
import json
from typing import Any

import httpx2
import pytest
from rich.console import Console

from detectors.records import Action, Decision, Interval, Signal, SignalKind, StreamKey
from plumbline.client import Client
from streams.demo.driver import Plan, drive
from streams.demo.gateway import Gateway
from streams.demo.outcome import Mode, Outcome
from streams.demo.story import Story
from streams.outgoing import Signer

SECRET = "whsec_" + base64.b64encode(b"a key for the tests only, 32 b..").decode()
START = 1_700_000_000_000
SMALL: dict[str, Any] = {"before": 300, "candidate": 700, "after": 200, "ahead": 200}


class FakeMonitor:
    """Accepts everything; once `enough` answers of 2.4 have come it pages and, if allowed, moves traffic."""

    door_url = "http://door"
    page_url = "http://page/"

    def __init__(self, gateway: Gateway, *, enough: int | None, rollback: bool = True) -> None:
        self.gateway = gateway
        self.enough = enough
        self.rollback = rollback
        self.interactions: list[dict[str, Any]] = []
        self.releases: list[dict[str, Any]] = []
        self._acts: list[Action] = []
        self._decisions: list[Decision] = []
        self._signals: list[Signal] = []

    def door(self, request: httpx2.Request) -> httpx2.Response:
        records = [json.loads(line) for line in request.content.split(b"\n")]
        kept = self.releases if request.url.path == "/v1/releases" else self.interactions
        kept += records
        results = [{"line": at, "status": 202, "verdict": "accepted"} for at, _ in enumerate(records, 1)]
        counts = {"accepted": len(records), "duplicate": 0, "refused": 0}
        return httpx2.Response(202, json={**counts, "results": results})

    async def wait_idle(self) -> None:
        seen = sum(record["release"] == "2.4" for record in self.interactions)
        if self.enough is not None and seen >= self.enough and not self._decisions:
            await self.act()
        elif self._acts and self._acts[-1].state == "EXECUTING":
            self._acts.append(self.action(2, "ROLLED_BACK"))

    async def act(self) -> None:
        key = StreamKey("support", "2.4", "all", "over_refusal", "arm")
        effect = {"effect": 0.08, "interval": Interval(0.03, 0.13, 0.95), "baseline": 0.02, "worse": True}
        self._signals.append(Signal(signal_id="s1", kind="change", stream=key, at_ms=START, n=90, **effect))
        verbs: Any = ("page", "rollback") if self.rollback else ("page",)
        named = {
            "reason": "canary_worse",
            "rule": "r",
            "summary": "What the rule said.\x1b[31m",
            "metric": "over_refusal",
        }
        self._decisions.append(
            Decision(
                decision_id="d1",
                deployment="support",
                release="2.4",
                cause="release",
                verbs=verbs,
                at_ms=START,
                segment="all",
                exemplars=("i1", "i2"),
                effect=0.08,
                low=0.03,
                high=0.13,
                baseline=0.02,
                n=90,
                **named,
            )
        )
        await self.post(
            "/page", "n1", {"type": "plumbline.page", "data": {"release": "2.4", "decision_id": "d1"}}
        )
        if self.rollback:
            self._acts.append(self.action(1, "EXECUTING"))
            data = {"action_id": "a1", "deployment": "support", "from_release": "2.4", "to_release": "2.3"}
            await self.post("/rollback", "a1", {"type": "plumbline.rollback", "data": data})

    async def post(self, path: str, message_id: str, message: Any) -> None:
        body = json.dumps(message).encode()
        transport = httpx2.ASGITransport(app=self.gateway.app())
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
            answer = await client.post(path, content=body, headers=Signer(SECRET).headers(message_id, body))
        assert answer.status_code < 300

    def action(self, seq: int, state: Any) -> Action:
        fixed: dict[str, Any] = {
            "decision_id": "d1",
            "kind": "rollback",
            "target": "gateway",
            "reason": "canary_worse",
        }
        moved = {"from_release": "2.4", "to_release": "2.3", "deployment": "support", "release": "2.4"}
        return Action(action_id="a1", seq=seq, state=state, at_ms=START, **fixed, **moved)

    def acts(self) -> list[Action]:
        return list(self._acts)

    def decisions(self) -> list[Decision]:
        return list(self._decisions)

    def signals(self, kind: SignalKind) -> list[Signal]:
        return [signal for signal in self._signals if signal.kind == kind]


def run(
    mode: Mode, *, enough: int | None, rollback: bool = True, **changes: Any
) -> tuple[Outcome, FakeMonitor, str]:
    plan = Plan(mode=mode, start_ms=START, **(SMALL | changes))
    gateway = Gateway(secret=SECRET, deployment="support", shares={"2.3": 1.0, "2.4": 0.0}, seed=plan.seed)
    monitor = FakeMonitor(gateway, enough=enough, rollback=rollback)
    out = io.StringIO()
    with Story(Console(file=out, width=200), total=1_500) as story:
        outcome = asyncio.run(drive(plan, monitor, gateway, story, connect=lambda url: connect(url, monitor)))
    return outcome, monitor, out.getvalue()


def connect(url: str, monitor: FakeMonitor) -> Client:
    return Client(url, transport=httpx2.MockTransport(monitor.door))


def test_the_canary_is_caught_and_the_story_tells_it_in_order() -> None:
    outcome, monitor, told = run("canary", enough=40)
    assert outcome.ok, outcome.reasons
    expected = [
        "2.4 now serves 20% of the conversations",
        "over_refusal is worse",
        "2.0% -> 10.0% (+8.0%, 95% interval +3.0% to +13.0%)",
        "decision (page + rollback): support 2.4 is WORSE than the stable release: over_refusal 2.0 %",
        "page delivered",
        "the gateway is asked to move the traffic",
        "the gateway moved the traffic: 2.3 100%, 2.4 0%",
        "verified: nothing of 2.4 is served any more",
        "Evidence for over_refusal: http://page/interaction/i2",
        "It ended as it must.",
    ]
    places = [told.find(text) for text in expected]
    assert -1 not in places
    assert places == sorted(places)
    assert "\x1b" not in told
    assert [(one["release"], one["role"]) for one in monitor.releases] == [
        ("2.3", "stable"),
        ("2.4", "candidate"),
    ]


def test_what_was_seen_is_told_with_the_numbers_and_the_time_of_the_signal() -> None:
    _, monitor, told = run("canary", enough=40)
    (seen,) = [one for one in told.splitlines() if "is worse than the stable arm" in one]
    assert seen.startswith(
        "22:13:20  2.4: over_refusal is worse than the stable arm, seen after 90 conversations of it"
    )
    assert sum(record["release"] == "2.4" for record in monitor.interactions) != 90
    (decided,) = [one for one in told.splitlines() if "decision (page + rollback)" in one]
    assert decided.startswith("22:13:20  ")


def test_of_a_reference_test_the_total_counts() -> None:
    out = io.StringIO()
    key = StreamKey("support", "2.4", "plan=<b>", "honest", "reference")
    signal = Signal(signal_id="s", kind="change", stream=key, at_ms=START, n=12, n_total=480, worse=True)
    with Story(Console(file=out, width=200), total=1) as story:
        story.signals([signal])
        story.signals([signal])
    assert out.getvalue().strip() == (
        "22:13:20  2.4: honest is worse than the reference in plan=(withheld), "
        "seen after 480 conversations of it"
    )


def test_the_traffic_is_in_order_and_its_arms_are_stamped() -> None:
    _, monitor, _ = run("canary", enough=40)
    times = [record["event_time"] for record in monitor.interactions]
    assert times == sorted(times)
    began_ms = monitor.releases[1]["started_at"]
    for record in monitor.interactions:
        if record["event_time"] < began_ms:
            assert record["release"] == "2.3"
            assert "arm" not in record
        elif record["release"] == "2.4":
            assert record["arm"] == {"name": "canary", "share": 0.2, "unit": "conversation"}
    stamped = [
        record["arm"] for record in monitor.interactions if record["release"] == "2.3" and "arm" in record
    ]
    assert stamped
    assert all(arm == {"name": "stable", "share": 0.8, "unit": "conversation"} for arm in stamped)
    assert [record["release"] for record in monitor.interactions[-100:]] == ["2.3"] * 100


def test_a_monitor_that_sees_nothing_fails_the_demonstration() -> None:
    outcome, monitor, told = run("canary", enough=None)
    assert not outcome.ok
    assert "Not as it must: no page named 2.4." in told
    conversations = {record["conversation"] for record in monitor.interactions}
    assert 900 < len(conversations) <= 1_000 + 100
    assert abs(len(monitor.interactions) / Plan(start_ms=START, **SMALL).interactions - 1) < 0.1


class SlowMonitor(FakeMonitor):
    """Its response side comes to an end some steps after the traffic."""

    waited = 0

    async def wait_idle(self) -> None:
        if not self._acts:
            await super().wait_idle()
        elif len({record["conversation"] for record in self.interactions}) > 340:
            self.waited += 1
            if self.waited == 6:
                self._acts.append(self.action(2, "ROLLED_BACK"))


def test_a_slow_machine_changes_nothing_in_how_it_ends() -> None:
    plan = Plan(start_ms=START, **(SMALL | {"after": 50}))
    gateway = Gateway(secret=SECRET, deployment="support", shares={"2.3": 1.0, "2.4": 0.0}, seed=plan.seed)
    monitor = SlowMonitor(gateway, enough=5)
    with Story(Console(file=io.StringIO()), total=1) as story:
        outcome = asyncio.run(drive(plan, monitor, gateway, story, connect=lambda url: connect(url, monitor)))
    assert outcome.ok, outcome.reasons
    assert monitor.waited == 6


def test_a_healthy_release_is_left_alone_and_its_answers_are_as_good() -> None:
    outcome, monitor, _ = run("healthy", enough=None)
    assert outcome.ok
    _, worse, _ = run("canary", enough=None)
    by_id = {record["id"]: record for record in monitor.interactions}
    served = [record for record in worse.interactions if record["release"] == "2.4"]
    changed = sum(
        record["response"] != by_id[record["id"]]["response"] for record in served if record["id"] in by_id
    )
    assert 0 < changed < 0.15 * len(served)


def test_in_place_there_is_no_arm_and_the_page_ends_it() -> None:
    outcome, monitor, _ = run("in_place", enough=100, rollback=False)
    assert outcome.ok, outcome.reasons
    assert [(one["release"], one["role"]) for one in monitor.releases] == [
        ("2.3", "stable"),
        ("2.3", "retired"),
        ("2.4", "stable"),
    ]
    assert not any("arm" in record for record in monitor.interactions)
    began_ms = monitor.releases[1]["started_at"]
    assert all(
        (record["event_time"] >= began_ms) == (record["release"] == "2.4") for record in monitor.interactions
    )


def test_a_false_alarm_on_a_healthy_release_is_not_a_success() -> None:
    outcome, _, _ = run("healthy", enough=40)
    assert not outcome.ok


def test_the_same_seed_sends_the_same_traffic() -> None:
    first, second = run("canary", enough=40)[1], run("canary", enough=40)[1]
    assert first.interactions == second.interactions


@pytest.mark.parametrize("speed", [2_000.0])
def test_event_time_can_be_held_to_a_multiple_of_the_wall_clock(speed: float) -> None:
    _, monitor, _ = run("healthy", enough=None, before=100, candidate=100, speed=speed)
    assert len(monitor.interactions) >= 200


def test_on_a_terminal_there_is_a_bar_and_texts_are_not_read_as_markup() -> None:
    out = io.StringIO()
    with Story(Console(file=out, force_terminal=True, width=120), total=100) as story:
        story.begin("canary", seed=1, page_url="http://page/")
        story.progress(sent=50, by_candidate=5, now_ms=START)
        story.end(False, ["[red]not a style[/red]\x1b[2J"], refused=3, decisions=[])
    told = out.getvalue()
    assert "50 interactions, 5 by 2.4" in told
    assert "[red]not a style[/red]?[2J" in told
    assert "The door refused 3 interactions." in told
