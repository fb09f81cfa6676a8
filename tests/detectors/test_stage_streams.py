"""ReferenceStream and ArmStream: what they say at the close of each bucket, and after a restart the same."""

from random import Random

import msgspec
import pytest

from detectors.drift.confidence_sequence import mean_interval
from detectors.records import StreamKey
from detectors.records.ids import content_digest
from detectors.stages.arm_stream import ArmStream
from detectors.stages.moments import Moments
from detectors.stages.reference_stream import MIN_EFFECT_UNITS, ReferenceBuilder, ReferenceStream, is_worse
from detectors.stages.units import UnitValue

BUCKET_MS = 60_000
UNITS = 50  # a bucket


def unit_of(bucket, i, value, *, release="v1", share=None):
    name = f"{bucket}-{i:03d}"
    return UnitValue(release, name, "", share, "helpful", value, "higher", "1", (f"i-{name}",))


def coins(random, bucket, mean, count=UNITS):
    return [unit_of(bucket, i, float(random.random() < mean)) for i in range(count)]


def pinned(random, mean=0.9, count=2000, key=None):
    builder = ReferenceBuilder(Moments(), first_ms=0)
    builder.add(coins(random, 0, mean, count))
    return builder.pin(key or StreamKey("chat", "v1", "all", "helpful", "reference"), "1", last_ms=BUCKET_MS)


def reference_stream(direction="higher"):
    return ReferenceStream(StreamKey("chat", "v1", "all", "helpful", "reference"), direction, "1")


def run_reference(stream, random, buckets, mean, *, first=0, status_every=1):
    """Feed buckets of coins; return all signals."""
    said = []
    for bucket in range(first, first + buckets):
        stream.feed(coins(random, bucket, mean), bucket * BUCKET_MS)
        at_ms = (bucket + 1) * BUCKET_MS
        said += stream.signals(at_ms, "stable", status_due=bucket % status_every == status_every - 1)
    return said


def arm_bucket(random, bucket, *, share=0.2, routed=None, canary=0.9, stable=0.9):
    """Return one bucket of both releases; a unit's share is that of the release which answered it."""
    units = []
    for i in range(UNITS):
        treated = random.random() < (share if routed is None else routed)
        value = float(random.random() < (canary if treated else stable))
        release, own = ("v2", share) if treated else ("v1", 1.0 - share)
        units.append(unit_of(bucket, i, value, release=release, share=own))
    return units


def arm_stream(direction="higher", alpha=0.001):
    return ArmStream(StreamKey("chat", "v2", "all", "helpful", "arm"), direction, "1", alpha)


def run_arm(stream, random, buckets, *, first=0, **world):
    said = []
    for bucket in range(first, first + buckets):
        stream.feed(arm_bucket(random, bucket, **world), bucket * BUCKET_MS)
        said += stream.signals((bucket + 1) * BUCKET_MS, "candidate", status_due=True)
    return said


def over_the_wire(state):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state))


# Pinning


def test_a_reference_is_what_its_units_were_and_is_named_by_its_content():
    values = [unit_of(0, i, value) for i, value in enumerate((0.0, 1.0, 1.0, 0.5))]
    builder = ReferenceBuilder(Moments(), first_ms=7)
    builder.add(values[:2])
    builder.add(values[2:])
    key = StreamKey("chat", "v1", "all", "helpful", "reference")
    found = builder.pin(key, "3", last_ms=99)
    assert (found.n, found.mean, found.first_ms, found.last_ms) == (4, 0.625, 7, 99)
    assert found.variance == pytest.approx(0.229166667)
    assert (found.deployment, found.release, found.scorer_version) == ("chat", "v1", "3")
    nameless = msgspec.structs.replace(found, reference_id="")
    assert found.reference_id == content_digest(msgspec.json.encode(nameless))
    assert builder.pin(key, "4", last_ms=99).reference_id != found.reference_id


# ReferenceStream


def test_without_a_reference_a_stream_is_warming_and_has_no_opinion():
    stream = reference_stream()
    (said,) = run_reference(stream, Random(1), 20, 0.1, status_every=20)
    assert (said.kind, said.state, said.detected, said.effect, said.baseline) == (
        "status",
        "warming",
        False,
        None,
        None,
    )
    assert (said.evidence, said.threshold, said.reference_id) == (0.0, 0.0, "")
    assert (said.n, said.n_total) == (20 * UNITS, 20 * UNITS)
    assert said.mean_interval.low < said.mean < said.mean_interval.high


