"""Companion: the e-value of a whole life, against its definition, and how seldom it errs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.companion import Companion

factors = st.floats(0.0, 3.0)


def fed(rows, bets):
    life = Companion(bets=bets)
    for row in rows:
        life.update(row)
    return life


@given(rows=st.lists(st.tuples(factors, factors), max_size=25))
@settings(max_examples=100, deadline=None)
def test_it_is_the_mixture_over_all_times_to_start(rows):
    t, value = len(rows), 1.0 / (len(rows) + 1)
    for start in range(1, t + 1):
        products = [math.prod(row[bet] for row in rows[start - 1 :]) for bet in (0, 1)]
        value += sum(products) / 2 / (start * (start + 1))
    assert fed(rows, 2).value == pytest.approx(value, rel=1e-9)
    assert fed(rows, 2).n == t


@given(rows=st.lists(st.tuples(factors, factors), max_size=25), gains=st.tuples(factors, factors))
@settings(max_examples=100, deadline=None)
def test_fair_factors_leave_it_the_same_on_average(rows, gains):
    # Each bet either gains or loses everything, with the chance that makes it fair.
    life, mean = fed(rows, 2), 0.0
    for bet, other in ((0, 1), (1, 0)):
        gain = 1.0 + gains[bet]
        for factor, chance in ((gain, 1.0 / gain), (0.0, 1.0 - 1.0 / gain)):
            branch = fed(rows, 2)
            row = [0.0, 0.0]
            row[bet], row[other] = factor, 1.0
            branch.update(row)
            mean += 0.5 * chance * branch.value
    assert mean == pytest.approx(life.value, rel=1e-9)


def test_it_ever_reaches_its_bound_as_seldom_as_promised():
    alpha, streams, length, reached = 0.05, 600, 400, 0
    random = np.random.default_rng(3)
    for _ in range(streams):
        life = Companion(bets=2)
        for x in (random.random(length) < 0.5).tolist():
            life.update((1.4, 1.8) if x else (0.6, 0.2))
            if life.value >= 1.0 / alpha:
                reached += 1
                break
    error = math.sqrt(alpha * (1 - alpha) / streams)
    assert 0 < reached / streams <= alpha + 2 * error


def test_it_finds_a_change_and_stays_finite():
    life = fed([(0.9,)] * 300 + [(1.3,)] * 60, 1)
    assert life.evidence > 1.0
    for _ in range(20_000):
        life.update((1.9,))
    assert math.isfinite(life.evidence)
    assert life.evidence <= 201


@pytest.mark.parametrize("wrong", [(1.0,), (1.0, 1.0, 1.0), (1.0, -0.1), (1.0, math.nan), (math.inf, 1.0)])
def test_wrong_factors_are_refused_and_change_nothing(wrong):
    life = fed([(1.2, 0.9)] * 5, 2)
    before = life.to_state()
    with pytest.raises(ValueError, match="factor"):
        life.update(wrong)
    assert life.to_state() == before


def test_states_are_versioned_and_exact():
    life = fed([(1.2, 0.9)] * 5, 2)
    again = Companion.from_state(life.to_state(), bets=2)
    for one in (life, again):
        one.update((1.1, 1.05))
    assert again.to_state() == life.to_state()
    with pytest.raises(ValueError, match="numbers of bets"):
        Companion.from_state(life.to_state(), bets=3)
    with pytest.raises(ValueError, match="version"):
        Companion.from_state({**life.to_state(), "version": 9}, bets=2)
    with pytest.raises(ValueError, match="bets"):
        Companion(bets=0)
