"""ArmBettingTest: the promise by its proof, seasons and stuck users, found effects, a broken router."""

import math
from itertools import product
from random import Random
from statistics import fmean

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.arm_betting_test import ArmBettingTest
from detectors.drift.share_betting_test import ShareBettingTest

units = st.floats(0.0, 1.0)
shares = st.floats(0.01, 0.99)
histories = st.lists(st.tuples(units, st.booleans(), shares), max_size=25)


def season(i, amplitude=0.04, period=2400):
    return amplitude * math.sin(2 * math.pi * i / period)


def feed(test, random, units, *, drop=0.0, share=0.1):
    """Feed coins of .9, less `drop` for the canary, under a season; return whether it fired."""
    for i in range(units):
        treated = random.random() < share
        mean = 0.9 + season(i) - (drop if treated else 0.0)
        test.update(float(random.random() < mean), treated=treated, share=share)
        if test.drift_detected:
            return True
    return False


@given(
    past=histories,
    worse=st.sampled_from(["lower", "higher"]),
    tolerance=st.floats(0.0, 0.5),
    share=shares,
    means=st.tuples(units, units),
)
@settings(max_examples=200, deadline=None)
def test_a_canary_that_is_not_worse_brings_no_evidence_on_average(past, worse, tolerance, share, means):
    # The factors are linear in x, so coins are the worst case; this inequality is Ville's premise.
    test = ArmBettingTest(worse=worse, tolerance=tolerance, alpha=0.01)
    for x, treated, then in past:
        test.update(x, treated=treated, share=then)
    control, better = means
    worst = max(0.0, control - tolerance) if worse == "lower" else min(1.0, control + tolerance)
    best = 1.0 if worse == "lower" else 0.0
    mean_of = {False: control, True: worst + better * (best - worst)}
    now, expected = fmean(test.to_state()["products"]), 0.0
    for treated, x in product((False, True), (0.0, 1.0)):
        branch = ArmBettingTest.from_state(test.to_state())
        branch.update(x, treated=treated, share=share)
        chance = (share if treated else 1.0 - share) * (mean_of[treated] if x else 1.0 - mean_of[treated])
        assert min(branch.to_state()["products"]) >= 0.0
        expected += chance * fmean(branch.to_state()["products"])
    assert expected <= now * (1.0 + 1e-9)


@given(past=st.lists(st.tuples(st.booleans(), shares), max_size=25), share=shares)
@settings(max_examples=100, deadline=None)
def test_a_true_share_brings_no_evidence_on_average(past, share):
    test = ShareBettingTest()
    for treated, then in past:
        test.update(treated=treated, share=then)
    now, expected = sum(test.to_state()["products"]), 0.0
    for treated in (False, True):
        branch = ShareBettingTest.from_state(test.to_state())
        branch.update(treated=treated, share=share)
        expected += (share if treated else 1.0 - share) * sum(branch.to_state()["products"])
    assert expected == pytest.approx(now)


@pytest.mark.parametrize(("drop", "expected"), [(0.05, 520), (0.10, 150), (0.20, 60)])
def test_effects_are_found(drop, expected):
    needed = []
    for seed in range(30):
        test = ArmBettingTest(worse="lower", alpha=0.01)
        assert feed(test, Random(seed), 60_000, drop=drop)
        needed.append(test.n_treated)
    assert fmean(needed) <= 1.25 * expected


def test_higher_is_worse_mirrors_lower_is_worse():
    low = ArmBettingTest(worse="lower", tolerance=0.02)
    high = ArmBettingTest(worse="higher", tolerance=0.02)
    random = Random(2)
    for _ in range(3000):
        treated = random.random() < 0.3
        x = random.random() < (0.6 if treated else 0.9)
        low.update(float(x), treated=treated, share=0.3)
        high.update(float(not x), treated=treated, share=0.3)
    assert low.drift_detected
    assert high.drift_detected
    assert low.evidence == pytest.approx(high.evidence)


def test_a_better_canary_never_fires():
    test = ArmBettingTest(worse="lower", alpha=0.01)
    assert not feed(test, Random(4), 20_000, drop=-0.05, share=0.3)
    assert test.evidence < 1.0


def test_within_tolerance_it_stays_quiet_and_beyond_it_fires():
    assert not feed(ArmBettingTest(worse="lower", alpha=0.01, tolerance=0.05), Random(6), 20_000, drop=0.04)
    assert feed(ArmBettingTest(worse="lower", alpha=0.01, tolerance=0.05), Random(6), 20_000, drop=0.15)


