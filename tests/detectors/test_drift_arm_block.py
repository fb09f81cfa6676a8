"""Arms by column: what they would be one by one, to the last bit, whatever happens on the way."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.drift.arm_betting_test import ArmBettingTest
from detectors.drift.confidence_sequence import BettingSequence
from detectors.drift.share_betting_test import ShareBettingTest

RATES = st.sampled_from([(0.9, 0.9), (0.9, 0.3), (0.1, 0.8), (1.0, 0.0)])
SHARES = st.sampled_from([(0.1,), (0.5, 0.1), (0.99, 1e-6)])


def units(seed, count, rates, shares, *, is_coin):
    """Return scores, arms and shares; the shares change on the way, the scores are coins or anything."""
    random = Random(seed)
    share = [shares[at * len(shares) // count] for at in range(count)]
    treated = [random.random() < one for one in share]
    rate = [rates[is_treated] for is_treated in treated]
    xs = [float(random.random() < one) if is_coin else one * random.random() for one in rate]
    return np.array(xs), np.array(treated, dtype=bool), np.array(share)


def one_by_one(test, xs, treated, shares):
    for x, is_treated, share in zip(xs.tolist(), treated.tolist(), shares.tolist(), strict=True):
        test.update(x, treated=is_treated, share=share)
    return test


@given(
    columns=st.builds(
        units, st.integers(0, 2**31), st.integers(1, 400), RATES, SHARES, is_coin=st.booleans()
    ),
    worse=st.sampled_from(["lower", "higher"]),
    tolerance=st.sampled_from([0.0, 0.05]),
    alpha=st.sampled_from([1e-4, 0.3]),
    cut=st.floats(0, 1),
)
def test_columns_are_units_one_by_one(columns, worse, tolerance, alpha, cut):
    new, old = (ArmBettingTest(worse=worse, alpha=alpha, tolerance=tolerance) for _ in "no")
    at = round(cut * len(columns[0]))
    new.update_many(*(column[:at] for column in columns))
    new.update_many(*(column[at:] for column in columns))
    assert new.to_state() == one_by_one(old, *columns).to_state()
    _, treated, share = columns
    many, single = ShareBettingTest(alpha=alpha), ShareBettingTest(alpha=alpha)
    many.update_many(treated[:at], share[:at])
    many.update_many(treated[at:], share[at:])
    for is_treated, one in zip(treated.tolist(), share.tolist(), strict=True):
        single.update(treated=is_treated, share=one)
    assert many.to_state() == single.to_state()


def test_an_alarm_within_a_column_is_noted_where_it_was():
    columns = units(7, 2_000, (0.9, 0.3), (0.3,), is_coin=True)
    new, old = ArmBettingTest(worse="lower"), one_by_one(ArmBettingTest(worse="lower"), *columns)
    new.update_many(*columns)
    assert new.alarm_record == old.alarm_record is not None
    assert 24 < new.alarm_record["n"] < 1_000


def test_products_are_cut_where_they_would_be_one_by_one():
    columns = units(7, 4_000, (1.0, 0.0), (0.5,), is_coin=True)
    new, old = ArmBettingTest(worse="lower"), one_by_one(ArmBettingTest(worse="lower"), *columns)
    for start in range(0, 4_000, 100):
        new.update_many(*(column[start : start + 100] for column in columns))
    assert new.to_state() == old.to_state()
    assert max(new.to_state()["products"]) == 1e200
    always = np.ones(3_000, dtype=bool), np.full(3_000, 0.1)
    many, single = ShareBettingTest(), ShareBettingTest()
    many.update_many(*always)
    for _ in range(3_000):
        single.update(treated=True, share=0.1)
    assert many.to_state() == single.to_state()
    assert many.mismatch
    assert max(many.to_state()["products"]) == 1e200


@pytest.mark.parametrize(("x", "share"), [(math.nan, 0.1), (1.5, 0.1), (0.5, 0.0), (0.5, math.nan)])
@pytest.mark.parametrize("at", [0, 30, 99])
def test_a_unit_that_is_refused_ends_the_column_there(x, share, at):
    xs, treated, shares = units(3, 100, (0.9, 0.8), (0.3,), is_coin=False)
    old = one_by_one(ArmBettingTest(worse="lower"), xs[:at], treated[:at], shares[:at])
    xs[at], shares[at] = x, share
    new = ArmBettingTest(worse="lower")
    with pytest.raises(ValueError, match=r"need a bool|not a finite"):
        new.update_many(xs, treated, shares)
    assert (new.refused, new.n) == (1, at)
    assert {**new.to_state(), "refused": 0} == old.to_state()


def test_a_sequence_takes_all_of_a_column_or_nothing():
    sequence = BettingSequence()
    before = sequence.to_state()
    with pytest.raises(ValueError, match="need z"):
        sequence.update_many(np.array([0.5, math.nan]), np.array([0.1, 0.1]))
    sequence.update_many(np.array([]), np.array([]))
    assert sequence.to_state() == before
