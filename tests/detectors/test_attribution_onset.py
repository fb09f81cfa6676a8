"""When a change began: the estimate is near, the set holds the truth as often as it says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.attribution import ConfirmationWindow, Onset, RecentUnits, locate_onset
from detectors.drift.betting_sr import BettingSR
from detectors.records import Interval
from detectors.worlds.changes import generator
from detectors.worlds.numbers import draw_family

AT = 400


def onset_of(seed: int, family: str, after: float, *, before: float = 0.9, size: int = 1024) -> Onset | None:
    """Return the onset found on one stream that changes at AT, None after a false alarm."""
    random = generator(seed)
    means = np.concatenate([np.full(AT, before), np.full(6_000, after)])
    x = draw_family(random, family, means, np.full(len(means), 10.0)).tolist()
    watch, recent = BettingSR(mean_low=before, mean_high=before, alpha=1e-4), RecentUnits(size=size)
    taken = iter(x)
    while not watch.drift_detected:
        value = next(taken)
        watch.update(value)
        recent.update(value)
    if watch.n <= AT:
        return None
    window = ConfirmationWindow(baseline=before)
    while not window.complete:
        window.update(next(taken))
    return locate_onset(
        recent.values(),
        n=recent.n,
        side=watch.side or "down",
        mean_low=before,
        mean_high=before,
        after=window.interval,
    )


@pytest.mark.parametrize(
    ("family", "before", "after"), [("bernoulli", 0.9, 0.7), ("beta", 0.9, 0.8), ("bernoulli", 0.1, 0.3)]
)
def test_the_set_holds_the_onset_as_often_as_it_says_and_is_short(family, before, after):
    found = [o for seed in range(60) if (o := onset_of(seed, family, after, before=before)) is not None]
    held = [o.first <= AT <= o.last for o in found]
    assert len(found) >= 55
    assert np.mean(held) >= 0.95  # the promise is .95, and the construction is conservative
    assert np.median([o.last - o.first + 1 for o in found]) < 220
    assert abs(np.median([o.index for o in found]) - AT) <= 10
    assert all(o.first <= o.index <= o.last for o in found)


def test_without_confirming_units_no_early_start_is_refuted_but_late_ones_are():
    values = [1.0] * 9 + [0.0] + [1.0] * 90 + [0.0, 1.0] * 30
    blind = locate_onset(values, n=160, side="down", mean_low=0.9, mean_high=0.9)
    seeing = locate_onset(
        values, n=160, side="down", mean_low=0.9, mean_high=0.9, after=Interval(0.45, 0.55, 0.97)
    )
    assert blind.first < 20
    assert seeing.first > 60
    assert blind.last == seeing.last < 125
    assert blind.index == seeing.index == 100


def test_a_memory_that_is_too_short_says_so():
    found = [onset_of(seed, "bernoulli", 0.84, size=64) for seed in range(10)]
    assert all(o is not None and o.earlier for o in found)


def test_up_is_down_turned_round():
    values = np.array([1.0] * 50 + [0.0, 1.0] * 30)
    down = locate_onset(
        values, n=110, side="down", mean_low=0.9, mean_high=0.95, after=Interval(0.4, 0.6, 0.97)
    )
    up = locate_onset(
        1.0 - values, n=110, side="up", mean_low=0.05, mean_high=0.1, after=Interval(0.4, 0.6, 0.97)
    )
    assert (down.index, down.first, down.last) == (up.index, up.first, up.last)


@given(
    values=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=80),
    more=st.integers(0, 100),
    low=st.floats(0.0, 1.0),
    ends=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
    side=st.sampled_from(["down", "up"]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_values_the_set_is_ordered_and_inside(values, more, low, ends, side):
    n = len(values) + more
    after = Interval(min(ends), max(ends), 0.97)
    found = locate_onset(values, n=n, side=side, mean_low=low, mean_high=low, after=after)
    assert more <= found.first <= found.last < n
    assert more <= found.index < n
    assert not (found.earlier and more == 0)


def test_bad_input_is_refused():
    for values, n, level in (([], 1, 0.95), ([0.5, 0.5], 1, 0.95), ([0.5], 1, 1.0)):
        with pytest.raises(ValueError, match=r"need|level"):
            locate_onset(values, n=n, side="down", mean_low=0.5, mean_high=0.5, level=level)
    with pytest.raises(ValueError, match="size"):
        RecentUnits(size=1)


@given(values=st.lists(st.floats(0.0, 1.0), max_size=40), size=st.integers(2, 30))
@settings(max_examples=40, deadline=None)
def test_recent_units_resume_and_keep_the_latest(values, size):
    recent = RecentUnits(size=size)
    for x in values:
        recent.update(x)
    resumed = RecentUnits.from_state(recent.to_state())
    for kept in (recent, resumed):
        kept.update(0.25)
        assert kept.n == len(values) + 1
        assert kept.values() == pytest.approx([*values, 0.25][-size:], abs=1e-5)
    assert recent.to_state() == resumed.to_state()


def test_recent_units_refuse_what_is_no_unit_and_foreign_states():
    recent = RecentUnits()
    before = recent.to_state()
    for bad in (float("nan"), 1.5, True, "1"):
        with pytest.raises(ValueError, match="not a finite number"):
            recent.update(bad)
    assert recent.to_state() == before
    for state in ({}, {**before, "version": 9}, {**before, "kept": "!"}, {**before, "n": 3}):
        with pytest.raises(ValueError, match=r"RecentUnits|version"):
            RecentUnits.from_state(state)


def test_the_window_measures_what_comes_after_and_stops_when_full():
    window = ConfirmationWindow(baseline=0.9, units=200)
    assert window.magnitude() is None
    random = generator(3)
    for x in (random.random(150) < 0.7).astype(float).tolist():
        window.update(x)
    resumed = ConfirmationWindow.from_state(window.to_state())
    for kept in (window, resumed):
        for x in [0.0, 1.0, 1.0] * 40:
            kept.update(x)
    found = window.magnitude()
    assert window.to_state() == resumed.to_state()
    assert found is not None
    assert (found.n, found.complete) == (200, True)
    assert found.effect == pytest.approx(found.mean - 0.9)
    assert found.effect_interval.low <= -0.2 <= found.effect_interval.high < 0.0
    with pytest.raises(ValueError, match="not a finite number"):
        window.update(2.0)
