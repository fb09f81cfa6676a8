"""Bank: every stream has, to the last bit, what its detector would have alone."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift import bank as bank_module
from detectors.drift.bank import Bank
from detectors.drift.betting_sr import BettingSR


def build(random, direction=None):
    low = random.random()
    return BettingSR(
        mean_low=low * 0.98,
        mean_high=min(1.0, low * 0.98 + 0.03 * random.random()),
        alpha=10.0 ** -random.integers(1, 7),
        direction=direction or ("both", "down", "up")[random.integers(3)],
        reference_units=(None, 30, 5000)[random.integers(3)],
        spread=(None, 0.1, 0.0, 1.0)[random.integers(4)],
    )


def values(random, shape):
    graded = random.random(shape)
    return np.where(random.random(shape) < 0.5, graded, (graded < random.random(shape[1])).astype(float))


def feed(detectors, x):
    for stream, detector in enumerate(detectors):
        for value in x[:, stream].tolist():
            detector.update(value)


def assert_same(bank, detectors):
    for saved, detector in zip(bank.to_state()["streams"], detectors, strict=True):
        assert saved == detector.to_state()
    assert bank.evidence.tolist() == [detector.evidence for detector in detectors]
    assert bank.drift_detected.tolist() == [detector.drift_detected for detector in detectors]
    assert bank.warning_detected.tolist() == [detector.warning_detected for detector in detectors]
    assert bank.n.tolist() == [detector.n for detector in detectors]


@given(
    seed=st.integers(0, 10**6),
    streams=st.integers(1, 7),
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=3),
    head_start=st.integers(0, 20),
)
@settings(max_examples=40, deadline=None)
def test_every_number_is_that_of_the_single_detector(seed, streams, lengths, head_start):
    random = np.random.default_rng(seed)
    detectors = [build(random) for _ in range(streams)]
    feed(detectors[:1], values(random, (head_start, streams)))  # streams of different ages
    bank = Bank(detectors)
    for length in lengths:
        x = values(random, (length, streams))
        bank.update_many(x)
        feed(detectors, x)
        assert_same(bank, detectors)
        bank.reset([0])
        detectors[0].reset()
        bank = Bank.from_state(bank.to_state())
    assert_same(bank, detectors)


def test_alarms_onsets_and_the_cap_are_the_same_over_a_long_time():
    random = np.random.default_rng(3)
    detectors = [build(random) for _ in range(9)]
    bank = Bank(detectors)
    x = np.vstack([values(random, (300, 9)), np.zeros((2500, 9)), np.ones((700, 9))])
    bank.update_many(x)
    feed(detectors, x)
    assert_same(bank, detectors)
    assert any(detector.drift_detected for detector in detectors)
    found = int(np.flatnonzero(bank.drift_detected)[0])
    assert bank.detector(found).alarm_record == detectors[found].alarm_record


@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_side_that_nobody_watches_is_left_out(direction):
    random = np.random.default_rng(6)
    detectors = [build(random, direction) for _ in range(5)]
    bank, both = Bank(detectors), Bank([*detectors[1:], BettingSR(mean_low=0.5, mean_high=0.5)])
    assert bank.nbytes < 0.6 * both.nbytes
    x = np.vstack([values(random, (300, 5)), np.full((60, 5), direction == "up")])
    bank.update_many(x)
    feed(detectors, x)
    assert_same(bank, detectors)
    assert bank.drift_detected.any()


def test_a_band_that_no_mean_can_leave_moves_in_too():
    detectors = [BettingSR(mean_low=0.0, mean_high=1.0) for _ in range(2)]
    bank = Bank(detectors)
    x = np.array([[0.0, 1.0], [-0.0, 0.5]])
    bank.update_many(x)
    feed(detectors, x)
    assert_same(bank, detectors)


def test_single_rows_integers_and_several_blocks(monkeypatch):
    monkeypatch.setattr(bank_module, "_BLOCK", 3)
    random = np.random.default_rng(4)
    detectors = [build(random) for _ in range(10)]
    bank = Bank(detectors)
    x = random.integers(0, 2, (40, 10))
    for row in x:
        bank.update(row)
    feed(detectors, x.astype(float))
    assert_same(bank, detectors)
    flags = np.arange(10) % 2 == 0
    bank.reset(flags)
    for detector in detectors[::2]:
        detector.reset()
    assert_same(bank, detectors)
    assert len(bank) == 10
    for stream in (-1, 10):
        with pytest.raises(IndexError, match="no stream"):
            bank.detector(stream)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.001, 1.001])
def test_a_bad_value_refuses_the_call_and_is_counted_for_its_stream(bad):
    bank = Bank([BettingSR(mean_low=0.9, mean_high=0.9) for _ in range(3)])
    bank.update([0.9, 0.8, 0.1])
    before = bank.to_state()
    with pytest.raises(ValueError, match="in 1 streams"):
        bank.update_many([[0.5, 0.5, 0.5], [0.5, bad, 0.5]])
    assert bank.refused.tolist() == [0, 1, 0]
    after = bank.to_state()
    after["streams"][1]["refused"] = 0
    assert after == before


@pytest.mark.parametrize(
    "wrong", [[0.5, 0.5], [[0.5] * 3], ["a", "b", "c"], [True, False, True], None, [0.5j] * 3]
)
def test_other_shapes_and_types_are_refused(wrong):
    bank = Bank([BettingSR(mean_low=0.9, mean_high=0.9) for _ in range(3)])
    with pytest.raises(ValueError, match="need numbers of shape"):
        bank.update(wrong)
    assert bank.n.tolist() == [0, 0, 0]


def test_an_empty_bank_and_foreign_states_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        Bank([])
    state = Bank([BettingSR(mean_low=0.9, mean_high=0.9)]).to_state()
    with pytest.raises(ValueError, match="version"):
        Bank.from_state({**state, "version": 9})
    with pytest.raises(ValueError, match="not a state"):
        Bank.from_state({**state, "streams": [{}]})


def test_a_million_observations_leave_memory_flat():
    random = np.random.default_rng(5)
    bank = Bank([BettingSR(mean_low=0.9, mean_high=0.9) for _ in range(1000)])
    x = (random.random((1000, 1000)) < 0.9).astype(float)
    bank.update_many(x[:10])
    before = bank.nbytes
    bank.update_many(x[10:])
    assert bank.nbytes == before
    assert before / len(bank) <= 1100
    assert bank.n.tolist() == [1000] * 1000
    assert bank.drift_detected.sum() <= 130  # alpha * observations is 100
