"""Intervals cover: at every moment for the sequence, for one n for the fixed one."""

import math
from random import Random
from statistics import fmean, pvariance

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.confidence_sequence import BettingSequence, mean_interval
from detectors.drift.unit_value import read_unit_value

units = st.floats(0.0, 1.0)
pairs = st.lists(st.tuples(st.floats(-1.0, 1.0), units), min_size=1, max_size=60)


def coin(random, mean):
    return float(random.random() < mean)


def graded(random, mean):
    return random.betavariate(8.0 * mean, 8.0 * (1.0 - mean))


def exact_log_capital(pairs, delta, side):
    """Return the log of the average capital, unit by unit: what the sums of powers stand for."""
    weights = {0.9 / 2**k: 1.0 / (k + 1) for k in range(8)}
    allowed = [bet for bet in weights if bet * (1.0 + max(0.0, side * delta)) <= 0.95]
    capitals = [
        weights[bet] * math.prod(1.0 + side * bet * (z - delta * b) for z, b in pairs) for bet in allowed
    ]
    return math.log(sum(capitals) / sum(weights.values()))


@given(pairs=pairs, delta=st.floats(-1.0, 1.0), side=st.sampled_from([1.0, -1.0]))
@settings(max_examples=300, deadline=None)
def test_sums_never_show_more_capital_than_there_is(pairs, delta, side):
    sequence = BettingSequence()
    for z, b in pairs:
        sequence.update(z, b)
    assert sequence._log_capital(delta, side) <= exact_log_capital(pairs, delta, side) + 1e-7


@pytest.mark.parametrize("mean", [0.05, 0.5, 0.9])
def test_sums_lose_little_against_the_capital_itself(mean):
    random, sequence = Random(5), BettingSequence()
    pairs = [(coin(random, mean) - 0.5, 1.0) for _ in range(300)]
    for z, b in pairs:
        sequence.update(z, b)
    found, limit, grid = sequence.interval(), math.log(2 / 0.05), [k / 500 - 1 for k in range(1, 1000)]
    low = max(d for d in grid if d <= sequence.estimate and exact_log_capital(pairs, d, 1.0) >= limit)
    high = min(d for d in grid if d >= sequence.estimate and exact_log_capital(pairs, d, -1.0) >= limit)
    assert found.low <= low + 0.002
    assert high - 0.002 <= found.high
    assert found.high - found.low <= 1.1 * (high - low) + 0.004


@pytest.mark.parametrize(
    ("draw", "mean", "width"), [(coin, 0.9, 0.07), (coin, 0.03, 0.05), (graded, 0.6, 0.055)]
)
def test_sequence_covers_at_all_times(draw, mean, width):
    missed, widths = 0, []
    for seed in range(100):
        random, sequence, ever = Random(seed), BettingSequence(level=0.8), False
        for _ in range(1000):
            sequence.update(draw(random, mean) - 0.5, 1.0)
            # The mean is outside exactly when it is dropped: cheaper than both ends, a thousand times.
            ever |= max(sequence._log_capital(mean - 0.5, side) for side in (1.0, -1.0)) >= math.log(10.0)
        missed += ever
        found = sequence.interval()
        widths.append(found.high - found.low)
    assert missed <= 20
    assert fmean(widths) < width


def test_where_the_mean_moves_both_ends_stay_between_its_extremes():
    random, sequence = Random(3), BettingSequence()
    for i in range(4000):
        sequence.update(coin(random, 0.9 if i < 2000 else 0.6), 1.0)
        if i % 50 == 0:
            found = sequence.interval()
            assert found.low <= 0.9
            assert found.high >= (0.9 if i < 2000 else 0.6)
    assert found.low > 0.6
    assert found.high < 0.9


def test_sequence_before_and_after_the_first_unit():
    sequence = BettingSequence(level=0.9)
    assert (sequence.estimate, sequence.n) == (None, 0)
    assert msgspec.to_builtins(sequence.interval()) == [-1.0, 1.0, 0.9]
    sequence.update(0.25, 0.0)
    assert (sequence.estimate, sequence.n) == (None, 1)
    sequence.update(0.25, 1.0)
    assert (sequence.estimate, sequence.n) == (0.5, 2)


@pytest.mark.parametrize("constant", [-1.0, 0.0, 0.3, 1.0])
def test_sequence_of_a_constant_closes_in(constant):
    sequence = BettingSequence()
    for _ in range(5000):
        sequence.update(constant, 1.0)
    found = sequence.interval()
    assert found.low <= constant <= found.high
    assert found.high - found.low < 0.01


@given(pairs=pairs, level=st.floats(0.01, 0.999))
@settings(max_examples=100, deadline=None)
def test_interval_holds_the_estimate(pairs, level):
    sequence = BettingSequence(level=level)
    for z, b in pairs:
        sequence.update(z, b)
    found = sequence.interval()
    assert -1.0 <= found.low <= found.high <= 1.0
    assert found.level == level
    if sequence.estimate is not None:
        assert found.low <= sequence.estimate <= found.high


@given(pairs=pairs, cut=st.integers(0, 60))
@settings(max_examples=100, deadline=None)
def test_sequence_resumes_exactly(pairs, cut):
    whole = BettingSequence()
    for z, b in pairs[:cut]:
        whole.update(z, b)
    resumed = BettingSequence.from_state(msgspec.msgpack.decode(msgspec.msgpack.encode(whole.to_state())))
    for z, b in pairs[cut:]:
        whole.update(z, b)
        resumed.update(z, b)
    assert whole.to_state() == resumed.to_state()
    assert whole.interval() == resumed.interval()
    assert len(msgspec.msgpack.encode(whole.to_state())) < 300


@pytest.mark.parametrize("bad", [(math.nan, 1.0), (1.1, 1.0), (-1.1, 1.0), (0.0, -0.1), (0.0, math.nan)])
def test_sequence_refuses_and_stays_as_it_was(bad):
    sequence = BettingSequence()
    sequence.update(0.5, 1.0)
    before = sequence.to_state()
    with pytest.raises(ValueError, match="need z"):
        sequence.update(*bad)
    assert sequence.to_state() == before


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, 1.1, True, "0.5", None, 1 + 0j, 10**400])
def test_what_is_no_unit_value_is_refused(bad):
    with pytest.raises(ValueError, match="finite number"):
        read_unit_value(bad)


def test_sequence_refuses_foreign_states_and_levels():
    state = BettingSequence().to_state()
    for foreign in ({}, {"version": 1}, {**state, "sums": [0.0]}):
        with pytest.raises(ValueError, match="not a state"):
            BettingSequence.from_state(foreign)
    with pytest.raises(ValueError, match="version"):
        BettingSequence.from_state({**state, "version": 9})
    with pytest.raises(ValueError, match="level"):
        BettingSequence(level=1.0)


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
