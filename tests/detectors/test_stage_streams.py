"""ReferenceStream: what it says at the close of each bucket, and after a restart the same."""

from random import Random

import msgspec
import numpy as np
import pytest

from detectors.drift.confidence_sequence import mean_interval
from detectors.records import StreamKey
from detectors.records.ids import content_digest
from detectors.stages.closed_units import Column
from detectors.stages.moments import Moments
from detectors.stages.reference_builder import ReferenceBuilder
from detectors.stages.reference_stream import MIN_EFFECT_UNITS, ReferenceStream, is_worse
from detectors.stages.units import UnitValue

BUCKET_MS = 60_000
UNITS = 50  # a bucket


def unit_of(bucket, i, value, *, release="v1", share=None):
    name = f"{bucket}-{i:03d}"
    return UnitValue(release, name, share, "helpful", value, "higher", "1", (f"i-{name}",))


def column(units):
    return Column(np.array([unit.value for unit in units]), [unit.interaction_ids for unit in units])


def coins(random, bucket, mean, count=UNITS):
    return column(_coins(random, bucket, mean, count))


def _coins(random, bucket, mean, count=UNITS):
    return [unit_of(bucket, i, float(random.random() < mean)) for i in range(count)]


def pinned(random, mean=0.9, count=2000, key=None):
    builder = ReferenceBuilder(Moments(), first_ms=0)
    builder.add(coins(random, 0, mean, count))
    return builder.pin(key or StreamKey("chat", "v1", "all", "helpful", "reference"), "1", last_ms=BUCKET_MS)


def reference_stream(direction="higher"):
    return ReferenceStream(StreamKey("chat", "v1", "all", "helpful", "reference"), direction, "1", "0")


def run_reference(stream, random, buckets, mean, *, first=0, status_every=1):
    """Feed buckets of coins; return all signals."""
    said = []
    for bucket in range(first, first + buckets):
        stream.feed(coins(random, bucket, mean), bucket * BUCKET_MS)
        at_ms = (bucket + 1) * BUCKET_MS
        said += stream.signals(at_ms, "stable", status_due=bucket % status_every == status_every - 1)
    return said


def over_the_wire(state):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state))


# Pinning


def test_a_reference_is_what_its_units_were_and_is_named_by_its_content():
    values = [unit_of(0, i, value) for i, value in enumerate((0.0, 1.0, 1.0, 0.5))]
    builder = ReferenceBuilder(Moments(), first_ms=7)
    builder.add(column(values[:2]))
    builder.add(column(values[2:]))
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


def test_another_reference_begins_anew_and_ends_an_alarm_against_the_old_one():
    stream, random = reference_stream(), Random(1)
    first, other = pinned(random), pinned(random, mean=0.5)
    stream.compare_with(first, tolerance=0.02, alpha=1e-4)
    said = run_reference(stream, random, 20, 0.5)
    assert (said[-1].state, said[-1].reference_id) == ("drift", first.reference_id)
    stream.compare_with(first, tolerance=0.02, alpha=1e-4)
    assert stream.alarmed  # the same one again changes nothing
    stream.compare_with(other, tolerance=0.02, alpha=1e-4)
    cleared, status = run_reference(stream, random, 1, 0.5, first=20)
    assert (cleared.kind, cleared.reason, cleared.detected) == ("cleared", "reference_approved", False)
    assert (status.state, status.reference_id, status.baseline) == ("steady", other.reference_id, other.mean)
    assert [one.kind for one in run_reference(stream, random, 3, 0.5, first=21)] == ["status"] * 3


def test_a_status_counts_since_the_last_one():
    stream, random = reference_stream(), Random(4)
    stream.compare_with(pinned(random), tolerance=0.02, alpha=1e-4)
    said = run_reference(stream, random, 9, 0.9, status_every=3)
    assert [(s.kind, s.n, s.n_total) for s in said] == [
        ("status", 3 * UNITS, total * UNITS) for total in (3, 6, 9)
    ]
    stream.feed(column([unit_of(9, 0, 1.0), unit_of(9, 1, 0.0)]), 9 * BUCKET_MS)
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
        stream.feed(column([unit]), bucket * BUCKET_MS)
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


def test_an_improvement_does_not_disarm():
    stream, random = reference_stream(), Random(21)
    stream.compare_with(pinned(random, mean=0.8), tolerance=0.02, alpha=1e-4)
    better = run_reference(stream, random, 40, 0.97)
    assert not any(s.detected or s.kind == "change" for s in better)
    worse = run_reference(stream, random, 40, 0.5, first=40)
    (change,) = (s for s in worse if s.kind == "change")
    assert change.worse
    assert abs(change.began_at_ms - 40 * BUCKET_MS) <= 2 * BUCKET_MS
    assert worse[-1].effect == pytest.approx(-0.3, abs=0.05)


