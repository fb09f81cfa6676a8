"""Detection: when buckets close, what is late, what is bounded, and that a restart changes nothing."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.records import Arm, Release, Score, Scorecard, Signal, Tick
from detectors.stages import Delivery
from detectors.stages.detect import DetectStage
from detectors.stages.detect_plan import DetectPlan
from detectors.stages.detect_state import DetectState

UNIT = 1_000


def plan(**fields) -> DetectPlan:
    values = {
        "source_partitions": 2, "unit_ms": UNIT, "lateness_ms": 500, "status_ms": UNIT, "reference_units": 40,
        "tolerance": 0.01, "reference_alpha": 1e-4, "arm_alpha": 1e-3, "segment_top": {"plan": 2},
    }  # fmt: skip
    return DetectPlan(**{**values, **fields})


def card(
    number: int, at_ms: int, *, release="1", value=1.0, deployment="d", arm=None, plan_name="pro"
) -> Scorecard:
    return Scorecard(
        deployment=deployment, interaction_id=f"i{number}", release=release, event_time_ms=at_ms,
        received_at_ms=0, unit=f"c:{number}", arm=arm, segments={"plan": plan_name},
        scores=(Score(name="helpful", value=value, direction="higher"),),
    )  # fmt: skip


def run(stage: DetectStage, records, *, state=None, batch: int = 1_000, restart: bool = False):
    """Return the state and what was brought forth; with `restart` every batch begins from stored blobs."""
    stored: dict[str, bytes] = {}
    state = stage.restore(0, {}) if state is None else state
    outputs = []
    for start in range(0, len(records), batch):
        pieces = [Delivery(0, start + n, record) for n, record in enumerate(records[start : start + batch])]
        state, found = stage.step(state, pieces)
        outputs += [output.record for output in found]
        for key, blob in stage.changes(state).items():
            if blob is None:
                stored.pop(key, None)
            else:
                stored[key] = blob
        if restart:
            state = stage.restore(0, dict(stored))
    return state, outputs


def ticks(at_ms: int) -> list[Tick]:
    return [Tick(0, at_ms), Tick(1, at_ms)]


def counted(state: DetectState, what: str) -> int:
    return state.counts.get(what, {}).get("d", 0)


def signals(outputs) -> list[Signal]:
    return [record for record in outputs if isinstance(record, Signal)]


def test_a_bucket_closes_when_every_partition_has_passed_it_and_the_lateness():
    stage = DetectStage(plan())
    state, outputs = run(stage, [card(1, 100), Tick(0, 10_000)])
    assert outputs == []  # partition 1 has not spoken
    state, outputs = run(stage, [Tick(1, 1_499)], state=state)
    assert outputs == []  # its end plus the lateness is not passed
    state, outputs = run(stage, [Tick(1, 1_500)], state=state)
    assert {signal.at_ms for signal in signals(outputs)} == {1_000}
    assert state.open == {}


def test_a_late_record_is_counted_and_changes_nothing():
    stage = DetectStage(plan())
    state, _ = run(stage, [card(1, 100), *ticks(5_000)])
    state, outputs = run(stage, [card(2, 200), card(3, 3_999), *ticks(9_000)], state=state)
    assert counted(state, "late") == 2
    assert outputs == []


def test_a_time_that_goes_back_is_ignored():
    stage = DetectStage(plan())
    state, _ = run(stage, [card(1, 100), *ticks(5_000)])
    state, outputs = run(stage, [card(2, 6_100), Tick(0, 2_000), Tick(1, 100)], state=state)
    assert state.watermarks == {0: 5_000, 1: 5_000}
    assert outputs == []


def traffic(count: int = 240) -> list:
    """A stable release, then a bad canary with a share, in many buckets; declarations in between."""
    stable = Release(deployment="d", release="1", role="stable", started_at_ms=0)
    canary = Release(deployment="d", release="2", role="candidate", started_at_ms=40_000, share=0.5)
    records: list = [stable]
    for number in range(count):
        at_ms = number * 500
        new = at_ms >= 40_000 and number % 2 == 0
        records.append(
            card(number, at_ms, release="2" if new else "1", value=0.1 if new else 0.9,
                 arm=Arm("x", 0.5) if at_ms >= 40_000 else None, plan_name=f"p{number % 4}")
        )  # fmt: skip
        if number == 20:
            records.append(canary)
        if number % 7 == 0:
            records += ticks(at_ms)
    return [*records, *ticks(count * 500 + 10_000)]


def encoded(outputs) -> list[bytes]:
    return [msgspec.json.encode(record) for record in outputs]


def test_the_canary_is_found():
    _, outputs = run(DetectStage(plan()), traffic())
    changes = [signal for signal in signals(outputs) if signal.kind == "change"]
    assert {(one.stream.release, one.stream.test) for one in changes} >= {("2", "arm")}
    assert all(one.worse for one in changes if one.stream.test == "arm")
    assert len({one.signal_id for one in signals(outputs)}) == len(signals(outputs))


@pytest.mark.parametrize("batch", [1, 3, 50, 1_000])
@pytest.mark.parametrize("restart", [False, True])
def test_batch_edges_and_restarts_change_nothing(batch, restart):
    stage = DetectStage(plan())
    whole = encoded(run(stage, traffic())[1])
    state, pieces = run(stage, traffic(), batch=batch, restart=restart)
    assert encoded(pieces) == whole
    assert state.open == {}
    assert not state.blobs.keys("open")


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_merge_order_changes_nothing(data):
    """Two partitions' scorecards may arrive in any interleaving that keeps each one's own order."""
    cards = [card(n, n * 300, value=0.9 if n < 60 else 0.2, release="1") for n in range(120)]
    lanes = [[], []]
    for number, one in enumerate(cards):
        lanes[number % 2].append(one)
        if number % 10 < 2:
            lanes[number % 2].append(Tick(number % 2, one.event_time_ms))
    stable = Release(deployment="d", release="1", role="stable", started_at_ms=0)
    choices = data.draw(st.lists(st.booleans(), min_size=0, max_size=300))
    merged, at = [stable], [0, 0]
    for choice in [*choices, *[True] * 300, *[False] * 300]:
        lane = int(choice)
        if at[lane] < len(lanes[lane]):
            merged.append(lanes[lane][at[lane]])
            at[lane] += 1
    stage = DetectStage(plan())
    found = sorted(encoded(run(stage, [*merged, *ticks(100_000)])[1]))
    assert found == sorted(encoded(run(stage, [stable, *cards, *ticks(100_000)])[1]))


def test_served_shares_are_told_with_their_denominator_also_when_nothing_is_served():
    stable = Release(deployment="d", release="1", role="stable", started_at_ms=0)
    other = Release(deployment="d", release="2", role="candidate", started_at_ms=0, share=0.5)
    _, outputs = run(
        DetectStage(plan()), [stable, other, *(card(n, 100 + n) for n in range(4)), *ticks(2_000)]
    )
    shares = {one.stream.release: (one.mean, one.n, one.role) for one in signals(outputs)
              if one.stream.test == "share"}  # fmt: skip
    assert shares == {"1": (1.0, 4, "stable"), "2": (0.0, 4, "candidate")}


def test_releases_without_end_are_bounded_and_counted():
    """A client that names a new release each time makes no status longer, and pushes out no real one."""
    stage = DetectStage(plan(max_undeclared=5))
    records = [Release(deployment="d", release="0stable", role="stable", started_at_ms=0)]
    for number in range(60):
        at_ms = number * UNIT
        crowd = [card(1000 * number + n, at_ms, release=f"r{number}-{n}") for n in range(10)]
        real = [card(-1000 * number - n, at_ms, release="real") for n in range(3)]
        records += [*crowd, *real, card(10**6 + number, at_ms, release="0stable"), *ticks(at_ms)]
    state, outputs = run(stage, [*records, *ticks(10**6)])
    at = {one.at_ms for one in signals(outputs)}
    shares = {now: {one.stream.release for one in signals(outputs)
                    if one.stream.test == "share" and one.at_ms == now} for now in at}  # fmt: skip
    assert {len(names) for names in shares.values()} == {6}
    assert all("0stable" in names for names in shares.values())
    assert all("real" in names for names in shares.values())
    assert len({stream.key.release for _, stream in state.streams.items()}) == 6
    assert counted(state, "release_overflow") > 300
    assert len(state.blobs.keys("stream")) == len(state.streams)


def test_slices_are_shed_before_anything_declared_or_whole():
    records = [Release(deployment="d", release="1", role="stable", started_at_ms=0)]
    for number in range(40):
        release = "1" if number % 2 else f"r{number}"
        records += [card(number, number * UNIT, release=release, plan_name=f"p{number % 2}")]
        records += ticks(number * UNIT)
    state, _ = run(DetectStage(plan(max_streams=6)), [*records, *ticks(10**6)])
    kept = {(stream.key.release, stream.key.segment) for _, stream in state.streams.items()}
    assert {("1", "all"), ("1", "plan=p1")} <= kept
    assert {release for release, segment in kept if segment == "all"} == {
        "1",
        *(f"r{n}" for n in range(0, 40, 2)),
    }
    assert counted(state, "stream_shed") > 0


@pytest.mark.parametrize("restart", [False, True])
def test_what_is_shed_does_not_depend_on_restarts(restart):
    records = []
    for number in range(40):
        names = [f"r{n}" for n in range(6)] if number == 7 else [f"r{(number + n) % 4}" for n in range(2)]
        records += [card(10 * number + n, number * UNIT, release=name, plan_name=f"p{number % 3}")
                    for n, name in enumerate(names)]  # fmt: skip
        records += ticks(number * UNIT)
    stage = DetectStage(plan(max_streams=8, max_undeclared=4))
    whole = run(stage, records)[0]
    state, _ = run(stage, records, batch=3, restart=restart)
    assert sorted(state.streams) == sorted(whole.streams)
    assert state.counts == whole.counts
    assert counted(state, "stream_shed") > 0
    assert counted(state, "release_overflow") > 0


def test_hostile_names_in_one_bucket_cost_as_much_as_fifty():
    """Work is counted in units that reach a stream, not in seconds."""

    def crowd(releases):
        cards = [card(n, n % UNIT, release=f"r{n % releases}") for n in range(1_500)]
        state, outputs = run(DetectStage(plan()), [*cards, *ticks(10**6)])
        return len(state.streams), len(signals(outputs)), counted(state, "release_overflow")

    few, many = crowd(50), crowd(1_500)
    assert few[:2] == many[:2]
    assert (few[2], many[2]) == (0, 1_450)


def test_deployments_without_end_are_bounded_and_counted_under_no_name():
    records = [Release(deployment="mine", release="1", role="stable", started_at_ms=0)]
    records += [card(n, n, deployment=f"d{n:03}") for n in range(100)]
    records += [card(n, n, deployment="mine") for n in range(100)]
    stage = DetectStage(plan(max_deployments=10))
    state, outputs = run(stage, [*records, *ticks(5_000)])
    state, more = run(stage, [card(7, 0, deployment="d099"), card(8, 0, deployment="d000")], state=state)
    assert {one.stream.deployment for one in signals(outputs)} == {"mine", *(f"d{n:03}" for n in range(10))}
    assert state.counts["deployment_overflow"] == {"": 90}
    assert state.counts["late"] == {"": 1, "d000": 1}
    assert more == []


def test_a_share_covers_the_whole_status_period():
    cards = [card(n, n * 100, release="2" if n < 10 else "1") for n in range(50)]  # 2 serves the first second
    stage = DetectStage(plan(status_ms=5 * UNIT))
    _, outputs = run(stage, [*cards, *ticks(10**6)])
    last = {one.stream.release: (one.mean, one.n, one.from_ms, one.at_ms) for one in signals(outputs)
            if one.stream.test == "share" and one.at_ms == 5 * UNIT}  # fmt: skip
    assert last == {"1": (1.0, 40, UNIT, 5 * UNIT), "2": (0.0, 40, UNIT, 5 * UNIT)}


def test_values_of_a_slice_are_bounded_and_counted():
    records = [card(n, n * UNIT, plan_name=f"v{n}") for n in range(50)]
    state, outputs = run(DetectStage(plan()), [*records, *ticks(10**6)])
    slices = {one.stream.segment for one in signals(outputs)}
    assert slices == {"all", "plan=v0", "plan=v1", "plan=other"}
    assert counted(state, "segment_overflow") == 48


def test_a_unit_counts_once_in_the_arm_test_even_when_it_comes_back():
    releases = [
        Release(deployment="d", release="1", role="stable", started_at_ms=0),
        Release(deployment="d", release="2", role="candidate", started_at_ms=0, share=0.5),
    ]
    arm = Arm("x", 0.5)
    cards = [card(n % 10, n * UNIT, release="1" if n % 2 else "2", arm=arm) for n in range(100)]
    _, outputs = run(DetectStage(plan()), [*releases, *cards, *ticks(10**6)])
    arms = [one for one in signals(outputs) if one.stream.test == "arm"]
    assert max(one.n_total for one in arms) == 10


def test_a_declaration_holds_from_its_start_in_event_time_on():
    later = Release(deployment="d", release="1", role="stable", started_at_ms=3_000)
    _, outputs = run(DetectStage(plan()), [later, *(card(n, n * UNIT) for n in range(6)), *ticks(10**5)])
    roles = {one.at_ms: one.role for one in signals(outputs) if one.stream.test == "share"}
    assert roles == {1_000: "unknown", 2_000: "unknown", 3_000: "unknown",
                     4_000: "stable", 5_000: "stable", 6_000: "stable"}  # fmt: skip
    assert [record for record in outputs if isinstance(record, Release)] == [later]


def test_deployments_do_not_touch_each_other():
    def one(name):
        return [Release(deployment=name, release="1", role="stable", started_at_ms=0),
                *(card(n, n * 300, deployment=name) for n in range(60))]  # fmt: skip

    stage = DetectStage(plan())
    alone = encoded(run(stage, [*one("a"), *ticks(10**5)])[1])
    mixed = [r for pair in zip(one("a"), one("b"), strict=True) for r in pair]
    both = run(stage, [*mixed, *ticks(10**5)])[1]
    mine = [msgspec.json.encode(r) for r in both
            if (r.stream.deployment if isinstance(r, Signal) else r.deployment) == "a"]  # fmt: skip
    assert mine == alone


def test_the_stored_state_is_small_and_plain():
    stage = DetectStage(plan())
    state, _ = run(stage, traffic(), batch=10)
    copy = DetectState({key: blob for key, blob in all_blobs(stage).items() if blob is not None})
    assert copy.closed_until_ms == state.closed_until_ms
    assert set(copy.streams) == set(state.streams)
    assert set(copy.arms) == set(state.arms)


def all_blobs(stage: DetectStage) -> dict[str, bytes | None]:
    state, stored = stage.restore(0, {}), {}
    for number, record in enumerate(traffic()):
        state, _ = stage.step(state, [Delivery(0, number, record)])
        stored |= stage.changes(state)
    return stored
