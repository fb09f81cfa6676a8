"""The measuring itself: run lengths, delays, the limit, and that an evaluation says what it measured."""

import math
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.drift.betting_sr import BettingSR
from detectors.evaluate import part_canary, part_delays, part_embeddings, part_false_alarms, part_fleet
from detectors.evaluate.contenders import KNOWN, Start, river_contenders, special_contenders
from detectors.evaluate.feeding import InABank, OneByOne
from detectors.evaluate.figures import FULL, SMALL, Figure, arl_figure, bar, delay_figure
from detectors.evaluate.grid import PARTS, conclude, plan
from detectors.evaluate.oracle import OracleSR, likelihood_ratios, world_oracle
from detectors.evaluate.report import to_markdown
from detectors.evaluate.run_lengths import delay, delays_after, run_length
from detectors.worlds.changes import Change, generator
from detectors.worlds.numbers import NumberWorld


def test_the_lower_bound_covers_where_alarms_come_at_random():
    random = np.random.default_rng(1)
    bounds = [run_length(random.poisson(1.5, size=60), horizon=15_000).low for _ in range(400)]
    assert 0.93 <= np.mean(np.array(bounds) <= 10_000) <= 0.995


def test_unlucky_references_widen_the_bound():
    even = run_length([2] * 50, horizon=10_000)
    uneven = run_length([0] * 45 + [20] * 5, horizon=10_000)
    assert even.arl == uneven.arl
    assert uneven.low < 0.8 * even.low


def test_no_alarm_is_a_bound_and_no_stream_an_error():
    found = run_length([0] * 30, horizon=1_000)
    assert (found.arl, found.alarms) == (30_000, 0)
    assert found.low == pytest.approx(30_000 / 3.3, rel=0.05)
    for measure in (run_length, delay):
        with pytest.raises(ValueError, match="no streams"):
            measure([], 10)


@given(st.lists(st.one_of(st.floats(1, 100), st.just(math.nan)), min_size=1, max_size=30))
@settings(deadline=None)
def test_a_miss_counts_as_the_horizon(delays):
    found = delay(delays, horizon=100)
    assert found.mean == pytest.approx(np.mean([100.0 if math.isnan(d) else d for d in delays]))
    assert found.missed == pytest.approx(np.mean([math.isnan(d) for d in delays]))


def test_alarms_before_the_change_are_no_detections():
    alarms = np.zeros((2, 10), dtype=bool)
    alarms[0, [1, 7]] = True
    alarms[1, 3] = True
    assert delays_after(alarms, 5).tolist()[0] == 3.0
    assert math.isnan(delays_after(alarms, 5)[1])


@given(seed=st.integers(0, 2**16))
@settings(max_examples=5, deadline=None)
def test_a_bank_and_one_by_one_alarm_at_the_same_places(seed):
    random = generator(seed)
    x = (random.random((6, 900)) < np.where(np.arange(900) < 400, 0.9, 0.6)).astype(float)

    def build(_: int) -> BettingSR:
        return BettingSR(mean_low=0.9, mean_high=0.9, alpha=1e-3)

    banked, single = InABank(build).run(x), OneByOne(build).run(x)
    for row in range(6):
        assert np.flatnonzero(banked[row])[:1] == np.flatnonzero(single[row])[:1]


@pytest.mark.parametrize("family", ["bernoulli", "beta"])
def test_likelihood_ratios_average_to_one_in_control(family):
    world = NumberWorld(family=family, mean_after=0.8)
    x = world.draw(generator(2), replications=200, length=2_000)
    ratios = likelihood_ratios(world_oracle(world, 100.0), x)
    assert ratios.mean() == pytest.approx(1.0, abs=0.01)


def test_the_oracle_keeps_its_run_length_and_is_calibrated_to_one():
    world = NumberWorld(mean_after=0.8)
    x = world.draw(generator(3), replications=300, length=10_000)
    assert run_length(world_oracle(world, 1e3).run(x).sum(axis=1), 10_000).arl >= 0.95e3
    oracle = world_oracle(world, 1e3).calibrated(x, 2_000.0)
    assert run_length(oracle.run(x).sum(axis=1), 10_000).arl == pytest.approx(2_000, rel=0.05)


def test_nobody_is_faster_than_the_limit():
    world = NumberWorld(mean_after=0.8, change=Change(kind="abrupt", at=500))
    null = NumberWorld().draw(generator(4), replications=100, length=20_000)
    x = world.draw(generator(5), replications=300, length=2_500)
    runner = KNOWN.runner([Start(mean=0.9, row=row) for row in range(300)])
    length = run_length(KNOWN.runner([Start(mean=0.9)] * 100).run(null).sum(axis=1), 20_000)
    oracle = world_oracle(world, 1e4).calibrated(null, length.arl)
    ours = delay(delays_after(runner.run(x, until=500), 500), 2_000)
    limit = delay(delays_after(oracle.run(x), 500), 2_000)
    assert limit.mean < ours.mean + 2 * math.hypot(ours.se, limit.se)
    assert ours.mean < 1.5 * limit.mean


