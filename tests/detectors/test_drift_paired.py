"""PairedSR: the promise by its proof, what pairing is worth, exact resume."""

import math
from random import Random
from statistics import fmean

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.betting_sr import BettingSR
from detectors.drift.paired_sr import PairedSR

units = st.floats(0.0, 1.0)


def pair(random, drop):
    """Return two answers to a prompt of any hardness; the new release fails some that the old one could."""
    quality = random.betavariate(0.5, 0.1)
    old = random.random() < quality
    new = old and random.random() >= drop if random.random() < 0.8 else random.random() < quality - drop
    return float(old), float(new)


def delay(detector, random, drop):
    while not detector.drift_detected:
        old, new = pair(random, drop)
        detector.update(old=old, new=new)
    return detector.n


@given(past=st.lists(st.tuples(units, units), max_size=20), tolerance=st.floats(0.0, 0.5), old=units)
@settings(max_examples=100, deadline=None)
def test_a_release_that_is_not_worse_brings_no_evidence_on_average(past, tolerance, old):
    # Linear in the difference, so the worst case is two points with the mean that is just allowed.
    detector = PairedSR(tolerance=tolerance)
    for before, after in past:
        detector.update(old=before, new=after)
    worst = max(0.0, old - tolerance)
    expected = 0.0
    for new, chance in ((0.0, 1.0 - worst), (1.0, worst)):
        branch = PairedSR.from_state(detector.to_state())
        branch.update(old=old, new=new)
        expected += chance * sum(branch.to_state()["watch"]["sums"])
    assert expected <= (sum(detector.to_state()["watch"]["sums"]) + 1.0) * (1.0 + 1e-9)


def test_in_control_false_alarms_keep_the_promise():
    alarms, pairs = 0, 30_000
    random, detector = Random(2), PairedSR(worse="both", alpha=1e-3)
    for _ in range(pairs):
        old, new = pair(random, 0.0)
        detector.update(old=old, new=new)
        if detector.drift_detected:
            alarms += 1
            detector.reset()
    assert alarms <= 30 + 2 * math.sqrt(30)


def test_pairs_need_far_fewer_prompts_than_a_reference():
    paired = fmean(delay(PairedSR(), Random(seed), 0.1) for seed in range(20))
    alone = []
    for seed in range(20):
        random = Random(seed)
        detector = BettingSR(mean_low=0.5 / 0.6, mean_high=0.5 / 0.6, direction="down")
        while not detector.drift_detected:
            detector.update(pair(random, 0.1)[1])
        alone.append(detector.n)
    assert paired < 0.6 * fmean(alone)


def test_sides_and_tolerance():
    better, worse, both = PairedSR(worse="higher"), PairedSR(worse="lower"), PairedSR(worse="both")
    tolerant = PairedSR(tolerance=0.3)
    for i in range(500):
        for detector in (better, worse, both, tolerant):
            detector.update(old=1.0, new=float(i % 4 > 0))
    assert (better.drift_detected, worse.drift_detected, both.drift_detected) == (False, True, True)
    assert not tolerant.warning_detected
    assert worse.mean_difference == pytest.approx(-0.25)
    assert worse.alarm_record["began_index"] == 0
    assert worse.companion.value > 1e3
    worse.reset()
    assert (worse.n, worse.mean_difference, worse.alarm_record) == (0, None, None)
    assert worse.companion.value > 1e3


def test_equal_answers_are_no_evidence():
    detector = PairedSR(alpha=0.5)
    for i in range(1000):
        detector.update(old=float(i % 2), new=float(i % 2))
    fresh = PairedSR(alpha=1e-4)
    for _ in range(9000):
        fresh.update(old=1.0, new=1.0)
    assert not fresh.drift_detected


@given(pairs=st.lists(st.tuples(units, units), max_size=40), cut=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_resume_is_exact(pairs, cut):
    whole = PairedSR(worse="both", alpha=0.05)
    for old, new in pairs[:cut]:
        whole.update(old=old, new=new)
    resumed = PairedSR.from_state(msgspec.json.decode(msgspec.json.encode(whole.to_state())))
    for old, new in pairs[cut:]:
        whole.update(old=old, new=new)
        resumed.update(old=old, new=new)
    assert whole.to_state() == resumed.to_state()


@pytest.mark.parametrize("wrong", [{"worse": "sideways"}, {"tolerance": 1.0}, {"alpha": 0.0}])
def test_impossible_configuration_is_refused(wrong):
    with pytest.raises(ValueError, match=r"worse|tolerance|alpha"):
        PairedSR(**wrong)