def test_a_neutral_metric_is_watched_on_both_sides():
    for after in (0.2, 0.8):
        stream, random = reference_stream("neutral"), Random(22)
        stream.compare_with(pinned(random, mean=0.5), tolerance=0.02, alpha=1e-4)
        assert any(s.kind == "change" for s in run_reference(stream, random, 40, after))


def falls_and_returns(stream, random):
    """Return the signals of two falls, with a return between them and after."""
    stream.compare_with(pinned(random), tolerance=0.02, alpha=1e-4)
    said = []
    for first, mean in ((0, 0.9), (20, 0.5), (40, 0.9), (80, 0.5), (100, 0.9)):
        said += run_reference(stream, random, 40 if first in (40, 100) else 20, mean, first=first)
    return said


def test_what_is_back_is_cleared_and_can_alarm_again():
    said = falls_and_returns(reference_stream(), Random(23))
    turns = [s for s in said if s.kind != "status"]
    assert [s.kind for s in turns] == ["change", "cleared", "change", "cleared"]
    minutes = [s.at_ms // BUCKET_MS for s in turns]
    assert 20 < minutes[0] <= 25
    assert 45 <= minutes[1] <= 55
    assert 80 < minutes[2] <= 85
    assert 105 <= minutes[3] <= 115
    assert len({s.signal_id for s in said}) == len(said)
    cleared = turns[1]
    assert (cleared.state, cleared.detected, cleared.alarmed_at_ms) == ("steady", False, turns[0].at_ms)
    between = [s for s in said if s.kind == "status" and turns[1].at_ms < s.at_ms < turns[2].at_ms]
    assert not any(s.detected or s.effect or s.began_at_ms or s.alarmed_at_ms or s.bad for s in between)
    during = [s for s in said if s.kind == "status" and turns[2].at_ms <= s.at_ms < turns[3].at_ms]
    assert {s.alarmed_at_ms for s in during} == {turns[2].at_ms}


def test_a_small_change_that_stays_is_not_cleared():
    for seed in range(5):
        stream, random = reference_stream(), Random(seed)
        stream.compare_with(pinned(random), tolerance=0.0, alpha=1e-4)
        said = run_reference(stream, random, 200, 0.84)
        assert [s.kind for s in said if s.kind != "status"] == ["change"]


def test_few_units_or_few_periods_clear_nothing():
    stream, random = reference_stream(), Random(25)
    stream.compare_with(pinned(random), tolerance=0.02, alpha=1e-4)
    run_reference(stream, random, 10, 0.2)
    said = run_reference(stream, random, 4, 1.0, first=10)  # many units in four periods
    for bucket in range(14, 40):  # and then one unit a period
        stream.feed(column([unit_of(bucket, 0, 1.0)]), bucket * BUCKET_MS)
        said += stream.signals((bucket + 1) * BUCKET_MS, "stable", status_due=True)
        if any(s.kind == "cleared" for s in said):
            break
    assert [s.kind for s in said[:4]] == ["status"] * 4


def test_a_status_says_where_its_period_began():
    stream, random = reference_stream(), Random(26)
    said = run_reference(stream, random, 9, 0.9, status_every=3)
    assert [s.from_ms for s in said] == [0, 3 * BUCKET_MS, 6 * BUCKET_MS]


@pytest.mark.parametrize("cut", range(22, 60, 6))
def test_a_stream_restored_while_it_recovers_says_the_same(cut):
    whole, random = reference_stream(), Random(27)
    whole.compare_with(pinned(random), tolerance=0.02, alpha=1e-4)
    run_reference(whole, random, 20, 0.4)
    run_reference(whole, random, cut - 20, 0.9, first=20)
    resumed, again = ReferenceStream.from_state(over_the_wire(whole.to_state())), Random()
    again.setstate(random.getstate())
    expected = run_reference(whole, random, 30, 0.9, first=cut)
    assert run_reference(resumed, again, 30, 0.9, first=cut) == expected
    assert resumed.to_state() == over_the_wire(whole.to_state())


def test_a_neutral_metric_is_never_worse():
    assert [is_worse(e, d) for e in (-0.1, 0.1) for d in ("higher", "lower", "neutral")] == [
        True,
        False,
        False,
        False,
        True,
        False,
    ]
