"""Which deployment is worst off, and what stays open, on a real store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboards.page import render_overview
from dashboards.page.standing import Standing, marks, standings, worst_off
from dashboards.queries import QUERIES
from detectors.records import Action, Decision, Release, Score, Scorecard, Signal, StreamKey
from detectors.records.codec import Record
from streams.landing_rows import rows_of
from streams.store import Reader, open_store

NOW_MS = 3_786_912_000_000
DAY_MS = 86_400_000


def card(deployment: str, number: int = 0) -> Scorecard:
    at_ms = NOW_MS - 60_000 + number
    return Scorecard(
        deployment=deployment, interaction_id=f"{deployment}-{number}", release="1", event_time_ms=at_ms,
        received_at_ms=at_ms, unit="u", scores=(Score(name="helpful", value=0.9, direction="higher"),),
    )  # fmt: skip


def status(deployment: str, state: Any, *, kind: Any = "status", at_ms: int = NOW_MS, **more: Any) -> Signal:
    key = StreamKey(deployment, more.pop("release", "1"), "all", "helpful", more.pop("test", "reference"))
    return Signal(
        signal_id=f"{key}-{kind}-{at_ms}", kind=kind, stream=key, at_ms=at_ms, n=40, mean=0.9, baseline=0.97,
        state=state, direction="higher", **more,
    )  # fmt: skip


def decision(deployment: str, *, at_ms: int, verbs: Any = ("page",), release: str = "1") -> Decision:
    return Decision(
        decision_id=f"{deployment}-d", deployment=deployment, release=release, cause="release", verbs=verbs,
        reason="release_worse_than_reference", rule="r", at_ms=at_ms, summary="", metric="helpful",
        segment="all", n=60, effect=-0.07, low=-0.1, high=-0.04, baseline=0.97,
    )  # fmt: skip


def rolled_back(deployment: str, at_ms: int, *, dry_run: bool = False) -> Action:
    return Action(
        action_id=f"{deployment}-a", seq=3, deployment=deployment, release="1", decision_id=f"{deployment}-d",
        kind="rollback", target="t", state="ROLLED_BACK", at_ms=at_ms, reason="", from_release="1",
        to_release="0", dry_run=dry_run,
    )  # fmt: skip


OLD_MS = NOW_MS - 30 * DAY_MS
WORLD: dict[str, tuple[Record, ...]] = {
    "a-well": (status("a-well", "steady"),),
    "b-drift": (status("b-drift", "drift", worse=True),),
    "c-open": (decision("c-open", at_ms=OLD_MS),),
    "d-cleared": (decision("d-cleared", at_ms=OLD_MS), status("d-cleared", "steady", kind="cleared")),
    "e-other-test": (
        decision("e-other-test", at_ms=OLD_MS, verbs=("page", "rollback")),
        status("e-other-test", "steady", kind="cleared", test="reference"),
    ),
    "f-rolled-back": (
        decision("f-rolled-back", at_ms=OLD_MS), rolled_back("f-rolled-back", OLD_MS + 5),
        status("f-rolled-back", "drift", worse=True),
    ),
    "g-dry": (decision("g-dry", at_ms=OLD_MS), rolled_back("g-dry", OLD_MS + 5, dry_run=True)),
    "h-retired": (
        decision("h-retired", at_ms=OLD_MS),
        Release(deployment="h-retired", release="1", role="retired", started_at_ms=OLD_MS + 1),
        status("h-retired", "drift", worse=True),
    ),
    "i-blind": (status("i-blind", "blind", role="candidate", test="arm", reason="share_mismatch"),),
    "j-again": (
        Release(deployment="j-again", release="1", role="candidate", started_at_ms=NOW_MS - DAY_MS),
        rolled_back("j-again", OLD_MS), status("j-again", "drift", worse=True, role="candidate"),
    ),
    "k-past": (
        status("k-past", "drift", worse=True, at_ms=NOW_MS - 120_000), status("k-past", "steady"),
        status("k-past", "drift", worse=True, at_ms=NOW_MS - 2 * DAY_MS, release="gone"),
    ),
}  # fmt: skip
MARKS = {
    "a-well": "good", "b-drift": "watch", "c-open": "bad", "d-cleared": "good", "e-other-test": "bad",
    "f-rolled-back": "good", "g-dry": "bad", "h-retired": "good", "i-blind": "watch", "j-again": "watch",
    "k-past": "good",
}  # fmt: skip


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    store = open_store(path=Path(tmp_path_factory.mktemp("standing")))
    store.migrate()
    records = [record for name, own in WORLD.items() for record in (card(name), *own)]
    for table, columns in rows_of([(0, index, record) for index, record in enumerate(records)]).items():
        store.insert(table, columns, token=f"standing/{table}")
    yield store.reader()
    store.close()


def test_every_deployment_has_its_mark(reader: Reader) -> None:
    known = reader.query(QUERIES["deployments"], {"from_ms": 0, "to_ms": NOW_MS + 1})
    assert marks(known, standings(reader.query, known), NOW_MS) == MARKS
    assert set(marks(known, standings(reader.query, known), NOW_MS + DAY_MS).values()) == {"watch", "bad"}


def test_the_page_opens_the_one_that_is_worst_off(reader: Reader) -> None:
    html = render_overview(reader.query, now_ms=NOW_MS)
    assert "<title>c-open" in html or "<title>e-other-test" in html or "<title>g-dry" in html
    assert ">Wrong<" in html
    assert "is WORSE than the reference: helpful 97.0 % -&gt; 90.0 %" in html
    assert html.count('class="mark-bad"') == 3
    assert html.count('class="mark-watch"') == 3


@pytest.mark.parametrize(
    ("deployment", "told"),
    [
        ("b-drift", "1 drifts for the WORSE against the reference"),
        ("i-blind", "The candidate is not watched"),
        ("a-well", "Nothing is wrong"),
        ("c-open", 'class="badge failed">open<'),
    ],
)
def test_a_deployment_says_how_it_stands(reader: Reader, deployment: str, told: str) -> None:
    html = render_overview(reader.query, now_ms=NOW_MS, deployment=deployment)
    assert told in html
    assert (">All well<" in html) == (deployment == "a-well")


def test_among_equals_the_one_heard_of_last() -> None:
    known = [{"deployment": name, "last_received_ms": at} for name, at in (("a", 5), ("b", 9), ("c", 1))]
    assert worst_off(known, {"a": "good", "b": "good", "c": "good"})["deployment"] == "b"
    assert worst_off(known, {"a": "good", "b": "good", "c": "bad"})["deployment"] == "c"
    assert Standing().mark(None) == "good"
