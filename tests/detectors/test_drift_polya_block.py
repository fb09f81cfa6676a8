"""PolyaBlockSR: chances of blocks are exact whatever the data, and so is the promise made from them."""

import json
import math
from collections import Counter
from itertools import product

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.block_jitter import jitter
from detectors.drift.blocks_of_categories import CategoryBlocks
from detectors.drift.blocks_of_embeddings import EmbeddingBlocks
from detectors.drift.blocks_of_numbers import NumberBlocks
from detectors.drift.polya_block_sr import PolyaBlockSR


def labels(random, n):
    return random.choice(["yes", "no", "cannot tell", "rare"], size=n, p=[0.5, 0.3, 0.19, 0.01]).tolist()


def directions(random, n):
    return random.standard_normal((n, 3)) + np.array([1.0, 0.0, 0.0])


WORLDS = {
    "continuous": (lambda random, n: random.standard_cauchy(n).tolist(), NumberBlocks.fit, 20),
    "ties": (lambda random, n: random.integers(0, 3, n).astype(float).tolist(), NumberBlocks.fit, 20),
    "constant": (lambda random, n: [1.0] * n, NumberBlocks.fit, 20),
    "labels": (labels, CategoryBlocks.fit, 40),
    "embeddings": (lambda random, n: directions(random, n).tolist(), EmbeddingBlocks.fit, 40),
}


def reference_blocks(count, seed):
    return NumberBlocks.fit(np.random.default_rng(seed).standard_normal(count), seed=seed)


@pytest.mark.parametrize("name", WORLDS)
def test_chances_of_two_blocks_in_a_row_are_those_of_the_urn(name):
    # Tiny references, drawn anew each time: here a plug-in estimate of the chances would be far off.
    draw, fit, size = WORLDS[name]
    random, seen, expected, draws = np.random.default_rng(5), Counter(), Counter(), 1500
    for number in range(draws):
        blocks = fit(draw(random, size), seed=number)
        first, second = (blocks.locate(x, jitter(10**6 + number, i)) for i, x in enumerate(draw(random, 2)))
        seen[first == second, first] += 1
        gaps = sum(blocks.shares)
        for block, share in enumerate(blocks.shares):
            stays = share * (share + 1) / (gaps * (gaps + 1))
            expected[True, block] += stays
            expected[False, block] += share / gaps - stays
    large = [key for key, value in expected.items() if value >= 5]
    surprise = sum((seen[key] - expected[key]) ** 2 / expected[key] for key in large)
    assert surprise < len(large) + 4 * math.sqrt(2 * len(large))
    assert sum(seen.values()) == draws


@given(
    shares=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    past=st.lists(st.integers(0, 5), max_size=60),
)
@settings(max_examples=100, deadline=None)
def test_the_statistic_grows_by_exactly_one_on_average(shares, past):
    cuts = tuple(float(i) for i in range(len(shares) - 1))
    blocks = NumberBlocks(cuts=cuts, cut_jitters=(0.5,) * len(cuts), shares=tuple(shares))
    watch = PolyaBlockSR(blocks=blocks)
    for block in past:
        watch.update_block(block % len(shares))
    counts, state = watch.to_state()["counts"], watch.to_state()
    mean = value = 0.0
    for block, share in enumerate(shares):
        branch = PolyaBlockSR.from_state(state, blocks=blocks)
        branch.update_block(block)
        chance = (share + counts[block]) / (sum(shares) + len(past))
        mean += chance * sum(branch.to_state()["sums"]["sums"]) / 2
        value += chance * branch.companion.value
    assert mean == pytest.approx(sum(state["sums"]["sums"]) / 2 + 1.0, rel=1e-9)
    assert value <= watch.companion.value * (1 + 1e-9)


@pytest.mark.parametrize(("size", "alpha"), [(20, 5e-3), (200, 5e-3)])
def test_false_alarms_keep_their_promise_over_many_cycles_with_tiny_references(size, alpha):
    alarms, streams, length = [], 120, 1000
    for stream in range(streams):
        random = np.random.default_rng((7, size, stream))
        blocks = NumberBlocks.fit(random.exponential(size=size), seed=stream)
        watch = PolyaBlockSR(blocks=blocks, alpha=alpha, seed=stream)
        alarms.append(0)
        for x in random.exponential(size=length).tolist():
            watch.update(x)
            if watch.drift_detected:
                alarms[-1] += 1
                watch.reset()
    error = np.std(alarms) / math.sqrt(streams)
    assert np.mean(alarms) - 2 * error <= alpha * length
    assert np.mean(alarms) >= 0.3 * alpha * length  # and it is not kept by being deaf


def delay(watch, before, after):
    for x in before:
        watch.update(x)
        if watch.drift_detected:
            watch.reset()
    for count, x in enumerate(after, start=1):
        watch.update(x)
        if watch.drift_detected:
            return count
    pytest.fail("not found")


def test_a_change_of_the_spread_alone_is_found():
    delays = []
    for seed in range(20):
        random = np.random.default_rng((8, seed))
        watch = PolyaBlockSR(blocks=NumberBlocks.fit(random.beta(9, 1, 1000)), seed=seed, alpha=1e-4)
        delays.append(delay(watch, random.beta(9, 1, 300).tolist(), random.beta(3.6, 0.4, 1000).tolist()))
    assert np.mean(delays) < 90