def test_season_ramp_and_a_common_collapse_do_not_fire():
    # Traffic to the canary grows while everything gets worse for everyone: a plain comparison would fire.
    fired = 0
    for seed in range(20):
        random, test = Random(seed), ArmBettingTest(worse="lower", alpha=0.01)
        for i in range(4000):
            share = 0.05 if i < 1500 else 0.5
            mean = (0.95 if i < 2000 else 0.6) + season(i)
            treated = random.random() < share
            test.update(float(random.random() < mean), treated=treated, share=share)
        fired += test.drift_detected
        assert test.mean_treated < test.mean_control - 0.05
    assert fired == 0


def test_very_different_users_each_once_do_not_fire():
    fired = 0
    for seed in range(30):
        random, test = Random(seed), ArmBettingTest(worse="lower", alpha=0.01)
        for _ in range(3000):
            quality, treated = random.betavariate(0.9, 0.1), random.random() < 0.2
            mean_of_visits = fmean(float(random.random() < quality) for _ in range(4))
            test.update(mean_of_visits, treated=treated, share=0.2)
        fired += test.drift_detected
    assert fired <= 1


def assign(test, random, units, *, share, routed):
    for _ in range(units):
        test.update(treated=random.random() < routed, share=share)


def test_a_broken_router_is_doubted_for_good():
    test, random = ShareBettingTest(alpha=1e-4), Random(8)
    assign(test, random, 3000, share=0.1, routed=0.2)
    assert test.mismatch
    assert test.evidence >= test.threshold == pytest.approx(4.0)
    assign(test, random, 3000, share=0.1, routed=0.1)
    assert test.mismatch
    assert ShareBettingTest.from_state(test.to_state()).mismatch


@pytest.mark.parametrize("routed", [0.0, 1.0])
def test_a_router_that_stops_tossing_is_noticed_soon(routed):
    test, random = ShareBettingTest(), Random(9)
    assign(test, random, 2000, share=0.3, routed=0.3)
    assert not test.mismatch
    assign(test, random, 1000, share=0.3, routed=routed)
    assert test.mismatch


def test_units_without_a_score_leave_the_promise_whole():
    """Nothing changed, and half of the units have no score, whatever their arm: no alarm."""
    fired = 0
    for seed in range(30):
        random, test = Random(seed), ArmBettingTest(worse="lower", alpha=0.01)
        for _ in range(4000):
            treated, hard = random.random() < 0.2, random.random() < 0.5
            if random.random() < (0.2 if hard else 0.8):  # hard questions abstain more often, in both arms
                test.update(float(random.random() < (0.6 if hard else 0.95)), treated=treated, share=0.2)
        fired += test.drift_detected
    assert fired <= 1


def test_states_follow_the_evidence():
    test, random, seen = ArmBettingTest(worse="lower", alpha=1e-4), Random(3), []
    while not test.drift_detected:
        feed(test, random, 1, drop=0.4, share=0.3)
        if not seen or seen[-1] != test.state:
            seen.append(test.state)
    assert seen[0] == "steady"
    assert "warning" in seen
    assert seen[-1] == "drift"
    assert test.threshold == pytest.approx(4.0)


def test_onset_is_near_where_the_canary_broke():
    errors = []
    for seed in range(20):
        test, random = ArmBettingTest(worse="lower"), Random(seed)
        feed(test, random, 2000, share=0.3)
        assert feed(test, random, 20_000, drop=0.3, share=0.3)
        errors.append(abs(test.began_index - 2000))
    assert sorted(errors)[10] <= 150


def test_effect_needs_both_arms():
    test = ArmBettingTest(worse="lower")
    test.update(0.9, treated=True, share=0.5)
    with pytest.raises(ValueError, match="both arms"):
        test.effect()
    assert (test.mean_treated, test.mean_control) == (0.9, None)
    test.update(0.4, treated=False, share=0.5)
    difference, interval = test.effect()
    assert -1.0 <= interval.low <= difference <= interval.high <= 1.0
    assert (interval.low, interval.high, interval.level) == (-1.0, 1.0, 0.95)


WORLDS = {  # canary mean, stable mean, share, amplitude of the season
    "rate falls": (0.88, 0.95, 0.2, 0.0),
    "rate rises from near 0": (0.10, 0.02, 0.1, 0.0),
    "nothing, in a season": (0.90, 0.90, 0.1, 0.08),
}


