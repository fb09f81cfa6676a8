"""Two releases side by side: pairs, intervals that hold together, and the right word for worse."""

import math
import random

import pytest

from detectors.comparison import MIN_UNITS, ReleaseSample, compare_releases
from detectors.records import Score, Scorecard


def sample(values, *, metric="m", direction="higher", prefix="u"):
    made = ReleaseSample()
    for number, value in enumerate(values):
        made.add(
            Scorecard(
                deployment="d", interaction_id="i", release="r", event_time_ms=0, received_at_ms=0,
                unit=f"{prefix}{number}",
                scores=(Score(name=metric, value=value, direction=direction,
                              status="abstained" if value is None else "scored"),),
            )
        )  # fmt: skip
    return made


def one(old, new, *, level=0.95):
    (row,) = compare_releases(old, new, level=level)
    return row


def test_the_same_units_are_compared_with_themselves():
    rng = random.Random(1)
    base = [rng.random() for _ in range(200)]
    old, new = sample(base), sample([min(1.0, value + 0.02) for value in base])
    paired = one(old, new)
    assert paired.paired
    assert paired.moved
    assert not paired.worse
    apart = one(old, sample([min(1.0, value + 0.02) for value in base], prefix="other"))
    assert not apart.paired
    assert not apart.moved
    assert apart.difference == pytest.approx(paired.difference)


@pytest.mark.parametrize(
    ("direction", "shift", "worse"),
    [("higher", -0.5, True), ("higher", 0.5, False), ("lower", 0.5, True), ("lower", -0.5, False),
     ("neutral", 0.5, False), ("neutral", -0.5, False)],
)  # fmt: skip
def test_worse_follows_the_direction(direction, shift, worse):
    base = [0.25 + 0.5 * (n % 2) if shift == 0 else (0.2 if shift > 0 else 0.8) for n in range(100)]
    row = one(sample(base, direction=direction), sample([b + shift for b in base], direction=direction))
    assert (row.moved, row.worse) == (True, worse)


def test_too_few_units_are_not_compared():
    assert compare_releases(sample([0.0] * (MIN_UNITS - 1)), sample([1.0] * 500)) == []
    assert len(compare_releases(sample([0.0] * MIN_UNITS), sample([1.0] * MIN_UNITS))) == 1
    assert compare_releases(ReleaseSample(), ReleaseSample()) == []


def test_samples_that_do_not_vary_still_have_an_interval():
    row = one(sample([0.0] * 30, prefix="a"), sample([0.0] * 30, prefix="b"))
    assert row.difference == 0.0
    assert row.interval.low < 0.0 < row.interval.high
    assert not row.moved


def test_abstentions_are_no_values_and_no_units():
    old = sample([0.5] * 40 + [None] * 1_000)
    assert one(old, sample([0.5] * 40)).n_old == 40
    assert not compare_releases(sample([None] * 100), sample([None] * 100))


def test_all_intervals_hold_together_as_often_as_promised():
    """Under no difference, with six metrics, any false *moved* at all is rarer than 1 - level."""
    rng = random.Random(5)
    wrong, rounds = 0, 150
    for _ in range(rounds):
        old, new = ReleaseSample(), ReleaseSample()
        for side, prefix in ((old, "o"), (new, "n")):
            for number in range(60):
                side.add(
                    Scorecard(
                        deployment="d", interaction_id="i", release="r", event_time_ms=0, received_at_ms=0,
                        unit=f"{prefix}{number}",
                        scores=tuple(
                            Score(name=f"m{k}", value=float(rng.random() < 0.1 * (k + 1))) for k in range(6)
                        ),
                    )
                )  # fmt: skip
        wrong += any(row.moved for row in compare_releases(old, new, level=0.9))
    assert wrong / rounds <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / rounds)


def test_the_largest_move_comes_first():
    old, new = ReleaseSample(), ReleaseSample()
    shifts = {"a": 0.0, "b": 0.2, "c": 0.6}
    for number in range(100):
        for side, sign in ((old, 0), (new, 1)):
            scores = tuple(Score(name=k, value=0.1 + sign * shift) for k, shift in shifts.items())
            side.add(Scorecard(deployment="d", interaction_id="i", release="r", event_time_ms=0,
                               received_at_ms=0, unit=f"u{number}", scores=scores))  # fmt: skip
    assert [row.metric for row in compare_releases(old, new)] == ["c", "b", "a"]


def test_a_wider_promise_gives_wider_intervals():
    rng = random.Random(2)
    old, new = (
        sample([rng.random() for _ in range(50)]),
        sample([rng.random() for _ in range(50)], prefix="n"),
    )
    widths = [one(old, new, level=level).interval for level in (0.5, 0.95, 0.999)]
    assert sorted(i.high - i.low for i in widths) == [i.high - i.low for i in widths]