def test_labels_never_seen_before_are_found_and_named_as_the_last_block():
    random = np.random.default_rng(9)
    watch = PolyaBlockSR(blocks=CategoryBlocks.fit(labels(random, 2000)), alpha=1e-4)
    mixed = ["new" if random.random() < 0.1 else label for label in labels(random, 400)]
    assert delay(watch, labels(random, 500), mixed) < 80
    excess = watch.excess()
    assert int(np.argmax(excess)) == len(excess) - 1
    assert sum(excess) == pytest.approx(0.0, abs=1e-9)
    assert watch.alarm_record == {
        "total": watch.total,
        "evidence": watch.evidence,
        "began_index": watch.began_index,
    }


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_a_constant_reference_is_quiet_on_itself_and_finds_a_change(constant):
    watch = PolyaBlockSR(blocks=NumberBlocks.fit([constant] * 200), alpha=1e-5)
    assert delay(watch, [constant] * 2000, [0.5] * 50) < 50


def test_a_constant_set_of_labels_finds_a_new_one():
    watch = PolyaBlockSR(blocks=CategoryBlocks.fit(["same"] * 200), alpha=1e-5)
    assert delay(watch, ["same"] * 1000, ["other"] * 50) < 10


def test_embeddings_of_a_new_topic_are_found():
    random = np.random.default_rng(11)
    topics = random.standard_normal((5, 24)) * 2

    def texts(n, some):
        return topics[random.choice(some, n)] + random.standard_normal((n, 24))

    watch = PolyaBlockSR(blocks=EmbeddingBlocks.fit(texts(2000, [0, 1, 2, 3])), alpha=1e-4)
    after = np.where(random.random((400, 1)) < 0.3, texts(400, [4]), texts(400, [0, 1, 2, 3]))
    assert delay(watch, texts(500, [0, 1, 2, 3]), after) < 150


def test_blocks_are_an_artefact_that_survives_json():
    random = np.random.default_rng(12)
    for blocks in (
        NumberBlocks.fit(random.standard_normal(50)),
        CategoryBlocks.fit(labels(random, 90)),
        EmbeddingBlocks.fit(directions(random, 90)),
    ):
        again = msgspec.json.decode(msgspec.json.encode(blocks), type=type(blocks))
        assert again == blocks
        watch = PolyaBlockSR(blocks=blocks)
        assert PolyaBlockSR.from_state(watch.to_state(), blocks=again).blocks is again


def test_the_state_of_other_blocks_is_refused():
    state = PolyaBlockSR(blocks=reference_blocks(100, 1)).to_state()
    with pytest.raises(ValueError, match="other blocks"):
        PolyaBlockSR.from_state(state, blocks=reference_blocks(100, 2))
    for wrong in ({"counts": [0]}, {"weights": [[0.0] * 8]}, {"rates": [0.1]}, {"units": []}):
        with pytest.raises(ValueError, match="numbers of"):
            PolyaBlockSR.from_state({**state, **wrong}, blocks=reference_blocks(100, 1))


@pytest.mark.parametrize(
    ("fit", "reference", "message"),
    [
        (NumberBlocks.fit, [0.0] * 19, "at least 20"),
        (NumberBlocks.fit, [0.0] * 30 + [math.nan], "not finite"),
        (CategoryBlocks.fit, ["a"] * 39, "at least 40"),
        (CategoryBlocks.fit, ["a"] * 40 + [None], "not a string"),
        (EmbeddingBlocks.fit, np.ones((39, 3)), "n >= 40"),
        (EmbeddingBlocks.fit, np.zeros((50, 3)), "no direction"),
        (EmbeddingBlocks.fit, np.ones((50, 3), dtype=int), "floats"),
        (EmbeddingBlocks.fit, [1.0] * 50, "shape"),
    ],
)
def test_impossible_references_are_refused(fit, reference, message):
    with pytest.raises(ValueError, match=message):
        fit(reference)


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.0}, {"alpha": 1.0}, {"rates": ()}, {"rates": (0.0,)}, {"rates": (1.0,)}]
)
def test_impossible_configuration_is_refused(wrong):
    with pytest.raises(ValueError, match=r"alpha|rates|bets"):
        PolyaBlockSR(blocks=reference_blocks(50, 1), **wrong)


@given(sizes=st.tuples(st.integers(20, 80), st.integers(2, 20)), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_every_gap_of_the_reference_belongs_to_one_block(sizes, seed):
    count, blocks = sizes
    reference = np.random.default_rng(seed).integers(0, 5, count).astype(float)
    made = NumberBlocks.fit(reference, blocks=blocks, seed=seed)
    assert sum(made.shares) == count + 1
    assert len(made.shares) <= blocks
    assert min(made.shares) >= 5
    held = Counter(made.locate(float(x), 1.0 - 2**-53) for x in range(-1, 6))
    assert set(held) <= set(range(len(made.shares)))


def test_a_refusal_names_no_text_of_a_user():
    watch = PolyaBlockSR(blocks=CategoryBlocks.fit(["a", "b"] * 30))
    with pytest.raises(ValueError, match="a bytes") as caught:
        watch.update(b"my password is hunter2")
    assert "hunter2" not in str(caught.value)
    numbers = PolyaBlockSR(blocks=reference_blocks(50, 1))
    with pytest.raises(ValueError, match="a str") as caught:
        numbers.update("hunter2")
    assert "hunter2" not in str(caught.value)


def test_many_observations_leave_the_state_flat():
    watch = PolyaBlockSR(blocks=reference_blocks(500, 3), alpha=1e-6)
    codes = np.random.default_rng(4).integers(0, 8, 1000).tolist()
    for _, code in product(range(10), codes):
        watch.update_block(code)
    early = len(json.dumps(watch.to_state()))
    for _, code in product(range(190), codes):
        watch.update_block(code)
    assert watch.total == 200_000
    assert len(json.dumps(watch.to_state())) <= 1.3 * early
    assert math.isfinite(watch.evidence)
    assert len(msgspec.msgpack.encode(watch.to_state())) <= 1500