@pytest.mark.parametrize("world", WORLDS)
def test_effect_interval_holds_at_all_times(world):
    treated_mean, control_mean, share, amplitude = WORLDS[world]
    missed = 0
    for seed in range(40):
        test, random, ever = ArmBettingTest(worse="lower", level=0.8), Random(seed), False
        for i in range(2500):
            treated = random.random() < share
            mean = (treated_mean if treated else control_mean) + season(i, amplitude)
            test.update(float(random.random() < mean), treated=treated, share=share)
            if i % 50 == 49:
                _, interval = test.effect()
                ever |= not interval.low <= treated_mean - control_mean <= interval.high
        missed += ever
    assert missed <= 8


def test_effect_interval_is_narrow_enough_to_see_a_fall_of_seven_points():
    excluded, widths = 0, []
    for seed in range(40):
        test, random = ArmBettingTest(worse="lower"), Random(seed)
        for _ in range(2500):
            treated = random.random() < 0.2
            x = float(random.random() < (0.88 if treated else 0.95))
            test.update(x, treated=treated, share=0.2)
        difference, interval = test.effect()
        assert interval.low < difference < interval.high
        excluded += interval.high < 0.0
        widths.append(interval.high - interval.low)
    assert excluded >= 32
    assert fmean(widths) < 0.115


def test_the_interval_agrees_with_the_alarm():
    excluded = 0
    for seed in range(30):
        test = ArmBettingTest(worse="lower", alpha=0.001)
        assert feed(test, Random(seed), 60_000, drop=0.1, share=0.2)
        excluded += test.effect()[1].high < 0.0
    assert excluded >= 27


def test_effect_is_right_where_the_share_and_the_level_of_both_arms_move():
    differences = []
    for seed in range(20):
        random, test = Random(seed), ArmBettingTest(worse="lower")
        for i in range(6000):
            share, level = (0.05, 0.95) if i < 3000 else (0.5, 0.6)
            treated = random.random() < share
            test.update(float(random.random() < level - 0.1 * treated), treated=treated, share=share)
        difference, interval = test.effect()
        assert interval.low <= -0.1 <= interval.high
        differences.append(difference)
        assert test.mean_treated - test.mean_control < -0.2  # what the plain means would say
    assert fmean(differences) == pytest.approx(-0.1, abs=0.015)


def test_effect_is_in_the_units_of_the_score_whichever_way_is_worse():
    low, high, random = ArmBettingTest(worse="lower"), ArmBettingTest(worse="higher"), Random(12)
    for _ in range(1000):
        treated = random.random() < 0.3
        x = float(random.random() < (0.3 if treated else 0.1))
        low.update(x, treated=treated, share=0.3)
        high.update(x, treated=treated, share=0.3)
    for test in (low, high):
        difference, interval = test.effect()
        assert difference == pytest.approx(0.2, abs=0.06)
        assert interval.low > 0.0


@given(past=histories, cut=st.integers(0, 25), worse=st.sampled_from(["lower", "higher"]))
@settings(max_examples=100, deadline=None)
def test_resume_is_exact(past, cut, worse):
    whole = ArmBettingTest(worse=worse, alpha=0.05)
    for x, treated, share in past[:cut]:
        whole.update(x, treated=treated, share=share)
    resumed = ArmBettingTest.from_state(msgspec.json.decode(msgspec.json.encode(whole.to_state())))
    for x, treated, share in past[cut:]:
        whole.update(x, treated=treated, share=share)
        resumed.update(x, treated=treated, share=share)
    assert whole.to_state() == resumed.to_state()
    assert (whole.state, whole.evidence) == (resumed.state, resumed.evidence)
    if whole.n_treated and whole.n_control:
        assert whole.effect() == resumed.effect()


@pytest.mark.parametrize(
    "wrong",
    [
        {"worse": "sideways"},
        {"worse": "lower", "alpha": 1.0},
        {"worse": "lower", "tolerance": -0.1},
        {"worse": "lower", "tolerance": 1.0},
        {"worse": "lower", "level": 1.5},
    ],
)
def test_impossible_configuration_is_refused(wrong):
    with pytest.raises(ValueError, match=r"worse|alpha|tolerance|level"):
        ArmBettingTest(**wrong)
