"""EmbeddingSR: both parts share one alpha, and together find what either finds."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.embedding_sr import EmbeddingReference, EmbeddingSR
from detectors.drift.embedding_vectors import read_vector, read_vectors
from detectors.drift.polya_block_sr import PolyaBlockSR
from detectors.drift.witness_sr import WitnessSR
from detectors.worlds.changes import Change
from detectors.worlds.embeddings import EmbeddingWorld

D = 384
CHANGES = {
    "new topic .1": ("new_topic", 0.1),
    "new topic .3": ("new_topic", 0.3),
    "shift .1": ("mean_shift", 0.1),
    "shift .2": ("mean_shift", 0.2),
}
REFERENCES = {}


def world(kind="new_topic", size=0.0):
    return EmbeddingWorld(d=D, kind=kind, size=size, change=Change(kind="abrupt", at=500))


def reference(seed):
    if seed not in REFERENCES:
        REFERENCES[seed] = EmbeddingReference.fit(world().reference(seed=seed, n=4000), seed=seed)
    return REFERENCES[seed]


def delay(watch, x):
    """Return the observations to the alarm, in steps of 4; alarms before the change are reset."""
    for start in range(0, len(x), 4):
        watch.update_many(x[start : start + 4])
        if watch.drift_detected and start >= 500:
            return start + 4 - 500
        if watch.drift_detected:
            watch.reset()
    return len(x) - 500


@pytest.mark.parametrize("name", CHANGES)
def test_together_they_are_about_as_fast_as_the_better_one(name):
    both, blocks, witness = [], [], []
    for seed in range(31, 35):
        x = world(*CHANGES[name]).stream(seed=seed, length=1700)
        made = reference(seed)
        both.append(delay(EmbeddingSR(reference=made, alpha=1e-4), x))
        blocks.append(delay(PolyaBlockSRBatches(made), x))
        witness.append(delay(WitnessSR(reference=made.witness, alpha=1e-4), x))
    assert max(both) < 1200
    assert np.mean(both) <= 1.15 * min(np.mean(blocks), np.mean(witness))


class PolyaBlockSRBatches(PolyaBlockSR):
    def __init__(self, made):
        super().__init__(blocks=made.blocks, alpha=1e-4)

    def update_many(self, x):
        for row in x:
            self.update(row)


def test_batches_give_the_same_bits_and_the_state_is_small():
    x = world().stream(seed=31, length=600)
    whole, single = (EmbeddingSR(reference=reference(31), seed=3) for _ in range(2))
    whole.update_many(x)
    for row in x:
        single.update(row)
    assert whole.to_state() == single.to_state()
    assert len(msgspec.msgpack.encode(whole.to_state())) <= 1500


@given(
    seed=st.integers(0, 10**6),
    d=st.integers(2, 700),
    scale=st.sampled_from([1e-90, 1e-3, 1.0, 1e6, 1e30]),
    dtype=st.sampled_from(["<f4", ">f4", "<f8", ">f8"]),
    step=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_one_vector_is_read_as_in_a_batch(seed, d, scale, dtype, step):
    random = np.random.default_rng(seed)
    scale = max(scale, 1e-30) if dtype[1:] == "f4" else scale
    rows = (random.standard_normal((5, d * step)) * scale).astype(dtype)[:, ::step]
    batch = read_vectors(rows, d)
    for row, expected in zip(rows, batch, strict=True):
        assert read_vector(row, d).tobytes() == expected.tobytes()


def test_one_vector_has_the_block_and_the_point_it_has_in_a_batch():
    made = reference(31)
    rows = read_vectors(np.vstack([world().reference(seed=31, n=4000)[1::2], np.eye(D)]), D)
    products = rows @ made.matrix.T
    balls = len(made.blocks.closeness)
    located = made.blocks.locate_products(products[:, :balls], lambda row: row / len(rows))
    points = made.witness.points(products[:, balls:])
    assert (products[:, :balls] == np.array(made.blocks.closeness)).any()  # ties: the outermost vectors
    for index, row in enumerate(rows):
        alone = made.matrix.dot(row)
        assert made.blocks.locate_product(alone[:balls], lambda at=index: at / len(rows)) == located[index]
        assert made.witness.point(alone[balls:]).tobytes() == points[index].tobytes()


def test_its_parts_are_what_they_are_alone():
    x, made = world("mean_shift", 0.2).stream(seed=32, length=700), reference(32)
    both = EmbeddingSR(reference=made, alpha=3e-4, seed=5)
    blocks = PolyaBlockSR(blocks=made.blocks, alpha=3e-4 * (1 / 3), seed=5)
    witness = WitnessSR(reference=made.witness, alpha=3e-4 * (2 / 3))
    both.update_many(x)
    witness.update_many(x)
    for row in x:
        blocks.update(row)
    assert both.to_state()["blocks"] == blocks.to_state()
    assert both.to_state()["witness"] == witness.to_state()
    assert both.e_value == (blocks.companion.value + witness.companion.value) / 2


def test_reset_restarts_the_part_that_alarmed_alone():
    both = EmbeddingSR(reference=reference(33), alpha=1e-4)
    both.update_many(world("mean_shift", 0.2).stream(seed=33, length=600))
    assert (both.drift_detected, both.part) == (True, "witness")
    record = both.alarm_record
    assert record["part"] == "witness"
    assert 500 < record["total"] <= 600
    assert abs(both.began_index - 500) < 60
    blocks_before = both.to_state()["blocks"]
    both.reset()
    assert (both.drift_detected, both.alarm_record, both.n, both.total) == (False, None, 0, 600)
    assert both.to_state()["blocks"] == blocks_before
    both.update_many(world("mean_shift", 0.2).stream(seed=33, length=800)[600:])
    assert both.drift_detected
    assert both.n == 200
    assert 0 <= both.began_index < 200


def test_false_alarms_of_both_keep_the_promise():
    alarms, alpha, length = 0, 2e-3, 1000
    for seed in range(60, 80):
        made = EmbeddingReference.fit(world().reference(seed=seed, n=400), seed=seed)
        watch = EmbeddingSR(reference=made, alpha=alpha, seed=seed)
        x = world().stream(seed=seed, length=length)
        for start in range(0, length, 10):
            watch.update_many(x[start : start + 10])
            if watch.drift_detected:
                alarms += 1
                watch.reset()
    assert alarms <= 20 * length * alpha


def test_impossible_configuration_and_foreign_states_are_refused():
    with pytest.raises(ValueError, match="alpha"):
        EmbeddingSR(reference=reference(31), alpha=0.0)
    state = EmbeddingSR(reference=reference(31)).to_state()
    with pytest.raises(ValueError, match="other blocks"):
        EmbeddingSR.from_state(state, reference=reference(32))
