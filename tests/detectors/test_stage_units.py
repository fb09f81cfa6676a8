"""Closed units: a function of the set of records, never of their order."""

import random

from hypothesis import given
from hypothesis import strategies as st

from detectors.records import Arm, Score, Scorecard
from detectors.stages.bucket import units_of
from detectors.stages.closed_units import ClosedUnits
from detectors.stages.units import Entry, Measure, SegmentTable, bucket_of, entry_of


def in_order(one):
    return one.unit, one.release, one.metric, one.version


def unit_values(rows, table):
    """The unit values of every segment, read from its columns."""
    units = ClosedUnits(units_of(rows), table)
    by_metric = units.values_of({row.unit for row in rows})
    ours = sorted((one for values in by_metric.values() for one in values), key=in_order)
    named = {(one.release, one.metric, one.version, one.interaction_ids): one for one in ours}
    found = {}
    for segment in units.segments():
        held = [
            (named[one.release, one.metric, one.version, ids], value)
            for one in units.slices(segment)
            for value, ids in zip(one.column.values.tolist(), one.column.ids, strict=True)
        ]
        assert all(unit.value == value for unit, value in held)
        found[segment] = sorted((unit for unit, _ in held), key=in_order)
    assert not ours or found["all"] == ours
    return found


entries = st.lists(
    st.builds(
        lambda n, unit, release, plan, value: (unit, release, plan, value),
        st.integers(), st.sampled_from("uvw"), st.sampled_from("12"), st.sampled_from("abcdef"),
        st.floats(0, 1, allow_nan=False),
    ),
    max_size=30,
).map(
    lambda rows: [
        Entry(f"{n:03}", release, unit, "arm", 0.5, {"plan": plan}, (Measure("m", value, "higher", "1"),), -n)
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
    found = unit_values(rows, table)
    ids = sorted(row.interaction_id for row in rows)
    assert sorted(i for unit in found.get("all", []) for i in unit.interaction_ids) == ids
    slices = [unit for label, units in found.items() if label != "all" for unit in units]
    assert sorted(i for unit in slices for i in unit.interaction_ids) == ids
    for units in found.values():
        keys = [(unit.unit, unit.release) for unit in units]
        assert keys == sorted(set(keys))
        assert all(0.0 <= unit.value <= 1.0 for unit in units)
    assert len(table.kept.get("plan", [])) <= top
    assert len(found) <= 1 + top + 1


def test_the_mean_of_a_unit_is_exact():
    rows = [Entry(f"i{n}", "1", "u", "", None, {}, (Measure("m", 0.1, "higher", "1"),)) for n in range(10)]
    (unit,) = unit_values(rows, SegmentTable({}, {}))["all"]
    assert unit.value == 0.1


def row(name, *, unit="u", release="1", plan="a", at_ms=0, version="1", arm="x", share=None, value=0.5):
    return Entry(
        name, release, unit, arm, share, {"plan": plan}, (Measure("m", value, "higher", version),), at_ms
    )


def by_segment(rows):
    table = SegmentTable({"plan": 5}, {})
    table.admit(rows)
    return unit_values(rows, table)


def test_versions_and_releases_are_not_mixed_and_arms_are_no_other_unit():
    rows = [row("a"), row("b", version="2"), row("c", arm="y"), row("d", release="2")]
    found = by_segment(rows)["all"]
    assert [(one.release, one.version, one.interaction_ids) for one in found] == [
        ("1", "1", ("a", "c")), ("1", "2", ("b",)), ("2", "1", ("d",)),
    ]  # fmt: skip


def test_a_unit_counts_in_the_slice_of_its_first_interaction_alone():
    """One user who switches plans within a bucket must not spend the budget of false alarms twice."""
    rows = [row("z", plan="free", at_ms=1), row("a", plan="pro", at_ms=2), row("b", plan="free", at_ms=2)]
    found = by_segment(rows)
    assert set(found) == {"all", "plan=free"}
    assert found["plan=free"] == found["all"]
    tied = by_segment([row("b", plan="free", at_ms=1), row("a", plan="pro", at_ms=1)])
    assert set(tied) == {"all", "plan=pro"}


def test_the_share_of_a_unit_is_the_first_that_was_stamped():
    (unit,) = by_segment([row("a", at_ms=1), row("b", at_ms=2, share=0.25)])["all"]
    assert unit.share == 0.25


def test_the_table_keeps_first_come_and_counts_the_rest():
    rows = {plan: row(plan, plan=plan) for plan in "abc"}
    table = SegmentTable({"plan": 2}, {})
    assert table.admit([rows["b"], rows["a"], rows["c"]])
    assert table.kept == {"plan": ["a", "b"]}
    assert table.overflow == 1
    assert not table.admit([rows["c"], rows["a"]])
    assert table.labels(rows["c"]) == ["all", "plan=other"]
    assert table.labels(rows["a"]) == ["all", "plan=a"]


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
        deployment="d", interaction_id="i", release="1", event_time_ms=7, received_at_ms=0, unit="u",
        scores=(Score(name="a", value=0.0), Score(name="b", status="abstained")), arm=Arm("x", 0.25),
        segments={"s": "v"},
    )  # fmt: skip
    entry = entry_of(card)
    assert [measure.metric for measure in entry.measures] == ["a"]
    assert (entry.arm, entry.share, entry.segments, entry.event_time_ms) == ("x", 0.25, {"s": "v"}, 7)


def test_only_the_chosen_units_of_metrics_with_a_direction_are_valued_in_the_order_of_their_keys():
    def entry(unit, release, value):
        measures = (Measure("m", value, "higher", "1"), Measure("length", value, "neutral", "1"))
        return Entry(f"{unit}-{release}", release, unit, "arm", 0.5, {}, measures, 0)

    rows = [entry("w", "1", 0.1), entry("u", "2", 0.2), entry("v", "1", 0.3), entry("u", "1", 0.4)]
    units = ClosedUnits(units_of(rows), SegmentTable({}, {}))
    (kind, values) = next(iter(units.values_of({"u", "w", "x"}).items()))
    assert list(units.values_of({"u", "w", "x"})) == [kind] == [("m", "1")]
    assert [(one.unit, one.release, one.value) for one in values] == [
        ("u", "1", 0.4), ("u", "2", 0.2), ("w", "1", 0.1),
    ]  # fmt: skip
    assert not units.values_of({"x"})
