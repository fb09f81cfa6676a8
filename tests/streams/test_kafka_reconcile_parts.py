"""The audit's arithmetic, its readings, and the alerts that name them."""

import asyncio
import re
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kafka.envelope import Origin, RawMessage, place_of, seal
from streams.kafka.errors import BrokerError
from streams.kafka.land_lane import read_message
from streams.kafka.reconcile_loop import AuditLoop
from streams.kafka.reconcile_places import compare, expected_rows, sources_of
from streams.kafka.reconcile_report import EXAMPLES, GroupAudit, Report, TableAudit, readings
from streams.kafka.shadow import Plan, Span
from streams.landing_rows import LANDED
from tests.streams.landing_world import card, label

RULES = files("deploy").joinpath("prometheus", "reconcile.rules.yaml").read_text(encoding="utf-8")


def audit() -> TableAudit:
    return TableAudit(table="labels", topic="t", partition=0)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    wanted=st.sets(st.integers(0, 40)),
    removed=st.sets(st.integers(0, 40)),
    repeated=st.dictionaries(st.integers(0, 40), st.integers(1, 3)),
    invented=st.sets(st.integers(100, 120)),
)
def test_every_difference_is_counted_and_nothing_else(
    wanted: set[int], removed: set[int], repeated: dict[int, int], invented: set[int]
) -> None:
    kept = wanted - removed
    found = {place: (1 + repeated.get(place, 0), 0) for place in kept} | dict.fromkeys(invented, (1, 0))
    result = audit()
    compare(result, dict.fromkeys(wanted, (1, 0)), found, is_replaced=lambda _: False)
    assert result.compared == len(wanted)
    assert result.lost == len(wanted & removed)
    assert result.doubled == sum(count for place, count in repeated.items() if place in kept)
    assert result.stray == len(invented)
    assert result.is_clean() == (found == dict.fromkeys(wanted, (1, 0)))
    assert len(result.examples) <= 3 * EXAMPLES


def test_a_row_that_a_repetition_replaced_is_not_lost() -> None:
    result = audit()
    compare(result, {1: (1, 0), 2: (1, 0)}, {2: (1, 0)}, is_replaced=lambda place: place == 1)
    assert (result.lost, result.replaced, result.is_clean()) == (0, 1, True)


def test_as_many_scores_of_other_metrics_are_a_difference() -> None:
    result = audit()
    compare(result, {7: (3, 111)}, {7: (3, 222)}, is_replaced=lambda _: False)
    assert (result.lost, result.doubled) == (1, 1)


def test_what_a_backfill_swapped_is_compared_by_its_place_alone() -> None:
    cards = [card("old", 3), card("again", 2), card("none", 0)]
    (sealed,) = seal(cards, Origin("s", "t", 0, 0))
    arrivals = [read_message(RawMessage("t", 0, 4, 0, None, sealed.value, sealed.headers))]
    swapped = {"again", "none"}
    rows = expected_rows("scorecards", 0, arrivals, is_swapped=lambda one: one.interaction_id in swapped)
    old = rows["scores"][place_of(4, 0)]

    def audited(table: str, found: dict[int, tuple[int, int]]) -> tuple[int, int, int]:
        result = audit()
        compare(result, rows[table], found, is_replaced=lambda _: False)
        return result.lost, result.doubled, result.stray

    again, none = place_of(4, 1), place_of(4, 2)
    assert audited("scores", {place_of(4, 0): old, again: (5, 77), none: (1, 3)}) == (0, 0, 0)
    assert audited("scores", {place_of(4, 0): old}) == (0, 0, 0)
    assert audited("scores", {place_of(4, 0): (3, old[1] + 1), again: (5, 77)}) == (1, 1, 0)
    assert audited("scores", {place_of(4, 0): old, place_of(4, 3): (1, 3)}) == (0, 0, 1)
    # The card itself is there once, swapped or not.
    assert audited("scorecards", {place_of(4, 0): (1, 0), again: (2, 0)}) == (1, 1, 0)


@pytest.mark.parametrize(
    ("partition", "offset", "at_ms", "inside"),
    [(0, 5, 10, True), (0, 9, 10, False), (0, 4, 10, False), (1, 5, 10, False), (0, 5, 9, False),
     (0, 5, 20, False)],
)  # fmt: skip
def test_a_plan_says_what_it_covers(partition: int, offset: int, at_ms: int, inside: bool) -> None:
    plan = Plan(run_id="r", topic="t", spans={"0": Span(5, 9)}, from_ms=10, to_ms=20)
    assert plan.has(partition, offset, at_ms) is inside


def test_what_is_expected_is_what_lands() -> None:
    (sealed,) = seal([card("a", 3), card("b", 0), label("x")], Origin("s", "t", 0, 0))
    arrivals = [read_message(RawMessage("t", 0, 4, 0, None, sealed.value, sealed.headers))]
    rows = expected_rows("scorecards", 0, arrivals)
    assert rows["scorecards"] == {place_of(4, 0): (1, 0), place_of(4, 1): (1, 0)}
    assert {place: count for place, (count, _) in rows["scores"].items()} == {place_of(4, 0): 3}
    assert expected_rows("labels", 0, arrivals)["labels"] == {place_of(4, 2): (1, 0)}


@pytest.mark.parametrize("topic", sorted(LANDED))
def test_every_topic_that_lands_has_its_tables(topic: str) -> None:
    assert sources_of(topic)


def report(**table: Any) -> Report:
    groups = [GroupAudit(group="g", topic="t", partition=0, committed=4, lag=2)]
    return Report(tables=[TableAudit(table="labels", topic="t", partition=0, **table)], groups=groups)


def test_exit_codes_are_clean_different_untold() -> None:
    assert report(compared=5).exit_code() == 0
    assert report(lost=1).exit_code() == 1
    untold = report()
    untold.untold = ["t/0: landing is at 3 of 9"]
    assert untold.exit_code() == 2
    untold.tables[0].doubled = 1
    assert untold.exit_code() == 1
    untold.groups[0].gap = 3
    text = list(untold.lines())
    assert text[-1].endswith("lost 0, doubled 1, stray 0, gaps 3")
    assert any("3 offsets were gone by retention" in line for line in text)


def test_alerts_name_readings_that_there_are() -> None:
    given_names = {
        f"plumbline_{gauge.name}{'_total' if gauge.is_counter else ''}"
        for gauge in readings(report(lost=1), failures=0)
    }
    named = set(re.findall(r"\bplumbline_\w+", RULES))
    assert named
    assert named <= given_names
    alerts = re.findall(r"^      - alert: (\w+)$", RULES, re.MULTILINE)
    assert len(alerts) == len(set(alerts)) == RULES.count("remedy: ") == RULES.count("severity: ")


def test_the_loop_goes_on_after_a_failure_and_keeps_the_last_report() -> None:
    told: list[str] = []
    answers = iter([report(lost=2), BrokerError("nobody there")])

    async def scenario() -> AuditLoop:
        def work() -> Report:
            answer = next(answers, None)
            if answer is None:
                loop.stop()
                raise BrokerError("nobody there")
            if isinstance(answer, Exception):
                raise answer
            return answer

        loop = AuditLoop(work, every_s=0.001, tell=told.append)
        await loop.run()
        return loop

    loop = asyncio.run(scenario())
    values = {gauge.name: dict(gauge.values) for gauge in loop.read()}
    assert values["reconcile_failures"] == {(): 2.0}
    assert values["reconcile_lost_rows"] == {("labels", "t", "0"): 2.0}
    assert told[0] == "labels from t/0: lost 2, doubled 0, stray 0"
    assert told[-1] == "nobody there"
