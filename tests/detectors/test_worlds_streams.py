"""Worlds of numbers, labels and embeddings: true to their means, changed when they say they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.worlds.canaries import CanaryWorld
from detectors.worlds.categories import CategoryWorld, with_share
from detectors.worlds.changes import Change, generator
from detectors.worlds.dependence import MemoryWorld, SeasonalWorld, SessionWorld, block_means
from detectors.worlds.embeddings import EmbeddingWorld
from detectors.worlds.numbers import NumberWorld
from detectors.worlds.segments import SegmentWorld, hidden_fall, pure_mix_shift

FAMILIES = ("bernoulli", "beta", "ordinal")


@pytest.mark.parametrize("family", FAMILIES)
@given(mean=st.floats(0.02, 0.98), after=st.floats(0.02, 0.98), seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_numbers_have_the_means_they_say(family, mean, after, seed):
    world = NumberWorld(family=family, mean=mean, mean_after=after, change=Change(kind="abrupt", at=50))
    x = world.draw(generator(seed), replications=300, length=100)
    assert x.shape == (300, 100)
    assert 0.0 <= x.min() <= x.max() <= 1.0
    assert x[:, :50].mean() == pytest.approx(mean, abs=5 * 0.5 / np.sqrt(15_000))
    assert x[:, 50:].mean() == pytest.approx(after, abs=5 * 0.5 / np.sqrt(15_000))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_drawn_in_pieces_has_its_change_where_it_belongs(family):
    world = NumberWorld(family=family, mean_after=0.1, change=Change(kind="abrupt", at=60))
    random = generator(3)
    pieces = [world.draw(random, replications=400, length=40, start=start) for start in (0, 40, 80)]
    means = np.concatenate(pieces, axis=1).mean(axis=0)
    assert means[:60].min() > 0.7
    assert means[60:].max() < 0.3


@pytest.mark.parametrize("family", ["beta", "ordinal"])
def test_a_shape_change_keeps_the_mean_and_changes_the_spread(family):
    world = NumberWorld(
        family=family,
        mean=0.7,
        concentration=20.0,
        concentration_after=1.0,
        change=Change(kind="shape", at=100),
    )
    x = world.draw(generator(4), replications=400, length=200)
    assert x[:, 100:].mean() == pytest.approx(x[:, :100].mean(), abs=0.02)
    assert x[:, 100:].std() > 1.25 * x[:, :100].std()


def test_a_ramp_rises_evenly():
    world = NumberWorld(mean=0.2, mean_after=0.8, change=Change(kind="ramp", at=10, over=60))
    means = world.means(0, 100)
    assert np.all(np.diff(means) >= 0.0)
    assert means[:10].tolist() == [0.2] * 10
    assert means[69:] == pytest.approx(0.8)
    assert means[39] == pytest.approx(0.5)


def test_what_no_world_can_be_is_refused():
    with pytest.raises(ValueError, match="no shape"):
        NumberWorld(change=Change(kind="shape", at=1))
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        NumberWorld(mean=1.5)
    with pytest.raises(ValueError, match="positive"):
        NumberWorld(family="beta", concentration=0.0)
    with pytest.raises(ValueError, match="over >= 1"):
        Change(kind="ramp", at=0, over=0)
    with pytest.raises(ValueError, match="sum to 1"):
        CategoryWorld(before=(0.5, 0.4), after=(0.5, 0.5))
    with pytest.raises(ValueError, match="as many categories"):
        CategoryWorld(before=(0.5, 0.5), after=(1.0,))
    with pytest.raises(ValueError, match="one share"):
        SegmentWorld(names=("a",), shares=(1.0,), rates=(), shares_after=(1.0,), rates_after=(0.5,))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_equal_seeds_give_equal_streams(seed):
    for world in (NumberWorld(family="beta"), SeasonalWorld(), SessionWorld(), MemoryWorld()):
        first, again = (world.draw(generator(seed, 1), replications=3, length=50) for _ in range(2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, world.draw(generator(seed, 2), replications=3, length=50))


def test_seasons_average_out_and_drops_stay():
    world = SeasonalWorld(period=200, amplitude=0.08, drop=0.1, change=Change(kind="abrupt", at=2_000))
    means = world.means(0, 4_000)
    assert means[:2_000].mean() == pytest.approx(0.9)
    assert means[2_000:].mean() == pytest.approx(0.8)
    assert np.ptp(means[:200]) == pytest.approx(0.16, abs=0.001)
    bins = world.bins_of(0, 400)
    assert sorted(set(bins.tolist())) == list(range(24))
    assert np.array_equal(bins[:200], bins[200:])


def test_messages_of_a_session_depend_and_sessions_do_not():
    world = SessionWorld()
    units = world.draw(generator(5), replications=200, length=500)
    assert units.mean() == pytest.approx(0.9, abs=0.005)
    neighbours = np.corrcoef(units[:, :-1].ravel(), units[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.02
    messages = world.messages_of(generator(6), sessions=20_000)
    assert np.corrcoef(messages[:-1], messages[1:])[0, 1] > 0.1


def test_memory_decays_as_it_says():
    x = MemoryWorld(memory=0.6).draw(generator(7), replications=50, length=20_000)
    for distance in (1, 2, 3):
        found = np.corrcoef(x[:, :-distance].ravel(), x[:, distance:].ravel())[0, 1]
        assert found == pytest.approx(0.6**distance, abs=0.01)
    blocks = block_means(x, 100)
    assert abs(np.corrcoef(blocks[:, :-1].ravel(), blocks[:, 1:].ravel())[0, 1]) < 0.05


def test_canary_users_differ_stick_and_are_worse_by_the_drop():
    world = CanaryWorld(amplitude=0.0, drop=0.2, spread=3.0, visits=4.0)
    x, treated = world.draw(generator(8), replications=100, length=2_000)
    assert treated.mean() == pytest.approx(0.1, abs=0.01)
    assert x[~treated].mean() == pytest.approx(0.9, abs=0.005)
    assert x[treated].mean() == pytest.approx(0.9 - 0.2, abs=0.03)  # the worst users cannot fall by all of it
    alike = CanaryWorld(amplitude=0.0, visits=4.0).draw(generator(8), replications=100, length=2_000)[0]
    assert x[~treated].std() > 1.2 * alike.std()


def test_labels_have_their_shares():
    before = (0.5, 0.3, 0.2)
    after = with_share(before, 2, 0.6)
    world = CategoryWorld(before=before, after=after, change=Change(kind="abrupt", at=500))
    labels = world.draw(generator(9), replications=100, length=1_000)
    for part, shares in ((labels[:, :500], before), (labels[:, 500:], after)):
        assert np.bincount(part.ravel(), minlength=3) / part.size == pytest.approx(shares, abs=0.01)
    assert world.reference(generator(9), replications=2, n=30).shape == (2, 30)


@pytest.mark.parametrize("kind", ["new_topic", "more_of_a_topic", "mean_shift"])
def test_embeddings_change_as_they_say_and_stay_on_the_sphere(kind):
    at = 3_000
    world = EmbeddingWorld(d=32, kind=kind, size=0.5, change=Change(kind="abrupt", at=at))
    x = world.stream(seed=10, length=2 * at)
    assert np.allclose(np.linalg.norm(x, axis=1), 1.0, atol=1e-5)
    moved = np.linalg.norm(x[:at].mean(axis=0) - x[at:].mean(axis=0))
    still = np.linalg.norm(x[: at // 2].mean(axis=0) - x[at // 2 : at].mean(axis=0))
    assert moved > 4 * still
    reference = world.reference(seed=10, n=at)
    assert np.linalg.norm(reference.mean(axis=0) - x[:at].mean(axis=0)) < 0.1 * moved + 2 * still


def test_embeddings_in_pieces_are_those_of_one_piece_and_worlds_differ():
    world = EmbeddingWorld(d=8)
    whole = world.stream(seed=11, length=5_000)
    assert np.array_equal(np.concatenate(list(world.batches(seed=11, length=5_000))), whole)
    assert not np.allclose(world.stream(seed=12, length=100), whole[:100])


def test_the_hidden_fall_is_hidden_and_the_mix_shift_pure():
    hidden, mix = hidden_fall(at=0), pure_mix_shift(at=0)
    whole = np.dot(hidden.shares_after, hidden.rates_after)
    assert whole > np.dot(hidden.shares, hidden.rates)
    assert hidden.rates_after[0] == 0.6
    assert mix.rates == mix.rates_after
    assert mix.shares != mix.shares_after
