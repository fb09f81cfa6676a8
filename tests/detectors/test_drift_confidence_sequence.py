"""Intervals cover: at every moment for the sequence, for one n for the fixed one."""

import math
from random import Random
from statistics import fmean, pvariance

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.confidence_sequence import EmpiricalBernsteinSequence, mean_interval
from detectors.drift.unit_value import read_unit_value

units = st.floats(0.0, 1.0)


def coin(random):
    return float(random.random() < 0.9)


def graded(random):
    return random.betavariate(3.0, 2.0)


@pytest.mark.parametrize(("draw", "mean"), [(coin, 0.9), (graded, 0.6)])
def test_sequence_covers_at_all_times(draw, mean):
    missed, widths = 0, []
    for seed in range(100):
        random, sequence = Random(seed), EmpiricalBernsteinSequence(level=0.8)
        ever = False
        for _ in range(1000):
            sequence.update(draw(random))
            found = sequence.interval()
            ever |= not found.low <= mean <= found.high
        missed += ever
        widths.append(found.high - found.low)
    assert missed <= 20
    assert fmean(widths) < 0.08


def test_sequence_narrows_with_the_variance():
    steady, noisy = EmpiricalBernsteinSequence(), EmpiricalBernsteinSequence()
    for i in range(2000):
        steady.update(0.5 + 0.01 * (-1) ** i)
        noisy.update(float(i % 2))
    width_of = [found.high - found.low for found in (steady.interval(), noisy.interval())]
    assert width_of[0] < 0.2 * width_of[1]


def test_sequence_before_and_after_the_first_observation():
    sequence = EmpiricalBernsteinSequence(level=0.9)
    assert (sequence.mean, sequence.n) == (None, 0)
    assert sequence.interval() == type(sequence.interval())(0.0, 1.0, 0.9)
    sequence.update(0.25)
    assert (sequence.mean, sequence.n) == (0.25, 1)


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_sequence_of_a_constant_closes_in(constant):
    sequence = EmpiricalBernsteinSequence()
    for _ in range(5000):
        sequence.update(constant)
    found = sequence.interval()
    assert found.low <= constant <= found.high
    assert found.high - found.low < 0.01


@given(values=st.lists(units, max_size=40), cut=st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_sequence_resumes_exactly(values, cut):
    whole = EmpiricalBernsteinSequence()
    for x in values[:cut]:
        whole.update(x)
    resumed = EmpiricalBernsteinSequence.from_state(
        msgspec.json.decode(msgspec.json.encode(whole.to_state()))
    )
    for x in values[cut:]:
        whole.update(x)
        resumed.update(x)
    assert whole.to_state() == resumed.to_state()
    assert 0.0 <= whole.interval().low <= whole.interval().high <= 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, 1.1, True, "0.5", None, 1 + 0j, 10**400])
def test_sequence_refuses_and_stays_as_it_was(bad):
    sequence = EmpiricalBernsteinSequence()
    sequence.update(0.5)
    before = sequence.to_state()
    with pytest.raises(ValueError, match="finite number"):
        sequence.update(bad)
    assert sequence.to_state() == {**before, "refused": 1}
    with pytest.raises(ValueError, match="finite number"):
        read_unit_value(bad)


@pytest.mark.parametrize("state", [{}, {"version": 1}])
def test_sequence_refuses_foreign_states(state):
    with pytest.raises(ValueError, match="not a state"):
        EmpiricalBernsteinSequence.from_state(state)
    with pytest.raises(ValueError, match="version"):
        EmpiricalBernsteinSequence.from_state({**EmpiricalBernsteinSequence().to_state(), "version": 9})


@pytest.mark.parametrize("n", [5, 30, 400])
@pytest.mark.parametrize("mean", [0.5, 0.9, 0.99])
def test_mean_interval_covers(n, mean):
    random, missed = Random(n), 0
    for _ in range(300):
        values = [float(random.random() < mean) for _ in range(n)]
        found = mean_interval(n, fmean(values), pvariance(values), 0.9)
        missed += not found.low <= mean <= found.high
    assert missed <= 30


@given(n=st.integers(0, 10_000), mean=units, variance=st.floats(0.0, 0.25), level=st.floats(0.01, 0.999))
@settings(max_examples=200, deadline=None)
def test_mean_interval_is_an_interval_about_the_mean(n, mean, variance, level):
    found = mean_interval(n, mean, variance, level)
    assert 0.0 <= found.low <= mean <= found.high <= 1.0
    assert found.level == level


def test_mean_interval_is_never_wider_than_hoeffding_allows():
    for n in (10, 100, 1000):
        found = mean_interval(n, 0.5, 0.25, 0.95)
        assert found.high - found.low <= 2 * math.sqrt(math.log(4 / 0.05) / (2 * n)) + 1e-9
    small = mean_interval(5000, 0.5, 0.0, 0.95)
    assert small.high - small.low < 0.01


def test_mean_interval_of_a_constant():
    assert mean_interval(300, 0.0, 0.0).low == 0.0
    assert mean_interval(300, 0.0, 0.0).high == pytest.approx(1 - (0.05 / 4) ** (1 / 300), abs=1e-6)


@pytest.mark.parametrize(
    "wrong", [(-1, 0.5, 0.1, 0.9), (5, 1.5, 0.1, 0.9), (5, 0.5, -1, 0.9), (5, 0.5, 0.1, 1.0)]
)
def test_mean_interval_refuses_the_impossible(wrong):
    with pytest.raises(ValueError, match=r"need|finite"):
        mean_interval(*wrong)
