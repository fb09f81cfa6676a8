"""SeasonalBaseline: what it learns of a season, and that false alarms stay promised under one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.betting_sr import BettingSR
from detectors.drift.seasonal_baseline import SeasonalBaseline

HOUR_MS = 3_600_000


def mean_at(hours, amplitude):
    return 0.9 + amplitude * np.sin(2 * np.pi * (hours % 24) / 24)


def drawn(seed, *, weeks, per_hour, amplitude):
    random, hours = np.random.default_rng(seed), np.arange(weeks * 168).repeat(per_hour)
    values = (random.random(len(hours)) < mean_at(hours, amplitude)).astype(float)
    return values.tolist(), (hours * HOUR_MS).tolist()


def fitted(seed, **world):
    return SeasonalBaseline.fit(*drawn(seed, **world))


def false_alarms(watches, shifts, *, hours, per_hour, amplitude, seed):
    """Feed one in-control stream to every detector, reset at its alarms; return how many there were."""
    random, alarms = np.random.default_rng(seed), 0
    for hour in range(hours):
        for watch, shift in zip(watches, shifts, strict=True):
            for x in random.random(per_hour) < mean_at(hour, amplitude):
                watch.update(float(x), shift=shift[hour % 168])
                if watch.drift_detected:
                    alarms += 1
                    watch.reset()
    return alarms


def test_a_season_is_learnt_and_noise_is_not():
    seasonal = fitted(1, weeks=4, per_hour=60, amplitude=0.06)
    truth = mean_at(np.arange(168), 0.06) - 0.9
    assert np.abs(np.array(seasonal.shifts) - truth).max() < 0.08
    assert np.corrcoef(seasonal.shifts, truth)[0, 1] > 0.85
    flat = fitted(2, weeks=4, per_hour=30, amplitude=0.0)
    assert max(map(abs, flat.shifts)) < 0.03
    assert flat.shift_variance < seasonal.shift_variance / 2


def test_shrinkage_beats_the_plain_means_of_the_hours():
    values, times = drawn(3, weeks=2, per_hour=5, amplitude=0.03)
    baseline = SeasonalBaseline.fit(values, times)
    truth = mean_at(np.arange(168), 0.03) - 0.9
    plain = np.array(values).reshape(2, 168, 5).mean(axis=(0, 2)) - np.mean(values)
    assert np.square(np.array(baseline.shifts) - truth).mean() < 0.5 * np.square(plain - truth).mean()


def test_false_alarms_keep_their_promise_under_a_season_where_a_flat_baseline_breaks_it():
    world = {"per_hour": 60, "amplitude": 0.06}
    baselines = [fitted(seed, weeks=3, **world) for seed in range(6)]
    expected = 1e-3 * 6 * 168 * 60
    watches = [baseline.watch(tolerance=0.0, alpha=1e-3) for baseline in baselines]
    shifts = [baseline.shifts for baseline in baselines]
    assert false_alarms(watches, shifts, hours=168, seed=5, **world) <= expected + 2 * math.sqrt(expected)
    flat = [BettingSR(mean_low=0.9, mean_high=0.9, alpha=1e-3) for _ in baselines]
    assert false_alarms(flat, [[0.0] * 168] * 6, hours=168, seed=5, **world) > 2 * expected


def test_a_fall_is_found_beneath_the_season():
    random, delays = np.random.default_rng(6), []
    for seed in range(8):
        baseline = fitted(seed, weeks=4, per_hour=20, amplitude=0.05)
        watch = baseline.watch(tolerance=0.0)
        for i in range(6000):
            x = random.random() < mean_at(i // 20, 0.05) - 0.08
            watch.update(float(x), shift=baseline.shift(i // 20 * HOUR_MS))
            if watch.drift_detected:
                break
        delays.append(i)
    assert np.mean(delays) < 400


@given(
    st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(-(10**12), 10**13)), min_size=1, max_size=80),
    st.integers(1, 30),
)
@settings(max_examples=100, deadline=None)
def test_any_reference_gives_a_usable_baseline_in_any_order(units, slots):
    values, times = zip(*units, strict=True)
    baseline = SeasonalBaseline.fit(values, times, slots=slots)
    other = SeasonalBaseline.fit(values[::-1], times[::-1], slots=slots)
    assert baseline.shifts == pytest.approx(other.shifts, abs=1e-9)
    watch = baseline.watch(tolerance=0.01)
    for value, at_ms in units:
        watch.update(value, shift=baseline.shift(at_ms))
    assert math.isfinite(watch.evidence)


def test_constant_and_lonely_references():
    constant = SeasonalBaseline.fit([1.0] * 500, [i * HOUR_MS for i in range(500)])
    assert (set(constant.shifts), constant.shift_variance, constant.mean) == ({0.0}, 0.0, 1.0)
    lonely = SeasonalBaseline.fit([0.4], [0])
    assert (lonely.n, lonely.shift(0), lonely.shift(HOUR_MS)) == (1, 0.0, 0.0)


def test_impossible_references_are_refused():
    for values, times in (([], []), ([0.5], [0, 1]), ([1.5], [0]), ([math.nan], [0])):
        with pytest.raises(ValueError, match=r"need units|finite number"):
            SeasonalBaseline.fit(values, times)
    with pytest.raises(ValueError, match="slots"):
        SeasonalBaseline.fit([0.5], [0], slots=0)
    with pytest.raises(ValueError, match="shifts"):
        SeasonalBaseline(mean=0.5, n=3, shifts=(2.0,), shift_variance=0.0)
    with pytest.raises(ValueError, match="tolerance"):
        SeasonalBaseline.fit([0.5], [0]).watch(tolerance=-1.0)