def test_what_has_no_oracle_is_refused():
    with pytest.raises(ValueError, match="no oracle"):
        likelihood_ratios(OracleSR(family="ordinal", before=0.9, after=0.8, threshold=1.0), np.zeros((1, 1)))
    with pytest.raises(ValueError, match="change of the mean"):
        world_oracle(NumberWorld(), 1e3)


def test_rivers_detectors_run_as_river_runs_them():
    random = Random(6)
    values = [float(random.random() < (0.9 if i < 1_000 else 0.4)) for i in range(1_500)]
    for contender in (*river_contenders(), *special_contenders()):
        alone = contender.make(Start(mean=0.9))
        expected = []
        for index, value in enumerate(values):
            alone.update(value)
            if alone.drift_detected:
                expected.append(index)
        found = contender.runner([Start(mean=0.9)]).run(np.array([values]))
        assert np.flatnonzero(found[0]).tolist() == expected
        assert any(index >= 1_000 for index in expected)


def test_every_part_has_steps_and_every_step_its_part():
    for effort in (SMALL, FULL):
        tasks = plan(PARTS, effort, 10_000)
        assert {task.part for task in tasks} == set(PARTS)
        assert len({(task.part, task.name) for task in tasks}) == len(tasks)
    assert FULL.pairs >= 300
    assert FULL.embedding_pairs >= 300
    assert FULL.fleets >= 100


def test_bars_fall_where_a_figure_is_bad():
    good = arl_figure("false-alarms", "D", "w", [1] * 900, horizon=10_000)
    bad = arl_figure("false-alarms", "D", "w", [2] * 900, horizon=10_000)
    assert [b.held for b in part_false_alarms.judge([good, bad])] == [True, False]
    fleet = Figure(part="fleet", detector="D", world="w", measure="alarms", value=19.9, high=20.5, n=100)
    assert [b.held for b in part_fleet.judge([fleet])] == [False]
    slow = Figure(part="canary", detector="D", world="drop of 0.1", measure="units", value=151.0, n=100)
    assert [b.held for b in part_canary.judge([slow])] == [False]
    assert bar(1, "equal", 1.0, ">=", 1.0).held


def test_rivals_with_shorter_run_lengths_do_not_count():
    world = "bernoulli .90 -> 0.80"
    ours, theirs = KNOWN.name, river_contenders()[0].name
    others = [c.name for c in river_contenders()[1:]]
    figures = [
        arl_figure("delays", ours, "bernoulli", [2] * 10, 20_000),
        delay_figure("delays", ours, world, [100.0, 110.0], 500),
    ]
    for name in (theirs, *others):
        figures.append(delay_figure("delays", name, world, [10.0, 11.0], 500))
        alarms = [1] * 10 if name == theirs else [9] * 10
        figures.append(arl_figure("delays", name, "bernoulli", alarms, 20_000))
    beaten = [b for b in part_delays.judge(figures) if "slower than river" in b.name]
    assert [b.held for b in beaten] == [False]
    assert theirs in beaten[0].note
    fair = [
        arl_figure("delays", theirs, "bernoulli", [9] * 10, 20_000)
        if f.detector == theirs and f.measure == "arl"
        else f
        for f in figures
    ]
    assert [b for b in part_delays.judge(fair) if "slower than river" in b.name] == []


def test_sharing_must_not_cost_more_than_a_tenth():
    world = "10 % new topic, d=8"
    figures = [
        delay_figure("embeddings", name, world, [mean], 1_000)
        for name, mean in (("EmbeddingSR", 112.0), ("PolyaBlockSR", 100.0), ("WitnessSR", 900.0))
    ]
    assert [b.held for b in part_embeddings.judge(figures)] == [True, False]


def test_an_evaluation_survives_json_and_says_what_it_is():
    figures = plan(["releases"], SMALL, 10_000)[0].run()
    done = conclude(["releases"], SMALL, 10_000, figures)
    assert msgspec.json.decode(msgspec.json.encode(done), type=type(done)) == done
    text = to_markdown(done)
    assert "1 of 1 held" in text
    assert figures[0].world in text
    assert "proves nothing" not in text
    assert "proves nothing" in to_markdown(conclude(["releases"], SMALL, 7, figures))