def test_a_stream_keeps_the_first_reference():
    stream = reference_stream()
    first = pinned(Random(1))
    stream.compare_with(first, tolerance=0.02, alpha=1e-4)
    stream.compare_with(pinned(Random(2), mean=0.2), tolerance=0.02, alpha=1e-4)
    (said,) = run_reference(stream, Random(3), 1, 0.9)
    assert (said.reference_id, said.baseline, said.state) == (first.reference_id, first.mean, "steady")


def test_a_status_counts_since_the_last_one():
    stream, random = reference_stream(), Random(4)
    stream.compare_with(pinned(random), tolerance=0.02, alpha=1e-4)
    said = run_reference(stream, random, 9, 0.9, status_every=3)
    assert [(s.kind, s.n, s.n_total) for s in said] == [
        ("status", 3 * UNITS, total * UNITS) for total in (3, 6, 9)
    ]
    stream.feed([unit_of(9, 0, 1.0), unit_of(9, 1, 0.0)], 9 * BUCKET_MS)
    (last,) = stream.signals(10 * BUCKET_MS, "stable", status_due=True)
    assert (last.n, last.mean, last.mean_interval) == (2, 0.5, mean_interval(2, 0.5, 0.5, 0.95))
    assert stream.signals(11 * BUCKET_MS, "stable", status_due=True) == []


def test_a_change_is_announced_once_with_its_beginning_and_examples():
    stream, random = reference_stream(), Random(5)
    stream.compare_with(pinned(random), tolerance=0.02, alpha=1e-4)
    before = run_reference(stream, random, 20, 0.9)
    assert {s.state for s in before} <= {"steady", "warning"}
    assert not any(s.detected or s.bad or s.good or s.effect for s in before)
    after = run_reference(stream, random, 40, 0.6, first=20)
    (change,) = (s for s in after if s.kind == "change")
    assert change.signal_id not in {s.signal_id for s in after if s.kind == "status"}
    assert (change.state, change.role, change.detector) == ("drift", "stable", "betting_sr")
    assert change.evidence >= change.threshold == pytest.approx(4.0)
    assert abs(change.began_at_ms - 20 * BUCKET_MS) <= 2 * BUCKET_MS
    assert change.at_ms <= 25 * BUCKET_MS
    statuses = [s for s in after if s.kind == "status" and s.at_ms > change.at_ms]
    assert all(s.detected and s.began_at_ms == change.began_at_ms for s in statuses)
    last = statuses[-1]
    assert (len(last.bad), len(last.good)) == (5, 5)
    assert all(name.startswith("i-59-") for name in (*last.bad, *last.good))


def test_the_effect_comes_from_the_units_after_the_alarm_and_waits_for_enough():
    stream, random = reference_stream(), Random(6)
    reference = pinned(random)
    stream.compare_with(reference, tolerance=0.02, alpha=1e-4)
    seen, bucket, values = [], 0, []
    while len(values) < 3 * MIN_EFFECT_UNITS:
        unit = unit_of(bucket, 0, float(random.random() < 0.6))
        detected_before = bool(seen) and seen[-1].detected
        stream.feed([unit], bucket * BUCKET_MS)
        values += [unit.value] if detected_before else []
        bucket += 1
        seen += stream.signals(bucket * BUCKET_MS, "stable", status_due=True)
        said = seen[-1]
        assert said.effect_n == len(values)
        if len(values) < MIN_EFFECT_UNITS:
            assert (said.effect, said.interval, said.worse) == (None, None, said.detected)
        else:
            assert said.effect == pytest.approx(sum(values) / len(values) - reference.mean)
            assert said.interval.low <= said.effect <= said.interval.high
            assert -reference.mean <= said.interval.low <= said.interval.high <= 1.0 - reference.mean
    assert said.worse
    assert said.interval.high < 0.0


def test_the_interval_after_the_alarm_may_be_looked_at_in_every_bucket():
    missed = alarmed = 0
    for seed in range(40):
        random, stream = Random(seed), reference_stream()
        reference = pinned(random, count=500)
        stream.compare_with(reference, tolerance=0.0, alpha=1e-3)
        said = run_reference(stream, random, 40, 0.8)
        looks = [s.interval for s in said if s.interval is not None]
        alarmed += bool(looks)
        missed += any(not look.low <= 0.8 - reference.mean <= look.high for look in looks)
    assert alarmed >= 35
    assert missed <= 2


