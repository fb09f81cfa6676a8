"""A million updates leave the memory of a detector as it was.

What a detector holds is weighed as a pickle, after 10,000 updates and after a million; what it leaves
elsewhere is traced by the allocator over the last 20,000 of them.
"""

import gc
import pickle
import tracemalloc

import numpy as np
import pytest

from detectors.drift.arm_betting_test import ArmBettingTest
from detectors.drift.betting_sr import BettingSR
from detectors.drift.blocks_of_numbers import NumberBlocks
from detectors.drift.polya_block_sr import PolyaBlockSR
from detectors.drift.witness_reference import WitnessReference
from detectors.drift.witness_sr import WitnessSR

MILLION, EARLY, TRACED = 1_000_000, 10_000, 20_000
GROWN, LEFT = 200, 2_000  # bytes: counters and sums of other lengths; what the interpreter keeps for itself
ROUND = 10_000


def one_by_one(watch, values):
    def run():
        for value in values:
            watch.update(value)

    return run


def betting(random):
    watch = BettingSR(mean_low=0.89, mean_high=0.91)
    return watch, one_by_one(watch, (random.random(ROUND) < 0.9).astype(float).tolist())


def polya_block(random):
    blocks = NumberBlocks.fit(random.standard_normal(1000).tolist())
    watch = PolyaBlockSR(blocks=blocks)
    located = [blocks.locate(x, 0.5) for x in random.standard_normal(ROUND).tolist()]

    def run():
        for block in located:
            watch.update_block(block)

    return watch, run


def witness(random):
    reference = WitnessReference.fit(random.standard_normal((1000, 8)))
    watch, x = WitnessSR(reference=reference), random.standard_normal((ROUND, 8))
    return watch, lambda: watch.update_many(x)


def arms(random):
    watch = ArmBettingTest(worse="lower")
    units = list(zip((random.random(ROUND) < 0.9).astype(float), random.random(ROUND) < 0.1, strict=True))
    units = [(float(x), bool(treated)) for x, treated in units]

    def run():
        for x, treated in units:
            watch.update(x, treated=treated, share=0.1)

    return watch, run


@pytest.mark.parametrize("build", [betting, polya_block, witness, arms])
def test_a_million_updates_leave_memory_flat(build):
    watch, run = build(np.random.default_rng(7))
    for _ in range(EARLY // ROUND):
        run()
    early = len(pickle.dumps(watch))
    for _ in range((MILLION - EARLY - TRACED) // ROUND):
        run()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(TRACED // ROUND):
            run()
        gc.collect()
        left = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert watch.n == MILLION
    assert len(pickle.dumps(watch)) - early <= GROWN
    assert left <= LEFT
