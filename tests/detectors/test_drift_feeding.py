"""feed_columns: side by side or one by one, the same to the last bit."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.betting_sr import BettingSR
from detectors.drift.feeding import feed_columns


def detectors(random, count):
    made = []
    for index in range(count):
        low = random.choice((0.2, 0.5, 0.9))
        watch = BettingSR(
            mean_low=low,
            mean_high=min(1.0, low + random.choice((0.0, 0.05))),
            alpha=random.choice((0.05, 1e-4)),
            direction=("both", "down", "up")[index % 3],
            reference_units=random.choice((None, 500)),
            spread=random.choice((None, 0.05)),
        )
        for _ in range(random.choice((0, 3, 40))):
            watch.update(random.random())
        made.append(watch)
    return made


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), lengths=st.lists(st.sampled_from((0, 1, 5, 63, 64, 65, 300, 520)), max_size=9)
)
def test_columns_of_any_length_change_no_number(seed, lengths):
    random = Random(seed)
    columns = [np.array([random.random() ** 2 for _ in range(length)]) for length in lengths]
    alone = detectors(Random(seed), len(lengths))
    firsts = []
    for watch, column in zip(alone, columns, strict=True):
        first = 0 if watch.drift_detected else len(column)
        for index, value in enumerate(column.tolist()):
            watch.update(value)
            if first > index + 1 and watch.drift_detected:
                first = index + 1
        firsts.append(first)
    fed = feed_columns(detectors(Random(seed), len(lengths)), columns)
    assert [first for _, first in fed] == firsts
    assert [watch.to_state() for watch, _ in fed] == [watch.to_state() for watch in alone]


def test_a_value_that_is_none_is_refused():
    watches = [BettingSR(mean_low=0.9, mean_high=0.9) for _ in range(2)]
    with pytest.raises(ValueError, match="finite number"):
        feed_columns(watches, [np.zeros(100), np.append(np.zeros(99), np.nan)])


@pytest.mark.parametrize("width", [2, 5, 130])
def test_numbers_that_are_capped_at_different_times_are_the_same(width):
    """Of detectors of many ages one is always due to be capped, in the middle of what is taken at once."""

    def aged():
        made = [BettingSR(mean_low=0.9, mean_high=0.9, direction="down") for _ in range(width)]
        for age, watch in enumerate(made):
            for _ in range(age % 7):
                watch.update(0.9)
        return made

    columns = [np.append(np.zeros(400 - index % 3), np.ones(150)) for index in range(width)]
    alone = aged()
    for watch, column in zip(alone, columns, strict=True):
        for value in column.tolist():
            watch.update(value)
    assert all(watch.alarm_record for watch in alone)
    fed = feed_columns(aged(), columns)
    assert [watch.to_state() for watch, _ in fed] == [watch.to_state() for watch in alone]
    reached = BettingSR(mean_low=0.9, mean_high=0.9, direction="down")
    for _ in range(400):
        reached.update(0.0)
    assert reached.evidence > 199.0
