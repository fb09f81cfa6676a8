"""Detectors carried through a bucket before it closes: taken up where all is as expected, else never."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from detectors.records import Release
from detectors.stages import foresight
from detectors.stages.detect import DetectStage
from detectors.stages.detect_state import key_of
from tests.detectors.test_stage_bucket import in_steps
from tests.detectors.test_stage_detect import card, plan, run, ticks

UNIT = 1_000
MANY = 200
STABLE = Release(deployment="d", release="1", role="stable", started_at_ms=0)


def bucket(number, *, value=0.9, first=0, count=MANY, release="1"):
    """A bucket of two segments: long columns of `all` and of both."""
    return [
        card(1_000 * number + n, UNIT * number + n % 900, value=value, release=release, plan_name=f"p{n % 2}")
        for n in range(first, first + count)
    ]


def half_way(number):
    return ticks(UNIT * (number + 1) + 250)


def close(number):
    return ticks(UNIT * (number + 1) + 500)


@pytest.fixture
def looked_ahead():
    """A stage that has a reference, and the bucket 2 prepared."""
    stage = DetectStage(plan())
    state, _ = run(stage, [STABLE, *bucket(0), *close(0), *bucket(1), *half_way(1), *close(1)])
    state, _ = run(stage, [*bucket(2), *half_way(2)], state=state)
    return stage, state


@pytest.fixture
def fed_late(monkeypatch):
    """How many detectors each close still had to feed."""
    found = []

    def feed(watches, columns):
        found.append(len(watches))
        return original(watches, columns)

    original = foresight.feed_columns
    monkeypatch.setattr(foresight, "feed_columns", feed)
    return found


def test_a_bucket_that_stays_as_it_was_is_not_fed_again(looked_ahead, fed_late):
    stage, state = looked_ahead
    assert len(state.foresights[2 * UNIT, "d"]) == 3
    run(stage, close(2), state=state)
    assert fed_late == [0]
    assert not state.foresights


@pytest.mark.parametrize("lateness_ms", [0, 500, 1_000, 2_000, 3_000, 7_000])
def test_however_late_records_may_be_detectors_look_ahead_from_where_they_stand(lateness_ms, fed_late):
    stage = DetectStage(plan(lateness_ms=lateness_ms))
    state, _ = run(stage, [STABLE])
    for number in range(20):
        state, _ = run(stage, bucket(number), state=state)
        for at_ms in range(UNIT * number + 100, UNIT * (number + 1) + 100, 100):
            state, _ = run(stage, ticks(at_ms), state=state)
    fed = [count for count in fed_late if count]
    assert fed == [3] * len(fed)  # all at once, and each bucket but once
    closed = 20 - 1 - lateness_ms // UNIT
    assert closed - 1 <= len(fed) <= closed + 1  # one may be looked at and not closed yet
    assert len(state.foresights) <= 1


def test_looking_ahead_changes_nothing_that_is_stored(looked_ahead):
    _, state = looked_ahead
    again = DetectStage(plan())
    plain, _ = run(again, [STABLE, *bucket(0), *close(0), *bucket(1), *close(1), *bucket(2)])
    blobs = [{key: stream.to_state() for key, stream in one.streams.items()} for one in (plain, state)]
    assert blobs[0] == blobs[1]
    assert not plain.foresights


def test_a_segment_that_was_seen_ahead_is_kept_at_the_close_and_not_before():
    stage, key = DetectStage(plan()), key_of("segments", "d")
    first = [card(n, n, plan_name="p0") for n in range(MANY)]
    state, _ = run(stage, [STABLE, *first, *close(0)])
    state, _ = run(stage, [*bucket(1), *half_way(1)], state=state)
    assert (UNIT, "d") in state.foresights
    assert state.blobs.get(key) == {"plan": ["p0"]}
    run(stage, close(1), state=state)
    assert state.blobs.get(key) == {"plan": ["p0", "p1"]}


def test_what_comes_after_is_fed_at_the_close(looked_ahead, fed_late):
    stage, state = looked_ahead
    run(stage, [*bucket(2, first=MANY, count=1), *close(2)], state=state)
    assert fed_late == [2]  # the segment that it is not in stays as it was


def test_a_detector_that_went_on_meanwhile_is_fed_at_the_close(looked_ahead, fed_late):
    stage, state = looked_ahead
    for stream in dict(state.streams.items()).values():
        stream.watch.update(0.9)
    run(stage, close(2), state=state)
    assert fed_late == [3]


def test_a_new_reference_is_what_the_close_compares_with(looked_ahead):
    stage, state = looked_ahead
    plain, _ = run(DetectStage(plan()), [STABLE, *bucket(0), *close(0), *bucket(1), *close(1)])
    key = next(key for key, anchor in state.anchors.items() if anchor.segment == "all")
    other = replace(state.anchors[key], reference_id="other", approved_at_ms=2 * UNIT, mean=0.5)
    _, found = run(stage, [other, *close(2)], state=state)
    _, wanted = run(DetectStage(plan()), [*bucket(2), other, *close(2)], state=plain)
    assert found == wanted
    assert any(signal.reference_id == "other" for signal in found)


steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.3, 0.9, 1.0]),  # what the bucket's values are
        st.sampled_from([0, 30, 70, 150]),  # how many come before it is prepared
        st.sampled_from([0, 0, 1, 80]),  # and after
        st.sampled_from(["1", "2"]),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=25, deadline=None)
@given(steps, st.booleans())
def test_prepared_or_not_long_columns_give_the_same_to_the_last_bit(rows, restart):
    parts, together = [[STABLE, *bucket(0)], close(0)], [STABLE, *bucket(0), *close(0)]
    for number, (value, early, late, release) in enumerate(rows, 1):
        before = bucket(number, value=value, count=early, release=release)
        after = bucket(number, value=value, first=early, count=late, release=release)
        parts += [before, half_way(number), after, close(number)]
        together += [*before, *after, *close(number)]
    stage = DetectStage(plan())
    state, wanted = run(stage, together)
    ahead, found = in_steps(stage, parts, restart=restart)
    assert found == wanted
    one, other = ({key: stream.to_state() for key, stream in of.streams.items()} for of in (state, ahead))
    assert one == other
