"""Whatever the door admits, the stages take: what ends a worker would end it at every start again."""

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors.records import Arm, Reference, Release, Score, Scorecard, Tick
from detectors.records.codec import Record
from detectors.redaction import Redactor
from detectors.stages import Delivery
from detectors.stages.detect import DetectStage
from detectors.stages.detect_plan import DetectPlan
from streams.assembly import assemble
from streams.door.admission import AdmissionContext, admit_payloads
from streams.door.submission import Kind
from streams.inbox import Entry
from streams.settings import DoorSettings, Settings

UNIT_MS = 1_000
START_MS = 1_760_000_000_000
LAST_MS = 7_258_118_399_999
PLAN = DetectPlan(
    source_partitions=1,
    unit_ms=UNIT_MS,
    lateness_ms=0,
    status_ms=2 * UNIT_MS,
    reference_units=30,
    tolerance=0.01,
    reference_alpha=1e-2,
    arm_alpha=1e-2,
    segment_top={"plan": 2},
)
DECIDE = assemble(Settings()).decide
DOOR = AdmissionContext(
    settings=DoorSettings(clamp=False),
    redactor=Redactor(),
    user_key=b"0123456789abcdef",
    received_at_ms=START_MS,
)

values = st.sampled_from([0.0, 5e-324, 1e-17, 0.5, 1.0 - 2**-53, 1.0]) | st.floats(0, 1)
shares = st.sampled_from([5e-324, 1e-17, 1e-6, 0.1, 0.5, 1.0 - 1e-6, 1.0 - 2**-53])
times = st.integers(0, 60).map(lambda step: START_MS + step * UNIT_MS // 3)
odd_times = times | st.sampled_from([0, START_MS - 10**10, LAST_MS])
deployments, releases, metrics = st.sampled_from("de"), st.sampled_from("123"), st.sampled_from("mn")
numbers = st.sampled_from([-1e308, -1.0, 0.0, 5e-324, 20.0, 1e18, 1e308]) | st.floats(0, 60)

declarations = st.fixed_dictionaries(
    {
        "deployment": deployments,
        "release": releases,
        "role": st.sampled_from(["stable", "candidate", "shadow"]),
        "started_at": odd_times,
    },
    optional={"share": shares},
).map(lambda sent: ("release", sent))
approvals = st.fixed_dictionaries(
    {
        "deployment": deployments,
        "release": releases,
        "metric": metrics,
        "segment": st.sampled_from(["all", "plan=a"]),
        "n": st.sampled_from([1, 2, 40, 2**31 - 1]),
        "mean": values,
        "variance": st.sampled_from([0.0, 5e-324, 0.25, 0.5]),
        "first_at": st.just(0),
        "last_at": odd_times,
        "approved_at": odd_times,
        "cells": st.dictionaries(
            st.sampled_from(["plan=a", "plan=b", "tier=x", "all", "plan="]),
            st.tuples(st.sampled_from([-1, 0, 1, 30, 10**18]), numbers, numbers),
            max_size=4,
        ),
    }
).map(lambda sent: ("reference", sent))
runs = st.fixed_dictionaries(
    {
        "deployment": deployments,
        "release": releases,
        "count": st.integers(1, 60),
        "at_ms": odd_times,
        "unit": st.sampled_from(["c:same", "u:same", "i:{n}", "u:{n}"]),
        "share": shares | st.none(),
        "plan": st.sampled_from(["a", "b", "c", ""]),
        "measured": st.dictionaries(metrics, values, max_size=2),
    }
)


def admitted(kind: Kind, sent: dict[str, object]) -> list[Record]:
    """Return what reaches the stages of a submission: nothing, if the door refuses it."""
    entries = admit_payloads([msgspec.json.encode(sent)], kind, DOOR)
    return [one.record for one in entries if isinstance(one, Entry) and one.topic == "interactions"]


def cards_of(number: int, run: dict) -> list[Record]:
    """Return scorecards that differ in their ids, their times, and where the run says so, their units."""
    scores = tuple(
        Score(name=name, value=value, direction="higher" if name == "m" else "lower")
        for name, value in sorted(run["measured"].items())
    )
    return [
        Scorecard(
            deployment=run["deployment"],
            interaction_id=f"{number}-{n}",
            release=run["release"],
            event_time_ms=min(LAST_MS, run["at_ms"] + n * 50),
            received_at_ms=START_MS,
            unit=run["unit"].format(n=f"{number}-{n}"),
            scores=scores,
            arm=None if run["share"] is None else Arm("arm", run["share"]),
            segments={"plan": run["plan"]} if run["plan"] else {},
        )
        for n in range(run["count"])
    ]


def think(records: list[Record]) -> int:
    """Carry `records` through detection and decision, with restarts; return how many outputs there were."""
    states, stored, outputs = [{}, {}], [{}, {}], 0
    stages = [DetectStage(PLAN), DECIDE]
    for start in range(0, len(records), 50):
        batch = records[start : start + 50]
        for at, stage in enumerate(stages):
            state = stage.restore(0, stored[at]) if start % 200 == 0 else states[at]
            deliveries = [Delivery(0, start * 10_000 + n, record) for n, record in enumerate(batch)]
            states[at], said = stage.step(state, deliveries)
            for key, blob in stage.changes(states[at]).items():
                stored[at].pop(key, None) if blob is None else stored[at].update({key: blob})
            batch = [output.record for output in said if output.topic == "signals"]
            outputs += len(said)
    return outputs


WORSE = {"deployment": "d", "release": "1", "count": 60, "unit": "i:{n}", "share": None, "plan": "a"}
FALLEN = [WORSE | {"at_ms": START_MS + n * 3_000, "measured": {"m": float(n < 2)}} for n in range(6)]
APPROVED = {
    "deployment": "d", "release": "1", "metric": "m", "segment": "all", "n": 60, "mean": 0.98,
    "variance": 0.02, "first_at": 0, "last_at": 1, "approved_at": 2,
}  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(told=st.lists(declarations | approvals, max_size=6), answered=st.lists(runs, max_size=8))
@example(told=[("reference", APPROVED | {"cells": {"plan=a": [-1, 1.0, 1.0]}})], answered=FALLEN)
@example(told=[("reference", APPROVED | {"cells": {"plan=a": [60, 1e308, 1e308]}})], answered=FALLEN)
@example(told=[("reference", APPROVED | {"cells": {"plan=a": [10**18, 1e18, 1e18]}})], answered=FALLEN)
@example(told=[("reference", APPROVED | {"cells": {"all": [60, 59.0, 59.0]}})], answered=FALLEN)
def test_nothing_that_is_admitted_ends_a_stage(told, answered):
    controls = [record for kind, sent in told for record in admitted(kind, sent)]
    assert all(isinstance(record, Release | Reference) for record in controls)
    cards = [card for number, run in enumerate(answered) for card in cards_of(number, run)]
    latest = max((card.event_time_ms for card in cards), default=START_MS)
    steps = [Tick(0, at_ms) for at_ms in (START_MS + 5_000, START_MS + 15_000, latest + 10 * UNIT_MS)]
    half = len(cards) // 2
    early = sorted(cards[:half], key=lambda card: card.event_time_ms)
    think([*controls, *early, steps[0], *cards[half:], steps[1], steps[2]])


def test_the_examples_reach_what_explains_an_alarm():
    (reference,) = admitted("reference", APPROVED | {"cells": {"plan=a": [60, 58.8, 58.8]}})
    cards = [card for number, run in enumerate(FALLEN) for card in cards_of(number, run)]
    state = DetectStage(PLAN).restore(0, {})
    _, said = DetectStage(PLAN).step(
        state, [Delivery(0, n, one) for n, one in enumerate([reference, *cards, Tick(0, START_MS + 30_000)])]
    )
    assert any(getattr(output.record, "split", "") for output in said)
