"""A store with half a day of one deployment: a candidate turns worse, a page goes out, it is rolled back."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from detectors.records import (
    Action,
    Decision,
    Feedback,
    Interaction,
    Interval,
    Redaction,
    Release,
    Score,
    Scorecard,
    Signal,
    Span,
    StreamKey,
    Turn,
)
from detectors.records.codec import Record
from detectors.records.ids import interaction_id
from streams.landing_rows import rows_of
from streams.store import Reader, Store, open_store

START_MS = 3_786_912_000_000  # 2090-01-01: retention must not eat the tests' rows
MINUTE = 60_000
END_MS = START_MS + 180 * MINUTE
HOSTILE = "<script>alert(1)</script> \x1b[31m\x00 \u202egnp.exe\u202c \u200bx {{7*7}} </textarea>'\""


class Page:
    """Where the demonstration starts and ends, and some of its ids."""

    start_ms = START_MS
    end_ms = END_MS
    hostile_id = interaction_id("support", "hostile")
    hostile = HOSTILE


def _scored(name: str, value: float, direction: str, **more: Any) -> Score:
    return Score(name=name, value=min(1.0, max(0.0, value)), direction=direction, version="1", **more)  # type: ignore[arg-type]


def _traffic(count: int) -> Iterator[Record]:
    rng = random.Random(7)
    for index in range(count):
        at = START_MS + int(180 * MINUTE * index / count)
        minute = (at - START_MS) // MINUTE
        candidate = 60 <= minute < 128 and rng.random() < 0.25
        bad = candidate and minute >= 85
        raw = "hostile" if index == count // 2 else f"c-{index}"
        refused = rng.random() < (0.34 if bad else 0.06)
        helpful = rng.betavariate(6, 2) - (0.2 if bad else 0.0)
        grounded = rng.betavariate(8, 2)
        ident = interaction_id("support", raw)
        release = "2026-11-b" if candidate else "2026-11-a"
        language = rng.choice(["en", "en", "en", "de", "fr"])
        prompt = HOSTILE if raw == "hostile" else f"How do I change the address on order [ORDER_{index}]?"
        answer = (
            "I can't help with that." if refused else "Open Orders, choose the order, then Change address."
        )
        yield Interaction(
            deployment="support", interaction_id=ident, raw_id=raw, release=release, event_time_ms=at,
            received_at_ms=at + 40, prompt=prompt, response=HOSTILE if raw == "hostile" else answer,
            system="You are the support desk of a shop.", conversation=f"k-{index // 2}", model="gpt",
            history=(Turn(role="user", text="Hello"),), context=("Orders can be changed for 2 h.",),
            latency_s=0.8, attributes={"language": language},
            redactions=(Redaction(kind="order", field="prompt", start=36, end=45),),
        )  # fmt: skip
        scores = (
            _scored("refusal", float(refused), "lower", label="full" if refused else "",
                    spans=(Span("response", 0, 12, "cannot-help"),) if refused else ()),
            _scored("helpful", helpful, "higher"),
            _scored("grounding", grounded, "higher"),
            Score(name="sycophancy", status="abstained", reason="no pushback", direction="lower"),
        )  # fmt: skip
        yield Scorecard(
            deployment="support", interaction_id=ident, release=release, event_time_ms=at,
            received_at_ms=at + 40, unit=f"k-{index // 2}", scores=scores,
            segments={"language": language}, policy_version="p1",
            verdict="reject" if refused and helpful < 0.5 else "review" if refused else "pass",
            deciding=("refusal",) if refused else (),
        )  # fmt: skip
        if index % 50 == 0:
            yield Feedback(
                deployment="support", feedback_id=f"f{index}", interaction_id=ident, kind="thumb",
                event_time_ms=at + 5, received_at_ms=at + 45, value=0.0 if refused else 1.0,
            )  # fmt: skip


def _incident() -> Iterator[Record]:
    stream = StreamKey("support", "2026-11-b", "all", "refusal", "arm")
    turned, found = START_MS + 85 * MINUTE, START_MS + 112 * MINUTE
    yield from (
        Release(deployment="support", release="2026-11-a", role="stable", started_at_ms=START_MS - MINUTE),
        Release(deployment="support", release="2026-11-b", role="candidate", share=0.25,
                started_at_ms=START_MS + 60 * MINUTE),
    )  # fmt: skip
    for minute in range(0, 180, 5):
        state = "steady" if minute < 112 else "drift" if minute < 135 else "steady"
        yield Signal(signal_id=f"st{minute}", kind="status", stream=stream, at_ms=START_MS + minute * MINUTE,
                     n=40, n_total=40 * minute, mean=0.06, state=state, direction="lower",
                     role="candidate")  # fmt: skip
    yield Signal(
        signal_id="s-change", kind="change", stream=stream, at_ms=found, n=1180, n_total=1180, mean=0.31,
        baseline=0.06, effect=0.25, interval=Interval(0.17, 0.33, 0.95), direction="lower", worse=True,
        evidence=4.2, threshold=3.0, detected=True, state="drift", began_at_ms=turned, role="candidate",
        detector="betting_sr", bad=(Page.hostile_id,), good=(interaction_id("support", "c-1"),),
    )  # fmt: skip
    yield Decision(
        decision_id="d1", deployment="support", release="2026-11-b", cause="release",
        verbs=("page", "rollback"),
        reason="candidate_worse_than_stable", rule="rollback_guard", at_ms=found + 1000, metric="refusal",
        segment="all", effect=0.25, low=0.17, high=0.33, baseline=0.06, n=1180, began_at_ms=turned,
        signal_ids=("s-change",), exemplars=(Page.hostile_id,),
        summary="What a rule said.",
    )  # fmt: skip
    steps = ("DECIDED", "EXECUTING", "VERIFYING", "ROLLED_BACK")
    for seq, state in enumerate(steps):
        yield Action(
            action_id="a1", seq=seq, deployment="support", release="2026-11-b", decision_id="d1",
            kind="rollback", target="gateway", state=state, at_ms=found + 2000 + seq * 200_000,
            reason="candidate_worse_than_stable",
            from_release="2026-11-b", to_release="2026-11-a", detail={"share": 0.0},
        )  # type: ignore[arg-type]  # fmt: skip
    for seq, state in enumerate(("DECIDED", "DELIVERED")):
        yield Action(
            action_id="a2", seq=seq, deployment="support", release="2026-11-b", decision_id="d1", kind="page",
            target="pagerduty", state=state, at_ms=found + 1500 + seq, reason="candidate_worse_than_stable",
        )  # type: ignore[arg-type]  # fmt: skip
    yield Signal(
        signal_id="s-clear", kind="cleared", stream=stream, at_ms=START_MS + 135 * MINUTE, n=1900, mean=0.06,
        baseline=0.06, effect=0.0, interval=Interval(-0.02, 0.02, 0.95), direction="lower", state="steady",
        role="candidate",
    )  # fmt: skip


@pytest.fixture(scope="session")
def demo() -> type[Page]:
    return Page


@pytest.fixture(scope="module")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = open_store(path=tmp_path_factory.mktemp("store"))
    store.migrate()
    records = [*_incident(), *_traffic(6000)]
    rows = rows_of([(index % 4, index, record) for index, record in enumerate(records)])
    for table, columns in rows.items():
        store.insert(table, columns, token=f"demo/{table}")
    yield store
    store.close()


@pytest.fixture(scope="module")
def demo_reader(demo_store: Store) -> Reader:
    return demo_store.reader()
