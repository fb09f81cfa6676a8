"""What is made of a bucket before it closes: the same as at its close, and nothing for names without end."""

from hypothesis import example, given
from hypothesis import strategies as st

from detectors.records import Arm, Release, Tick
from detectors.stages import Delivery
from detectors.stages import bucket as buckets
from detectors.stages.bucket import Bucket
from detectors.stages.detect import DetectStage
from tests.detectors.test_stage_detect import card, plan, run, ticks

HALF_WAY = ticks(1_250)
"""The bucket from 0 has ended at 1,000; it closes at 1,500."""
RELEASES = [
    Release(deployment="d", release="1", role="stable", started_at_ms=0),
    Release(deployment="d", release="2", role="candidate", started_at_ms=0, share=0.5),
]


def test_half_of_the_lateness_before_the_close_a_bucket_is_prepared():
    state, _ = run(DetectStage(plan()), [card(1, 100), *ticks(1_249)])
    assert not state.prepared
    state, _ = run(DetectStage(plan()), [Tick(1, 1_250), Tick(0, 1_250)], state=state)
    prepared = state.prepared[0, "d"]
    assert state.take_bucket(0, "d") is prepared


def test_what_comes_later_is_in_the_bucket_that_closes():
    stage = DetectStage(plan())
    state, _ = run(stage, [card(1, 100), *HALF_WAY])
    state, _ = run(stage, [card(2, 200)], state=state)
    taken = state.take_bucket(0, "d")
    assert sorted(entry.interaction_id for entry in taken.entries) == ["i1", "i2"]
    assert taken.served == {"1": 2}
    assert not state.prepared


cards = st.lists(
    st.tuples(
        st.integers(0, 2_999),
        st.sampled_from(["1", "2", "3"]),
        st.sampled_from([0.0, 0.25, 1.0]),
        st.sampled_from(["free", "pro", "team"]),
        st.sampled_from([None, 0.5]),
    ),
    max_size=60,
)


def made(rows, begin):
    return [
        card(
            number, at_ms, release=release, value=value, plan_name=name,
            arm=None if share is None else Arm("x", share),
        )
        for number, (at_ms, release, value, name, share) in enumerate(rows, begin)
    ]  # fmt: skip


@example(
    [(0, "1", 0.0, "free", None), (1_000, "1", 0.0, "free", None)],
    [(1_000, "1", 0.0, "free", None)] * 2,
    0,
    True,
)
@given(cards, cards, st.integers(0, 3_000), st.booleans())
def test_prepared_or_not_the_results_are_the_same(rows, late, candidate_from_ms, restart):
    stable, candidate = RELEASES
    declared = [stable, Release(**{**as_dict(candidate), "started_at_ms": candidate_from_ms})]
    early, later = made(rows, 0), [one for one in made(late, 1_000) if one.event_time_ms >= 1_000]
    together = [*declared, *early, *later, *ticks(1_500), *ticks(2_500), *ticks(9_000)]
    _, wanted = run(DetectStage(plan()), together)
    steps = (declared, early, HALF_WAY, ticks(1_500), ticks(2_250), later, ticks(2_500), ticks(9_000))
    _, found = in_steps(DetectStage(plan()), steps, restart=restart)
    assert found == wanted


def in_steps(stage, steps, *, restart):
    """The state after `steps`, and what they bring forth; with `restart` each begins from stored blobs."""
    stored, found, offset, state = {}, [], 0, stage.restore(0, {})
    for records in steps:
        batch = [Delivery(0, offset + n, record) for n, record in enumerate(records)]
        offset += len(batch)
        state, outputs = stage.step(state, batch)
        found += [output.record for output in outputs]
        stored |= stage.changes(state)
        if restart:
            stored = {key: blob for key, blob in stored.items() if blob is not None}
            state = stage.restore(0, dict(stored))
    return state, found


def as_dict(release):
    return {name: getattr(release, name) for name in release.__struct_fields__}


def test_releases_without_end_are_not_made(monkeypatch):
    counted = []

    class Counted(buckets.ReleaseUnits):
        def __init__(self, *args):
            counted.append(args)
            super().__init__(*args)

    monkeypatch.setattr(buckets, "ReleaseUnits", Counted)
    stage = DetectStage(plan(max_undeclared=2))
    rows = [card(number, 100, release=f"r{number}") for number in range(50)]
    state, _ = run(stage, [*rows, *HALF_WAY])
    assert (0, "d") in state.prepared
    assert not counted  # none was watched before
    run(stage, ticks(1_500), state=state)
    assert len(counted) == 2


def test_a_deployment_that_is_not_watched_is_not_prepared():
    stage = DetectStage(plan(max_deployments=1))
    state, _ = run(stage, [card(1, 100, deployment="a"), *ticks(1_500)])
    state, _ = run(stage, [card(2, 1_100, deployment="b"), *ticks(2_250)], state=state)
    assert not state.prepared
    assert (1_000, "b") in state.open


def test_a_bucket_knows_only_the_list_it_was_made_of():
    entries = [object()]
    bucket = Bucket(entries)
    assert bucket.is_of(entries)
    assert not bucket.is_of(list(entries))
    entries.append(object())
    assert not bucket.is_of(entries)
