"""Bets on squares: the promise where the spread is known or estimated, the delays, when they are laid."""

import math
from random import Random
from statistics import fmean, median, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.betting_sr import BettingSR
from detectors.evaluate.contenders import reference_of_mean

units = st.floats(0.0, 1.0)


def graded(random, mean):
    return random.betavariate(10 * mean, 10 * (1 - mean))


def statistic(detector):
    return sum(detector.to_state()["sums"])


def delay_and_onset(after, seed):
    random = Random(seed)
    detector = BettingSR(mean_low=0.9, mean_high=0.9, alpha=1.35e-4, spread=1 / 11)
    for _ in range(1000):
        detector.update(graded(random, 0.9))
        if detector.drift_detected:
            detector.reset()
    start = detector.n
    while not detector.drift_detected:
        detector.update(graded(random, after))
    return detector.n - start, detector.began_index - start


@given(
    band=st.tuples(units, units, units).map(sorted),
    spread=units,
    share=units,
    shift=st.floats(-1.0, 1.0),
    past=st.lists(units, max_size=20),
    side=st.sampled_from(["both", "down", "up"]),
)
@settings(max_examples=200, deadline=None)
def test_the_inequality_holds_for_every_spread_that_was_promised(**drawn):
    # Factors on squares are convex in x: of all distributions with a mean and a mean square, one on two
    # points, of which one is an end of the scale, is the worst case. Both ends are tried.
    low, mean, high = drawn["band"]
    spread, shift, side = drawn["spread"], drawn["shift"], drawn["side"]
    detector = BettingSR(mean_low=low, mean_high=high, direction=side, spread=spread)
    for x in drawn["past"]:
        detector.update(x, shift=shift)
    moved, now = min(1.0, max(0.0, mean + shift)), statistic(detector)
    variance = drawn["share"] * spread * moved * (1.0 - moved)
    for end in (0.0, 1.0):
        apart = (moved - end) ** 2
        if not apart:
            continue
        chance = variance / (variance + apart)
        other = (moved - chance * end) / (1.0 - chance) if chance < 1.0 else moved
        expected = 0.0
        for x, weight in ((end, chance), (min(1.0, max(0.0, other)), 1.0 - chance)):
            branch = BettingSR.from_state(detector.to_state())
            branch.update(x, shift=shift)
            assert min(branch.to_state()["sums"], default=0.0) >= 0.0
            expected += weight * statistic(branch)
        assert expected <= (now + 1.0) * (1.0 + 1e-8)


def test_coins_and_wide_grades_bet_on_the_mean_alone():
    random = Random(8)
    plain, coins, wide = (BettingSR(mean_low=0.8, mean_high=0.9, spread=s) for s in (None, 1.0, 0.2))
    for _ in range(300):
        x = random.random()
        for detector in (plain, coins, wide):
            detector.update(x)
    assert coins.to_state() == {**plain.to_state(), "spread": 1.0}
    assert wide.to_state() == {**plain.to_state(), "spread": 0.2}


@pytest.mark.parametrize(("n", "mean"), [(20, 0.9), (200, 0.9), (1000, 0.5), (1000, 0.97)])
def test_false_alarms_keep_the_promise_where_the_spread_is_estimated(n, mean):
    alarms, streams, length, alpha = 0, 60, 1500, 1e-3
    for seed in range(streams):
        random = Random(1000 * n + seed)
        units = [round(10 * graded(random, mean)) / 10 for _ in range(n)]  # with ties, as marks have
        centre = fmean(units)
        pinned = reference_of_mean(centre, n, fmean((x - centre) ** 2 for x in units))
        detector = BettingSR.from_reference(pinned, tolerance=0.0, alpha=alpha)
        for _ in range(length):
            detector.update(round(10 * graded(random, mean)) / 10)
            if detector.drift_detected:
                alarms += 1
                detector.reset()
    expected = alpha * streams * length
    assert alarms <= expected + 2 * math.sqrt(expected)


@pytest.mark.parametrize(("n", "value"), [(1, 0.7), (200, 0.95), (100_000, 0.95), (5000, 0.05)])
def test_a_reference_whose_units_are_all_alike_is_quiet_on_itself(n, value):
    detector, alarms = (
        BettingSR.from_reference(reference_of_mean(value, n, 0.0), tolerance=0.0, alpha=1e-3),
        0,
    )
    for _ in range(5000):
        detector.update(value)
        if detector.drift_detected:
            alarms += 1
            detector.reset()
    assert alarms <= 5


@pytest.mark.parametrize(("after", "oracle"), [(0.85, 38.0), (0.80, 14.8), (0.70, 5.9)])
def test_with_the_spread_the_delay_is_close_to_the_likelihood_ratios(after, oracle):
    found = [delay_and_onset(after, seed) for seed in range(100)]
    delays = [delay for delay, _ in found]
    assert fmean(delays) <= 1.25 * oracle + 2 * stdev(delays) / 10
    assert abs(median([onset for _, onset in found])) <= 10