@pytest.mark.parametrize("cut", [0, 3, 21, 24, 40])
def test_a_restored_reference_stream_says_the_same(cut):
    whole, random = reference_stream(), Random(8)
    whole.compare_with(pinned(random), tolerance=0.02, alpha=1e-4)
    run_reference(whole, random, cut, 0.9 if cut <= 20 else 0.6, status_every=4)
    state = over_the_wire(whole.to_state())
    resumed, again = ReferenceStream.from_state(state), Random()
    again.setstate(random.getstate())
    expected = run_reference(whole, random, 45 - cut, 0.6, first=cut, status_every=4)
    assert run_reference(resumed, again, 45 - cut, 0.6, first=cut, status_every=4) == expected
    assert resumed.to_state() == over_the_wire(resumed.to_state()) == whole.to_state()
    assert expected[-1].detected
    assert len(msgspec.msgpack.encode(whole.to_state())) < 4_000


def test_a_warming_stream_is_restored_too():
    stream = reference_stream("neutral")
    stream.feed(coins(Random(1), 0, 0.5), 0)
    resumed = ReferenceStream.from_state(over_the_wire(stream.to_state()))
    said = [s.signals(BUCKET_MS, "unknown", status_due=True) for s in (stream, resumed)]
    assert said[0] == said[1]
    assert said[0][0].state == "warming"


# ArmStream


def test_a_canary_that_is_no_worse_stays_steady_and_its_status_counts_all_its_units():
    stream = arm_stream()
    said = run_arm(stream, Random(10), 30)
    assert all(s.kind == "status" and not s.detected and not s.bad for s in said)
    last = said[-1]
    assert last.n_total == 30 * UNITS
    assert last.n == last.effect_n
    assert last.effect_n == pytest.approx(300, abs=60)
    assert last.interval.low < 0.0 < last.interval.high
    assert (last.detector, last.role, last.reason) == ("arm_betting", "candidate", "")


def test_without_a_canary_unit_an_arm_says_nothing():
    stream = arm_stream()
    stream.feed([unit_of(0, i, 1.0, release="v1", share=0.8) for i in range(20)], 0)
    assert stream.signals(BUCKET_MS, "candidate", status_due=True) == []
    stream.feed([unit_of(1, 0, 1.0, release="v2", share=None)], BUCKET_MS)  # routed, but by no known coin
    assert stream.signals(2 * BUCKET_MS, "candidate", status_due=True) == []


def test_a_worse_canary_is_announced_once_with_its_effect_beginning_and_examples():
    stream = arm_stream()
    said = run_arm(stream, Random(11), 60, first=5, canary=0.7)
    (change,) = (s for s in said if s.kind == "change")
    assert (change.state, change.worse, change.began_at_ms) == ("drift", True, 5 * BUCKET_MS)
    assert change.evidence >= change.threshold == pytest.approx(3.0)
    assert change.interval.low < change.effect < change.interval.high < 0.0
    last = said[-1]
    assert last.interval.low <= -0.2 <= last.interval.high
    assert last.interval.high - last.interval.low < 0.17
    assert (len(last.bad), len(last.good)) == (5, 5)
    assert all(not s.bad and s.began_at_ms is None for s in said if not s.detected)


def test_lower_is_better_turns_the_question_and_not_the_effect():
    stream = arm_stream("lower")
    said = run_arm(stream, Random(12), 60, canary=0.3, stable=0.1)
    assert said[-1].detected
    assert said[-1].worse
    assert said[-1].effect == pytest.approx(0.2, abs=0.05)
    assert said[-1].interval.low > 0.0


def test_a_contradicted_share_makes_the_arm_blind():
    stream = arm_stream()
    said = run_arm(stream, Random(13), 80, routed=0.5, canary=0.3)
    assert (said[-1].state, said[-1].reason) == ("blind", "share_mismatch")
    assert not said[-1].detected
    assert said[-1].bad == ()
    assert said[-1].evidence >= said[-1].threshold  # there is evidence, and nobody can say of what


@pytest.mark.parametrize("cut", [0, 1, 9, 30])
def test_a_restored_arm_stream_says_the_same(cut):
    whole, random = arm_stream(), Random(14)
    run_arm(whole, random, cut, canary=0.75)
    resumed, again = ArmStream.from_state(over_the_wire(whole.to_state())), Random()
    again.setstate(random.getstate())
    expected = run_arm(whole, random, 50 - cut, first=cut, canary=0.75)
    assert run_arm(resumed, again, 50 - cut, first=cut, canary=0.75) == expected
    assert over_the_wire(resumed.to_state()) == over_the_wire(whole.to_state())
    assert expected[-1].detected
    assert len(msgspec.msgpack.encode(whole.to_state())) < 2_000


def test_a_neutral_metric_is_never_worse():
    assert [is_worse(e, d) for e in (-0.1, 0.1) for d in ("higher", "lower", "neutral")] == [
        True,
        False,
        False,
        False,
        True,
        False,
    ]
