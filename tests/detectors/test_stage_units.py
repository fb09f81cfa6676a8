"""Closed units: a function of the set of records, never of their order."""

import random

from hypothesis import given
from hypothesis import strategies as st

from detectors.records import Arm, Score, Scorecard
from detectors.stages.units import (
    Entry,
    Measure,
    SegmentTable,
    bucket_of,
    entry_of,
    served_counts,
    unit_values,
)

entries = st.lists(
    st.builds(
        lambda n, unit, release, plan, value: (unit, release, plan, value),
        st.integers(), st.sampled_from("uvw"), st.sampled_from("12"), st.sampled_from("abcdef"),
        st.floats(0, 1, allow_nan=False),
    ),
    max_size=30,
).map(
    lambda rows: [
        Entry(f"{n:03}", release, unit, "arm", 0.5, {"plan": plan}, (Measure("m", value, "higher", "1"),))
        for n, (unit, release, plan, value) in enumerate(rows)
    ]
)  # fmt: skip


@given(entries, st.integers(0, 2**31), st.integers(0, 7))
def test_order_does_not_matter(rows, seed, top):
    shuffled = random.Random(seed).sample(rows, len(rows))
    found = []
    for order in (rows, shuffled):
        table = SegmentTable({"plan": top}, {})
        table.admit(order)
        found.append((unit_values(order, table), table.kept, table.overflow))
    assert found[0] == found[1]


@given(entries, st.integers(0, 7))
def test_everything_counts_once_in_all_and_once_in_its_slice(rows, top):
    table = SegmentTable({"plan": top}, {})
    table.admit(rows)
    by_segment = unit_values(rows, table)
    ids = sorted(row.interaction_id for row in rows)
    assert sorted(i for unit in by_segment.get("all", []) for i in unit.interaction_ids) == ids
    slices = [unit for label, units in by_segment.items() if label != "all" for unit in units]
    assert sorted(i for unit in slices for i in unit.interaction_ids) == ids
    for units in by_segment.values():
        keys = [(unit.unit, unit.release) for unit in units]
        assert keys == sorted(set(keys))
        assert all(0.0 <= unit.value <= 1.0 for unit in units)
    assert len(table.kept.get("plan", [])) <= top
    assert len(by_segment) <= 1 + top + 1


def test_the_mean_of_a_unit_is_exact():
    rows = [Entry(f"i{n}", "1", "u", "", None, {}, (Measure("m", 0.1, "higher", "1"),)) for n in range(10)]
    (unit,) = unit_values(rows, SegmentTable({}, {}))["all"]
    assert unit.value == 0.1


def test_versions_and_arms_are_not_mixed():
    def row(name, version, arm):
        return Entry(name, "1", "u", arm, None, {}, (Measure("m", 0.5, "higher", version),))

    rows = [row("a", "1", "x"), row("b", "2", "x"), row("c", "1", "y")]
    assert len(unit_values(rows, SegmentTable({}, {}))["all"]) == 3


def test_the_table_keeps_first_come_and_counts_the_rest():
    def row(plan):
        return Entry(plan, "1", "u", "", None, {"plan": plan}, ())

    table = SegmentTable({"plan": 2}, {})
    assert table.admit([row("b"), row("a"), row("c")])
    assert table.kept == {"plan": ["a", "b"]}
    assert table.overflow == 1
    assert not table.admit([row("c"), row("a")])
    assert table.labels(row("c")) == ["all", "plan=other"]
    assert table.labels(row("a")) == ["all", "plan=a"]


def test_a_slice_that_nobody_configured_is_other():
    table = SegmentTable({}, {})
    table.admit([Entry("i", "1", "u", "", None, {"old": "x"}, ())])
    assert table.labels(Entry("i", "1", "u", "", None, {"old": "x"}, ())) == ["all", "old=other"]


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**9))
def test_a_bucket_holds_its_times(at_ms, unit_ms):
    start = bucket_of(at_ms, unit_ms)
    assert start <= at_ms < start + unit_ms
    assert start % unit_ms == 0


def test_an_entry_keeps_scored_values_only():
    card = Scorecard(
        deployment="d", interaction_id="i", release="1", event_time_ms=0, received_at_ms=0, unit="u",
        scores=(Score(name="a", value=0.0), Score(name="b", status="abstained")), arm=Arm("x", 0.25),
        segments={"s": "v"},
    )  # fmt: skip
    entry = entry_of(card)
    assert [measure.metric for measure in entry.measures] == ["a"]
    assert (entry.arm, entry.share, entry.segments) == ("x", 0.25, {"s": "v"})
    assert served_counts([entry, entry]) == {"1": 2}
