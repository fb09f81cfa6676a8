"""Who carries a change: splits add up, mix is called mix, and a fallen segment is named."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.attribution import (
    Tally,
    block_excesses,
    choose_exemplars,
    evidence_by_segment,
    shifted_dimensions,
    split_change,
)
from detectors.evaluate.part_releases import BY_RELEASE, calls_it_mix, found_by, names_the_fallen
from detectors.worlds.changes import generator

TALLIES = st.dictionaries(
    st.sampled_from("abcd"),
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20).map(Tally.of),
    min_size=1,
)


def mean_of(tallies: dict[str, Tally]) -> float:
    return math.fsum(t.total for t in tallies.values()) / sum(t.n for t in tallies.values())


@given(before=TALLIES, after=TALLIES)
@settings(max_examples=100, deadline=None)
def test_the_parts_add_up_to_the_whole_change(before, after):
    found = split_change(before, after)
    assert found.total == pytest.approx(mean_of(after) - mean_of(before), abs=1e-9)
    assert found.within + found.mix == pytest.approx(found.total, abs=1e-9)
    assert math.fsum(p.within + p.mix for p in found.parts) == pytest.approx(found.total, abs=1e-9)
    assert {p.segment for p in found.parts} == set(before) | set(after)
    for part in found.parts:
        assert (part.change is None) == (part.segment not in before or part.segment not in after)


@given(tallies=TALLIES)
@settings(max_examples=30, deadline=None)
def test_no_change_is_unclear_and_names_nobody(tallies):
    found = split_change(tallies, tallies)
    assert found.kind == "unclear"
    assert found.fallen("higher") == found.fallen("lower") == found.fallen("neutral") == []


def test_worse_answers_everywhere_are_within_and_both_is_both():
    old = {"a": Tally(5000, 4500, 4500), "b": Tally(5000, 4000, 4000)}
    worse = {"a": Tally(500, 400, 400), "b": Tally(500, 350, 350)}
    assert split_change(old, worse).kind == "within"
    worse_and_mixed = {"a": Tally(200, 150, 150), "b": Tally(800, 520, 520)}
    found = split_change(old, worse_and_mixed)
    assert found.kind == "both"
    assert [part.segment for part in found.fallen("higher")] == ["b", "a"] or len(found.fallen("higher")) == 2
    assert found.fallen("lower") == []


def test_a_new_segment_is_mix_and_few_units_prove_nothing():
    old = {"a": Tally(5000, 4500, 4500)}
    found = split_change(old, {"a": Tally(400, 360, 360), "new": Tally(100, 20, 20)})
    assert found.kind == "mix"
    assert found.within == pytest.approx(0.0)
    assert split_change(old, {"a": Tally(3, 2, 2)}).kind == "unclear"
    with pytest.raises(ValueError, match="units"):
        split_change(old, {})


def test_evidence_adds_up_by_segment():
    random = generator(1)
    x = (random.random(300) < 0.6).astype(float).tolist()
    names = [("de", "en")[i % 2] for i in range(300)]
    found = evidence_by_segment(x, names, intercept=1.5, slope=-0.6)
    whole = math.fsum(math.log10(1.5 - 0.6 * value) for value in x)
    assert math.fsum(found.values()) == pytest.approx(whole, abs=1e-9)
    with pytest.raises(ValueError, match="one segment"):
        evidence_by_segment([1.0], [], intercept=1.5, slope=-0.6)
    with pytest.raises(ValueError, match="positive"):
        evidence_by_segment([1.0], ["a"], intercept=0.5, slope=-0.6)


def test_the_grown_block_and_the_moved_dimension_come_first():
    assert block_excesses([5, 60, 35], [40, 30, 31])[0].block in {0, 1}
    excesses = block_excesses([5, 60, 35], [40, 30, 31])
    assert math.fsum(one.excess for one in excesses) == pytest.approx(0.0, abs=1e-9)
    before, after = np.zeros(50), np.zeros(50)
    after[17] = -0.2
    top = shifted_dimensions(after, before, np.full(50, 0.01), n=200, n_ref=4000, top=3)
    assert top[0][:2] == (17, -0.2)
    for counts, sizes in (([1], [1, 2]), ([0, 0], [3, 4])):
        with pytest.raises(ValueError, match="need as many"):
            block_excesses(counts, sizes)
    with pytest.raises(ValueError, match="three vectors"):
        shifted_dimensions([0.0], [0.0, 1.0], [1.0, 1.0], n=1, n_ref=1)


def test_exemplars_are_the_extremes_and_the_newest_of_equals():
    ids = [f"i{k}" for k in range(6)]
    values = [0.0, 1.0, 0.0, 1.0, 0.5, 0.95]
    found = choose_exemplars(ids, values, baseline=0.9, direction="higher", count=2)
    assert [(e.kind, e.interaction_id) for e in found] == [
        ("bad", "i2"),
        ("bad", "i0"),
        ("good", "i3"),
        ("good", "i1"),
    ]
    turned = choose_exemplars(ids, values, baseline=0.5, direction="lower", count=1)
    assert [(e.kind, e.interaction_id) for e in turned] == [("bad", "i3"), ("good", "i2")]
    with pytest.raises(ValueError, match="one value"):
        choose_exemplars(ids, [1.0], baseline=0.5, direction="higher")


def test_ten_releases_each_a_point_worse_are_found_by_the_eighth():
    assert max(found_by(row, 20_000) for row in range(30)) <= BY_RELEASE


def test_a_segment_that_falls_while_the_whole_rises_is_named():
    assert sum(names_the_fallen(row, 20_000) for row in range(10)) >= 9


def test_a_pure_mix_shift_is_called_one():
    assert sum(calls_it_mix(row, 20_000) for row in range(40)) >= 37
