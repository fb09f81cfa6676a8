"""The false-page budget: shares, traffic, new segments, merged parents, the triage list; a small fleet."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.betting_sr import BettingSR
from detectors.drift.budget import FalsePageBudget, merge_evidence
from detectors.drift.triage import triage

weights = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6)


def scaled(values, total):
    return [value / sum(values) * total for value in values]


def budget_of(metrics, segments, pages=20.0):
    names = [f"m{i}" for i in range(len(metrics))]
    return FalsePageBudget(
        pages_per_week=pages,
        metrics=dict(zip(names, scaled(metrics, 0.999), strict=True)),
        segments={name: {f"s{i}": w for i, w in enumerate(scaled(segments, 0.9))} for name in names},
    )


@given(metrics=weights, segments=weights, units=st.lists(st.floats(1.0, 1e6), min_size=36, max_size=36))
@settings(max_examples=100, deadline=None)
def test_all_streams_together_never_spend_more_than_the_budget(metrics, segments, units):
    budget, spent, traffic = budget_of(metrics, segments), 0.0, iter(units)
    for metric, shares in budget.segments.items():
        for segment in shares:
            n = next(traffic)
            spent += budget.alpha(metric, segment, units=n) * n
    assert spent <= 20.0 * (1 + 1e-9)
    assert 0.0 <= budget.unspent <= 1.0


@given(metrics=weights, segments=weights, weight=st.floats(0.01, 0.99))
@settings(max_examples=100, deadline=None)
def test_a_new_segment_never_raises_the_number_of_pages(metrics, segments, weight):
    before = budget_of(metrics, segments)
    after = before.with_segment("m0", "new", weight)
    assert sum(after.segments["m0"].values()) <= 1 + 1e-9
    assert all(after.share("m0", name) <= before.share("m0", name) for name in before.segments["m0"])
    assert all(
        after.share(metric, name) == before.share(metric, name)
        for metric in before.metrics
        for name in before.segments[metric]
        if metric != "m0"
    )


def test_a_segment_that_fits_into_what_is_free_costs_the_others_nothing():
    budget = FalsePageBudget(pages_per_week=1.0, metrics={"a": 1.0}, segments={"a": {"all": 0.5}})
    grown = budget.with_segment("a", "plan=pro", 0.5)
    assert (grown.share("a"), grown.share("a", "plan=pro"), grown.unspent) == (0.5, 0.5, 0.0)


def test_what_nobody_weighed_cannot_page():
    budget = FalsePageBudget(pages_per_week=1.0, metrics={"a": 0.5})
    for metric, segment in (("b", "all"), ("a", "plan=pro")):
        with pytest.raises(ValueError, match="no share"):
            budget.alpha(metric, segment, units=10)
    assert budget.alpha("a", units=0.1) == 0.5
    for units in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="units"):
            budget.alpha("a", units=units)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pages_per_week": 0.0},
        {"pages_per_week": float("nan")},
        {"metrics": {}},
        {"metrics": {"a": 0.6, "b": 0.6}},
        {"metrics": {"a": -0.1}},
        {"segments": {"b": {"all": 1.0}}},
        {"segments": {"a": {"x": 0.9, "y": 0.2}}},
    ],
)
def test_impossible_budgets_are_refused(wrong):
    with pytest.raises(ValueError, match=r"pages_per_week|weight"):
        FalsePageBudget(**{"pages_per_week": 1.0, "metrics": {"a": 1.0}, **wrong})
    with pytest.raises(ValueError, match=r"new segment|unknown"):
        FalsePageBudget(pages_per_week=1.0, metrics={"a": 1.0}).with_segment("a", "all", 0.1)


def tables(detectors):
    """Return weights, kept and risk of all bets, and end and slope of both sides: arrays over the streams."""
    bets = np.array([[[*w] for side in one._sides for w in side.wagers] for one in detectors])
    ends = np.array([[side.end for side in one._sides] for one in detectors])
    slopes = np.array([[side.slope for side in one._sides] for one in detectors])
    return bets, np.repeat(ends, 7, axis=1), np.repeat(slopes, 7, axis=1)


def first_alarms(detectors, x):
    """Return alarms (with a reset after each) and the index of the first one for every row of `x`."""
    bets, ends, slopes = tables(detectors)
    sums, first = np.zeros(bets.shape[:2]), np.full(len(x), x.shape[1])
    limit, alarms = 1.0 / detectors[0].alpha, np.zeros(len(x), dtype=int)
    for t in range(x.shape[1]):
        factors = bets[..., 1] + bets[..., 2] * ((x[:, t, None] - ends) * slopes)
        sums = (sums + bets[..., 0]) * factors
        hit = sums.sum(axis=1) >= limit
        alarms += hit
        first[hit & (first == x.shape[1])] = t
        sums[hit] = 0.0
    return alarms, first


def test_the_arrays_of_this_file_are_the_detector():
    random = np.random.default_rng(1)
    x = (random.random((3, 600)) < np.where(np.arange(600) < 300, 0.9, 0.6)).astype(float)
    detectors = [BettingSR(mean_low=m, mean_high=m, reference_units=900) for m in (0.88, 0.9, 0.92)]
    _, first = first_alarms(detectors, x)
    for detector, row, found in zip(detectors, x, first, strict=True):
        for value in row:
            detector.update(float(value))
            if detector.drift_detected:
                break
        assert detector.n - 1 == found


def test_a_fleet_keeps_its_budget_and_finds_its_changes():
    streams, units, pages = 400, 500, 20.0
    shares = {"m": {f"s{i}": 1.0 / streams for i in range(streams)}}
    budget = FalsePageBudget(pages_per_week=pages, metrics={"m": 1.0}, segments=shares)
    alpha, random = budget.alpha("m", "s0", units=units), np.random.default_rng(2)
    false = []
    for _ in range(6):
        means = random.uniform(0.7, 0.97, streams)
        pinned = random.binomial(5000, means) / 5000
        detectors = [BettingSR(mean_low=m, mean_high=m, alpha=alpha, reference_units=5000) for m in pinned]
        x = (random.random((streams, units)) < means[:, None]).astype(float)
        false.append(first_alarms(detectors, x)[0].sum())
    assert np.mean(false) + 2 * np.std(false, ddof=1) / np.sqrt(len(false)) <= pages
    assert np.mean(false) >= 0.2 * pages  # the promise is not kept by deafness
    changed = (random.random((streams, 1200)) < (means - 0.1)[:, None]).astype(float)
    assert (first_alarms(detectors, changed)[1] < 1200).all()


@given(st.lists(st.tuples(st.floats(0.0, 1e6), st.floats(0.01, 1.0)), min_size=1, max_size=8))
def test_a_parent_lies_between_its_children(children):
    statistics, chosen = zip(*children, strict=True)
    merged = merge_evidence(statistics, scaled(chosen, 1.0))
    assert min(statistics) * (1 - 1e-9) <= merged <= max(statistics) * (1 + 1e-9)


@pytest.mark.parametrize(
    "wrong", [([], []), ([1.0], [0.5]), ([1.0], [0.5, 0.5]), ([-1.0], [1.0]), ([float("nan")], [1.0])]
)
def test_impossible_parents_are_refused(wrong):
    with pytest.raises(ValueError, match=r"children|finite|add up"):
        merge_evidence(*wrong)


@given(st.dictionaries(st.text(max_size=5), st.floats(0.0, 1e9), max_size=12), st.floats(0.01, 0.99))
def test_triage_lists_the_largest_set_that_its_rule_allows(evidence, share):
    listed = triage(evidence, false_share=share)
    ranked = sorted(evidence.values(), reverse=True)
    allowed = [k for k in range(1, len(ranked) + 1) if ranked[k - 1] * share * k >= len(ranked)]
    assert len(listed) == max(allowed, default=0)
    assert sorted((evidence[name] for name in listed), reverse=True) == ranked[: len(listed)]


def test_triage_of_a_fleet_has_few_false_entries():
    random, false, found = np.random.default_rng(3), 0, 0
    for _ in range(20):
        # A likelihood ratio of a shift by 4 standard errors: mean 1 where there is none.
        z = random.normal(size=200) + np.where(np.arange(200) < 20, 4.0, 0.0)
        listed = triage({f"{k}": float(np.exp(4.0 * z[k] - 8.0)) for k in range(200)}, false_share=0.1)
        false += sum(int(name) >= 20 for name in listed)
        found += sum(int(name) < 20 for name in listed)
    assert false <= 0.1 * (false + found) + 2
    assert found >= 20 * 20 * 0.5


def test_triage_refuses_what_is_no_evidence():
    for evidence, share in (({"a": -1.0}, 0.1), ({"a": float("nan")}, 0.1), ({"a": 1.0}, 0.0)):
        with pytest.raises(ValueError, match=r"e-value|false_share"):
            triage(evidence, false_share=share)
    assert triage({}) == []
