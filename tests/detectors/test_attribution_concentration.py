"""Few users or all: an attack of a few is named as such, a change that is spread is not."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.attribution import find_carriers

BAND = {"mean_low": 0.9, "mean_high": 0.9}


def world(seed, *, attackers=0, traffic=0.2, drop=0.0):
    """Return 600 coins of .9 of 60 users, some busier than others; attackers' coins are of .2."""
    random = np.random.default_rng(seed)
    busy = 1.0 / np.arange(1, 61) ** 0.8
    users = random.choice(60, 600, p=busy / busy.sum())
    means = np.full(600, 0.9 - drop)
    if attackers:
        attack = random.random(600) < traffic
        users = np.where(attack, 60 + random.integers(0, attackers, 600), users)
        means = np.where(attack, 0.2, means)
    return (random.random(600) < means).astype(float).tolist(), [f"u{user}" for user in users]


@pytest.mark.parametrize("attackers", [1, 3])
def test_an_attack_of_a_few_users_is_found_and_they_are_named(attackers):
    found = [find_carriers(*world(seed, attackers=attackers), **BAND) for seed in range(40)]
    assert all(one.alarms for one in found)
    assert sum(one.few for one in found) >= 38
    named = [carrier.user for one in found if one.few for carrier in one.carriers]
    assert np.mean([int(user[1:]) >= 60 for user in named]) > 0.95
    few = next(one for one in found if one.few)
    assert few.say().startswith(f"the change vanishes without {len(few.carriers)} of {few.users} users (")


@pytest.mark.parametrize("drop", [0.1, 0.2])
def test_a_change_that_is_spread_is_not_put_on_a_few(drop):
    found = [find_carriers(*world(seed, drop=drop), **BAND) for seed in range(40)]
    assert all(one.alarms for one in found)
    assert not any(one.few for one in found)
    assert sum(one.alarms_without for one in found) >= 38
    assert found[0].say().startswith("the change is spread: ")
    assert len(found[0].carriers) == 5


def test_a_rise_is_carried_too():
    users = [f"u{i % 30}" for i in range(900)]
    values = [1.0 if user == "u4" else 0.2 for user in users]
    found = find_carriers(values, users, mean_low=0.2, mean_high=0.2, direction="up")
    assert found.few
    assert [carrier.user for carrier in found.carriers] == ["u4"]
    assert (found.carriers[0].n, found.units_share) == (30, 30 / 900)


def test_among_few_users_nobody_is_left_out():
    users = [f"u{i % 9}" for i in range(300)]
    found = find_carriers([float(user != "u1") * 0.9 for user in users], users, **BAND)
    assert found.alarms
    assert found.alarms_without
    assert (found.few, found.carriers, found.share) == (False, (), 0.0)


def test_units_without_a_change_raise_no_alarm():
    found = find_carriers([0.9] * 100, [f"u{i % 20}" for i in range(100)], **BAND)
    assert (found.alarms, found.few, found.carriers) == (False, False, ())
    assert found.say() == "these units alone raise no alarm"
    unbound = find_carriers([0.0, 1.0], ["a", "b"], mean_low=0.0, mean_high=1.0)
    assert (unbound.alarms, unbound.share) == (False, 0.0)


@given(
    units=st.lists(
        st.tuples(st.floats(0.0, 1.0), st.sampled_from("abcdefghijklmnop")), min_size=1, max_size=80
    ),
    most=st.integers(1, 4),
)
@settings(max_examples=50, deadline=None)
def test_what_is_said_adds_up(units, most):
    values, users = map(list, zip(*units, strict=True))
    found = find_carriers(values, users, mean_low=0.7, mean_high=0.75, alpha=0.05, most=most)
    assert found.users == len(set(users))
    assert len(found.carriers) <= min(most, found.users // 10)
    assert sum(carrier.n for carrier in found.carriers) == round(found.units_share * len(values))
    guilt = [carrier.evidence for carrier in found.carriers]
    assert guilt == sorted(guilt, reverse=True)
    assert math.isfinite(found.share)
    assert found.alarms or not found.alarms_without


@pytest.mark.parametrize(
    ("values", "users", "more"),
    [
        ([], [], {}),
        ([0.5], ["a", "b"], {}),
        ([math.nan], ["a"], {}),
        ([1.5], ["a"], {}),
        ([0.5], ["a"], {"most": 0}),
        ([0.5], ["a"], {"alpha": 0.0}),
    ],
)
def test_impossible_input_is_refused(values, users, more):
    with pytest.raises(ValueError, match=r"need|alpha"):
        find_carriers(values, users, **{**BAND, **more})
