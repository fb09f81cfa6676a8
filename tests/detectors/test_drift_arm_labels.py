"""ArmCategoryTest and ArmEmbeddingTest: the promise by its proof, seasons, found differences, resume."""

import math
from random import Random
from statistics import fmean

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.arm_category_test import ArmCategoryTest
from detectors.drift.arm_embedding_test import ArmEmbeddingTest

shares = st.floats(0.01, 0.99)
labels = st.sampled_from(["answer", "refusal", "question", "silence"])
vectors = st.lists(st.floats(-1.0, 1.0).filter(lambda x: abs(x) > 0.01), min_size=4, max_size=4)


def averages(test, x, share):
    """Return the statistic now, and its mean over the coin after a unit `x`."""
    state = test.to_state()
    now, expected = sum(state["products"]), 0.0
    for treated in (False, True):
        branch = type(test).from_state(state)
        branch.update(x, treated=treated, share=share)
        expected += (share if treated else 1.0 - share) * sum(branch.to_state()["products"])
    return now, expected


@given(past=st.lists(st.tuples(labels, st.booleans(), shares), max_size=30), x=labels, share=shares)
@settings(max_examples=100, deadline=None)
def test_for_every_label_the_coin_brings_no_evidence_on_average(past, x, share):
    test = ArmCategoryTest(most=3)
    for label, treated, then in past:
        test.update(label, treated=treated, share=then)
    now, expected = averages(test, x, share)
    assert expected == pytest.approx(now)


@given(past=st.lists(st.tuples(vectors, st.booleans(), shares), max_size=20), x=vectors, share=shares)
@settings(max_examples=60, deadline=None)
def test_for_every_embedding_the_coin_brings_no_evidence_on_average(past, x, share):
    test = ArmEmbeddingTest(dimensions=4)
    for vector, treated, then in past:
        test.update(np.array(vector), treated=treated, share=then)
    now, expected = averages(test, np.array(x), share)
    assert expected == pytest.approx(now)


def label_of(random, i, refusals):
    # In the evening people ask other things, and the release mix of the day moves with them.
    evening = 0.3 * (1 + math.sin(2 * math.pi * i / 700))
    if random.random() < refusals:
        return "refusal"
    return "question" if random.random() < evening else "answer"


def canary_units(seed, *, refusals, units):
    test, random, treated_units = ArmCategoryTest(alpha=0.01), Random(seed), 0
    for i in range(units):
        treated = random.random() < 0.1
        treated_units += treated
        test.update(label_of(random, i, refusals if treated else 0.02), treated=treated, share=0.1)
        if test.drift_detected:
            return treated_units
    return None


def test_labels_under_a_season_raise_no_false_alarm():
    assert [canary_units(seed, refusals=0.02, units=3000) for seed in range(30)].count(None) >= 29


def test_a_label_that_grows_in_the_canary_is_found():
    found = [canary_units(seed, refusals=0.12, units=20_000) for seed in range(15)]
    assert None not in found
    assert fmean(found) < 250


def embedding_units(seed, *, new_topic, units, d=32):
    random = np.random.default_rng(seed)
    topics = random.normal(size=(9, d)) / math.sqrt(d)
    test, treated_units = ArmEmbeddingTest(dimensions=d, alpha=0.01), 0
    for i in range(units):
        treated = bool(random.random() < 0.1)
        treated_units += treated
        season = int(random.integers(8)) if i % 600 < 300 else int(random.integers(4))
        topic = 8 if treated and random.random() < new_topic else season
        x = topics[topic] + random.normal(size=d) * 0.5 / math.sqrt(d)
        test.update(x, treated=treated, share=0.1)
        if test.drift_detected:
            return treated_units
    return None


def test_embeddings_under_a_season_raise_no_false_alarm():
    assert [embedding_units(seed, new_topic=0.0, units=1500) for seed in range(20)].count(None) >= 19


def test_a_new_topic_in_the_canary_is_found():
    found = [embedding_units(seed, new_topic=0.3, units=6000) for seed in range(8)]
    assert None not in found
    assert fmean(found) < 90


@pytest.mark.parametrize("cut", [0, 1, 30, 150])
def test_resume_is_exact(cut):
    random = np.random.default_rng(1)
    units = [
        (bool(random.random() < 0.3), random.normal(size=6) + 0.5, f"label {random.integers(8)}")
        for _ in range(200)
    ]
    for test, k in ((ArmCategoryTest(most=5), 2), (ArmEmbeddingTest(dimensions=6), 1)):
        for unit in units[:cut]:
            test.update(unit[k], treated=unit[0], share=0.3)
        resumed = type(test).from_state(msgspec.json.decode(msgspec.json.encode(test.to_state())))
        for unit in units[cut:]:
            test.update(unit[k], treated=unit[0], share=0.3)
            resumed.update(unit[k], treated=unit[0], share=0.3)
        assert test.to_state() == resumed.to_state()


def test_labels_beyond_the_most_are_counted_together():
    test = ArmCategoryTest(most=4)
    for i in range(1000):
        test.update(f"label {i}", treated=i % 3 == 0, share=1 / 3)
    assert set(test.to_state()["counts"]) == {"label 0", "label 1", "label 2", "other"}
    assert not test.drift_detected


def test_the_text_of_a_refusal_holds_no_user_text():
    for test, x in ((ArmCategoryTest(), "hunter2" * 20), (ArmEmbeddingTest(dimensions=4), ["hunter2"] * 4)):
        with pytest.raises(ValueError, match=r"label|vectors") as caught:
            test.update(x, treated=True, share=0.5)
        assert "hunter2" not in str(caught.value)
        assert test.refused == 1


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (ArmCategoryTest, {"most": 1}),
        (ArmCategoryTest, {"alpha": 0.0}),
        (ArmEmbeddingTest, {"dimensions": 1}),
        (ArmEmbeddingTest, {"dimensions": 10_000}),
        (ArmEmbeddingTest, {"dimensions": 8, "alpha": 1.0}),
    ],
)
def test_impossible_configuration_is_refused(kind, wrong):
    with pytest.raises(ValueError, match=r"most|dimensions|alpha"):
        kind(**wrong)
