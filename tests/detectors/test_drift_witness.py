"""WitnessSR: one bet is fair, batches change nothing, small shifts in many dimensions are found."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.embedding_vectors import SCALE, find_centroids, read_vectors
from detectors.drift.witness_reference import WitnessReference
from detectors.drift.witness_sr import WitnessSR

D = 48
SCALES = np.linspace(2.0, 0.3, D)


def draws(seed, n, shift=0.0):
    return np.random.default_rng((21, seed)).standard_normal((n, D)) * SCALES + shift


REFERENCE = WitnessReference.fit(draws(0, 2000), dimensions=16)


def statistic(state):
    return sum(state["sums"]["sums"]) / 3


@given(
    point=st.lists(st.floats(-1.0, 1.0), min_size=16, max_size=16),
    past=st.integers(0, 40),
    seed=st.integers(0, 20),
)
@settings(max_examples=60, deadline=None)
def test_the_statistic_grows_by_at_most_one_on_average(point, past, seed):
    # A point and its opposite with equal chances have the mean 0, whatever the witness is.
    watch = WitnessSR(reference=REFERENCE)
    watch.update_many(draws(seed, max(past, 1)))
    y = np.array(point, dtype=np.float32)
    y /= max(1.0, float(np.linalg.norm(y)) * 1.001)
    now, branches = watch.to_state(), []
    for one in (y, -y):
        branch = WitnessSR.from_state(now, reference=REFERENCE)
        branch.update_point(one)
        branches.append(statistic(branch.to_state()))
    assert min(branches) >= 0.0
    assert sum(branches) / 2 <= (statistic(now) + 1.0) * (1 + 1e-6)


def test_points_are_shorter_than_1_and_their_mean_is_that_of_the_reference():
    rows = read_vectors(draws(0, 2000), D)
    points = REFERENCE.points(rows @ REFERENCE.matrix.T)
    assert np.linalg.norm(points, axis=1).max() < 1.0
    assert np.linalg.norm(points[1::2].mean(axis=0)) < 1e-6
    extreme = read_vectors(np.vstack([np.eye(D), -np.eye(D)]), D)
    assert np.linalg.norm(REFERENCE.points(extreme @ REFERENCE.matrix.T), axis=1).max() < 1.0


def test_batches_of_any_size_and_type_give_the_same_bits():
    x = draws(1, 700).astype(np.float32)
    whole, cut, single = (WitnessSR(reference=REFERENCE) for _ in range(3))
    whole.update_many(x)
    for first, last in ((0, 1), (1, 300), (300, 300), (300, 700)):
        cut.update_many(np.asfortranarray(x[first:last]))
    for row in x:
        single.update(row.tolist())
    assert whole.to_state() == cut.to_state() == single.to_state()
    assert whole.n == 700


def test_whole_numbers_keep_the_direction_and_make_products_exact():
    x = draws(2, 50)
    rows = read_vectors(x, D)
    exact = rows.astype(np.int64) @ REFERENCE.matrix.astype(np.int64).T
    assert (rows @ REFERENCE.matrix.T == exact).all()
    assert np.abs(exact).max() < 2**24
    cosines = np.sum(rows * x, axis=1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(x, axis=1)
    assert cosines.min() > 1 - 1e-5
    assert np.abs(np.linalg.norm(rows, axis=1) - SCALE).max() < 5


def test_centroids_of_equal_vectors_are_that_vector():
    rows = read_vectors(np.ones((30, 4)), 4)
    assert (find_centroids(rows, 3, seed=1) == rows[:3]).all()


def test_small_shifts_in_every_dimension_are_found_and_dated():
    delays, onsets = [], []
    for seed in range(10):
        watch = WitnessSR(reference=REFERENCE, alpha=1e-4)
        watch.update_many(draws(seed + 100, 400))
        assert not watch.drift_detected
        for x in draws(seed + 200, 600, shift=0.15):
            watch.update(x)
            if watch.drift_detected:
                break
        assert watch.drift_detected
        delays.append(watch.n - 400)
        onsets.append(watch.began_index - 400)
    assert np.mean(delays) < 260
    assert abs(np.median(onsets)) < 60


@pytest.mark.parametrize("size", [100, 1000])
def test_false_alarms_keep_their_promise_with_estimated_references(size):
    alarms = 0
    for seed in range(40):
        watch = WitnessSR(reference=WitnessReference.fit(draws(seed + 300, size)), alpha=5e-3)
        for start in range(0, 500, 20):
            watch.update_many(draws(1000 * (seed + 1) + start, 20))
            if watch.drift_detected:
                alarms += 1
                watch.reset()
    assert alarms <= 40 * 500 * 5e-3


def test_one_bad_vector_refuses_the_batch():
    watch = WitnessSR(reference=REFERENCE)
    watch.update_many(draws(3, 10))
    before = watch.to_state()
    bad = draws(4, 10)
    bad[7, 3] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        watch.update_many(bad)
    assert watch.refused == 1
    assert {**watch.to_state(), "refused": 0} == before


@pytest.mark.parametrize("big", [1e300, 1e-300])
def test_lengths_that_cannot_be_computed_are_refused(big):
    with pytest.raises(ValueError, match="no direction"):
        WitnessSR(reference=REFERENCE).update(np.full(D, big))


def test_references_are_artefacts_and_states_belong_to_one():
    again = msgspec.json.decode(msgspec.json.encode(REFERENCE), type=WitnessReference)
    watch = WitnessSR(reference=REFERENCE)
    watch.update_many(draws(5, 30))
    resumed = WitnessSR.from_state(watch.to_state(), reference=again)
    for one in (watch, resumed):
        one.update_many(draws(6, 30))
    assert watch.to_state() == resumed.to_state()
    other = WitnessReference.fit(draws(7, 100), dimensions=16)
    with pytest.raises(ValueError, match="another reference"):
        WitnessSR.from_state(watch.to_state(), reference=other)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (np.ones((50, 5)), "constant"),
        (np.ones((39, 5)), "n >= 40"),
        (np.ones((50, 1)), "2 <= d"),
        (np.ones(50), "shape"),
        (None, "shape"),
    ],
)
def test_impossible_references_are_refused(reference, message):
    with pytest.raises(ValueError, match=message):
        WitnessReference.fit(reference)


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": 1.0}, {"rate": 0.0}, {"rate": 1.0}])
def test_impossible_configuration_is_refused(wrong):
    with pytest.raises(ValueError, match=r"alpha|rate"):
        WitnessSR(reference=REFERENCE, **wrong)
    with pytest.raises(ValueError, match="dimensions"):
        WitnessReference.fit(draws(0, 50), dimensions=0)
