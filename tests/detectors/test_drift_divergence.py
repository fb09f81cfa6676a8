"""DivergenceWatch: it takes both, a risen proxy and a fallen target; exact resume."""

import math
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.divergence_watch import DivergenceWatch

units = st.floats(0.0, 1.0)


def feed(watch, random, count, *, proxy=0.7, target=0.9, audited=0.3):
    for _ in range(count):
        graded = random.betavariate(10 * proxy, 10 * (1 - proxy))
        verdict = float(random.random() < target) if random.random() < audited else None
        watch.update(proxy=graded, target=verdict)
        if watch.drift_detected:
            return True
    return False


def build(**changed):
    return DivergenceWatch(**{"proxy_mean": 0.7, "target_mean": 0.9, "alpha": 1e-5, **changed})


@pytest.mark.parametrize(
    ("proxy", "target", "fires"), [(0.7, 0.9, 0), (0.8, 0.9, 0), (0.7, 0.7, 0), (0.6, 0.7, 0), (0.8, 0.7, 12)]
)
def test_it_takes_both(proxy, target, fires):
    # Where only one has moved the other is in control: less than one false alarm is expected in all.
    found = sum(feed(build(), Random(seed), 1500, proxy=proxy, target=target) for seed in range(12))
    assert found == fires if fires else found <= 1


@given(past=st.lists(st.tuples(units, st.none() | units), max_size=30), proxy=units)
@settings(max_examples=100, deadline=None)
def test_the_statistic_is_never_more_than_that_of_a_part_in_control(past, proxy):
    watch = build()
    for seen, target in past:
        watch.update(proxy=seen, target=target)
    watch.update(proxy=proxy)
    state = watch.to_state()
    parts = [math.log10(max(1.0, sum(state[part]["sums"]))) for part in ("proxy", "target")]
    assert watch.evidence == pytest.approx(min(parts))
    assert 0.0 <= watch.ever <= sum(state["proxy"]["life"]) + 1.0


def test_what_stood_at_the_alarm_is_kept():
    watch, random = build(), Random(3)
    feed(watch, random, 600)
    assert watch.alarm_record is None
    assert feed(watch, random, 3000, proxy=0.8, target=0.7)
    record = watch.alarm_record
    assert record["n"] == watch.n
    assert record["n_audited"] == watch.n_audited < watch.n
    assert record["evidence"] >= watch.threshold == pytest.approx(5.0)
    assert record["began_index"] == pytest.approx(600, abs=80)
    watch.reset()
    assert (watch.drift_detected, watch.alarm_record, watch.n, watch.n_audited) == (False, None, 0, 0)
    for _ in range(200):
        watch.update(proxy=0.8, target=0.0)
    assert watch.ever > 1e3


@given(past=st.lists(st.tuples(units, st.none() | units), max_size=40), cut=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_resume_is_exact(past, cut):
    whole = build(alpha=0.2, proxy_units=500, target_units=80)
    for proxy, target in past[:cut]:
        whole.update(proxy=proxy, target=target)
    resumed = DivergenceWatch.from_state(msgspec.json.decode(msgspec.json.encode(whole.to_state())))
    for proxy, target in past[cut:]:
        whole.update(proxy=proxy, target=target)
        resumed.update(proxy=proxy, target=target)
    assert whole.to_state() == resumed.to_state()


def test_half_a_bad_unit_changes_nothing():
    watch = build()
    watch.update(proxy=0.7, target=1.0)
    before = watch.to_state()
    with pytest.raises(ValueError, match="finite number"):
        watch.update(proxy=0.7, target=math.nan)
    assert {**watch.to_state(), "refused": 0} == before
    assert watch.refused == 1


@pytest.mark.parametrize("wrong", [{"proxy_mean": 2.0}, {"target_mean": -1.0}, {"alpha": 0.0}])
def test_impossible_configuration_is_refused(wrong):
    with pytest.raises(ValueError, match=r"mean|alpha"):
        build(**wrong)
