"""ArmStream: what it says at the close of each bucket, and after a restart the same."""

from random import Random

import msgspec
import pytest

from detectors.records import StreamKey
from detectors.stages.arm_stream import ArmStream
from detectors.stages.units import UnitValue

BUCKET_MS = 60_000
UNITS = 50  # a bucket


def unit_of(bucket, i, value, *, release="v1", share=None):
    name = f"{bucket}-{i:03d}"
    return UnitValue(release, name, share, "helpful", value, "higher", "1", (f"i-{name}",))


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
    return ArmStream(StreamKey("chat", "v2", "all", "helpful", "arm"), direction, "1", "0", alpha=alpha)


def run_arm(stream, random, buckets, *, first=0, **world):
    said = []
    for bucket in range(first, first + buckets):
        stream.feed(arm_bucket(random, bucket, **world), bucket * BUCKET_MS)
        said += stream.signals((bucket + 1) * BUCKET_MS, "candidate", status_due=True)
    return said


def over_the_wire(state):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state))


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
    assert (change.state, change.worse) == ("drift", True)
    assert abs(change.began_at_ms - 5 * BUCKET_MS) <= 5 * BUCKET_MS
    assert {(s.began_at_ms, s.alarmed_at_ms) for s in said if s.detected} == {
        (change.began_at_ms, change.at_ms)
    }
    assert {s.from_ms for s in said} == {5 * BUCKET_MS}
    assert change.evidence >= change.threshold == pytest.approx(3.0)
    assert change.interval.low < change.effect < change.interval.high < 0.0
    last = said[-1]
    assert last.interval.low <= -0.2 <= last.interval.high
    assert last.interval.high - last.interval.low < 0.17
    assert (len(last.bad), len(last.good)) == (5, 5)
    assert all(not s.bad and s.began_at_ms is None for s in said if not s.detected)


def test_a_canary_that_breaks_later_began_when_it_broke():
    """The declaration says when a candidate began, not when it began to be worse."""
    errors = []
    for seed in range(7):
        stream, random = arm_stream(), Random(seed)
        run_arm(stream, random, 60)
        said = run_arm(stream, random, 40, first=60, canary=0.4)
        (change,) = (s for s in said if s.kind == "change")
        errors.append(abs(change.began_at_ms // BUCKET_MS - 60))
    assert sorted(errors)[3] <= 5  # the declaration was 60 buckets before


def test_lower_is_better_turns_the_question_and_not_the_effect():
    stream = arm_stream("lower")
    said = run_arm(stream, Random(12), 60, canary=0.3, stable=0.1)
    assert said[-1].detected
    assert said[-1].worse
    assert said[-1].effect == pytest.approx(0.2, abs=0.05)
    assert said[-1].interval.low > 0.0


def test_a_blind_arm_says_why_and_announces_nothing():
    stream, random = arm_stream(), Random(13)
    for bucket in range(80):
        stream.feed(arm_bucket(random, bucket, canary=0.3), bucket * BUCKET_MS)
    (said,) = stream.signals(80 * BUCKET_MS, "candidate", status_due=True, blind="share_mismatch")
    assert (said.kind, said.state, said.reason) == ("status", "blind", "share_mismatch")
    assert not said.detected
    assert said.bad == ()
    assert said.evidence >= said.threshold  # there is evidence, and nobody can say of what
    after = stream.signals(81 * BUCKET_MS, "candidate", status_due=True)
    assert [(one.kind, one.state) for one in after] == [("change", "drift"), ("status", "drift")]


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
    assert len(msgspec.msgpack.encode(whole.to_state())) < 3_000
