"""Arm tests within the stage: who is counted, episodes, and when a candidate cannot be compared."""

from random import Random

import msgspec
import pytest

from detectors.records import Arm, Release, Score, Scorecard, Signal, Tick
from detectors.stages import Delivery
from detectors.stages.detect import DetectStage
from detectors.stages.detect_plan import DetectPlan
from detectors.stages.seen_units import SeenUnits, hash_of

UNIT = 1_000
HOUR = 3_600_000


def plan(**fields) -> DetectPlan:
    values = {
        "source_partitions": 1, "unit_ms": UNIT, "lateness_ms": 0, "status_ms": UNIT, "reference_units": 400,
        "tolerance": 0.01, "reference_alpha": 1e-4, "arm_alpha": 1e-3,
    }  # fmt: skip
    return DetectPlan(**{**values, **fields})


def declared(release, role, at_ms=0, share=None) -> Release:
    return Release(deployment="d", release=release, role=role, started_at_ms=at_ms, share=share)


PAIR = [declared("1", "stable"), declared("2", "candidate", share=0.5)]


def card(name, at_ms, *, release="1", unit="", value=1.0, share=0.5) -> Scorecard:
    score = Score(name="helpful", value=value, direction="higher")
    if value is None:
        score = Score(name="helpful", status="abstained", direction="higher")
    return Scorecard(
        deployment="d", interaction_id=f"i{name}", release=release, event_time_ms=at_ms, received_at_ms=0,
        unit=unit or f"c:{name}", scores=(score,), arm=None if share is None else Arm("x", share),
    )  # fmt: skip


def run(records, *, every=0, **fields):
    """Return the state and the signals; with `every` the stage is restored after so many records."""
    stage, stored, found = DetectStage(plan(**fields)), {}, []
    state = stage.restore(0, {})
    for number, record in enumerate([*records, Tick(0, 10**12)]):
        state, outputs = stage.step(state, [Delivery(0, number, record)])
        found += [output.record for output in outputs]
        if every and number % every == 0:
            for key, blob in stage.changes(state).items():
                stored.pop(key, None) if blob is None else stored.update({key: blob})
            state = stage.restore(0, dict(stored))
    return state, [record for record in found if isinstance(record, Signal)]


def world(random, *, first=0, buckets=60, each=20, bad=0.9, share=0.5, answers=None, stamped=True):
    """Return cards of two arms; the candidate's rate is `bad`, `answers`: how often an arm has a score."""
    records = []
    for bucket in range(first, first + buckets):
        for n in range(each):
            canary = random.random() < share
            value = float(random.random() < (bad if canary else 0.9))
            if answers is not None and random.random() >= answers[canary]:
                value = None
            own = share if canary else 1.0 - share
            at_ms = bucket * UNIT + n
            records.append(
                card(f"{bucket}-{n}", at_ms, release="2" if canary else "1", value=value,
                     share=own if stamped else None)
            )  # fmt: skip
        records.append(Tick(0, bucket * UNIT))
    return records


def of_arm(signals, metric="helpful"):
    return [one for one in signals if one.stream.test == "arm" and one.stream.metric == metric]


def routing(signals):
    return [(one.at_ms // UNIT, one.state, one.reason) for one in of_arm(signals, "routing")]


# Episodes


def test_a_candidate_declared_again_is_tested_anew():
    random = Random(1)
    records = [*PAIR, *world(random, bad=0.2), declared("2", "candidate", 60 * UNIT, share=0.5)]
    state, signals = run([*records, *world(random, first=60)])
    assert any(one.detected for one in of_arm(signals) if one.at_ms <= 60 * UNIT)
    after = [one for one in of_arm(signals) if one.at_ms > 60 * UNIT]
    assert after
    assert not any(one.detected for one in after)
    assert after[0].n < 40
    assert after[0].from_ms == 60 * UNIT
    assert len({one.signal_id for one in signals}) == len(signals)
    assert len(state.arms) == 1
    references = [stream for _, stream in state.streams.items()
                  if (stream.key.release, stream.key.test) == ("2", "reference")]  # fmt: skip
    assert len(references) == 1
    assert len(state.blobs.keys("candidate")) <= 1


def test_an_episode_begins_within_a_bucket():
    """Both halves of one bucket: what the old candidate did in it is not held against the new one."""
    before = [card(f"a{n}", 60 * UNIT + n, release="2" if n % 2 else "1", value=float(n % 2 == 0))
              for n in range(400)]  # fmt: skip
    after = [card(f"b{n}", 60 * UNIT + 500 + n, release="2" if n % 2 else "1") for n in range(100)]
    again = declared("2", "candidate", 60 * UNIT + 500, share=0.5)
    _, signals = run([*PAIR, *before, again, *after])
    (arm,) = of_arm(signals)
    assert (arm.n, arm.n_total, arm.mean, arm.state) == (50, 100, 1.0, "steady")
    (own,) = (s for s in signals if s.stream.test == "reference" and s.stream.release == "2")
    assert own.n == 50


def test_a_release_declared_again_is_compared_with_the_reference_anew():
    random = Random(2)
    bad = world(random, first=60, buckets=20, share=0.0001, stamped=False)
    for number, one in enumerate(bad):
        if isinstance(one, Scorecard):
            bad[number] = card(one.interaction_id, one.event_time_ms, value=float(random.random() < 0.3))
    good = world(random, first=80, buckets=10, share=0.0001, stamped=False)
    records = [declared("1", "stable"), *world(random, share=0.0001, stamped=False), *bad]
    _, signals = run([*records, declared("1", "stable", 80 * UNIT), *good])
    mine = [one for one in signals if one.stream.test == "reference" and one.stream.release == "1"]
    assert [one for one in mine if one.at_ms <= 80 * UNIT][-1].detected
    after = [one for one in mine if one.at_ms > 80 * UNIT]
    assert after
    assert not any(one.detected for one in after)
    assert {one.reference_id for one in after} == {mine[-1].reference_id} != {""}  # the anchor stays


# Blind


@pytest.mark.parametrize(
    ("releases", "stamped", "reason"),
    [
        (PAIR, False, "no_arm_stamped"),
        (PAIR[1:], True, "no_stable_release"),
        ([*PAIR, declared("0", "stable")], True, "several_stable_releases"),
    ],
)
def test_a_candidate_that_cannot_be_compared_says_why_at_every_status(releases, stamped, reason):
    _, signals = run([*releases, *world(Random(3), buckets=12, stamped=stamped, bad=0.1)])
    assert routing(signals) == [(bucket, "blind", reason) for bucket in range(1, 13)]
    assert not any(one.detected for one in of_arm(signals))
    (first, *_) = of_arm(signals, "routing")
    assert (first.stream.release, first.role, first.n > 0, first.mean) == ("2", "candidate", True, None)


def test_a_comparable_candidate_says_nothing_about_routing():
    _, signals = run([*PAIR, *world(Random(4), buckets=40)])
    assert routing(signals) == []


def test_blindness_ends_with_one_word():
    random = Random(5)
    records = [PAIR[1], *world(random, buckets=5), declared("1", "stable", 5 * UNIT)]
    _, signals = run([*records, *world(random, first=5, buckets=5)])
    assert routing(signals)[-2:] == [(5, "blind", "no_stable_release"), (6, "steady", "")]


def test_a_candidate_that_serves_nothing_yet_is_not_blind():
    _, signals = run([*PAIR, *world(Random(6), buckets=5, share=0.0001, stamped=False)])
    assert routing(signals) == []


def test_traffic_that_contradicts_the_share_is_blind():
    records = [*PAIR, *world(Random(7), share=0.2, bad=0.1)]
    wrong = [msgspec.structs.replace(one, arm=Arm("x", 0.5)) if isinstance(one, Scorecard) else one
             for one in records]  # fmt: skip
    _, signals = run(wrong)
    assert routing(signals)[-1][1:] == ("blind", "share_mismatch")
    last = of_arm(signals)[-1]
    assert (last.state, last.reason, last.detected) == ("blind", "share_mismatch", False)


def test_a_canary_that_abstains_more_often_is_not_blind():
    """Routing was as declared; what has a score is the release's own doing."""
    _, signals = run([*PAIR, *world(Random(8), buckets=150, answers={True: 0.3, False: 0.9})])
    assert routing(signals) == []
    assert of_arm(signals)[-1].state == "steady"
    assert of_arm(signals)[-1].n < 0.6 * (of_arm(signals)[-1].n_total - of_arm(signals)[-1].n)


# Units of randomisation


def visits(unit, times):
    return [card(f"{unit}-{at_ms}", at_ms, release="2", unit=unit) for at_ms in times]


def total(signals):
    return max(one.n_total for one in of_arm(signals))


@pytest.mark.parametrize(("unit", "counted"), [("u:ann", 1), ("c:talk", 2)])
def test_a_user_is_remembered_for_the_episode_and_a_conversation_for_a_day(unit, counted):
    times = [0, 23 * HOUR, 72 * HOUR, 73 * HOUR]
    _, signals = run([*PAIR, *visits(unit, times), Tick(0, 0)])
    assert total(signals) == counted


def test_a_new_episode_counts_its_users_again():
    again = declared("2", "candidate", 10 * HOUR, share=0.5)
    _, signals = run([*PAIR, again, *visits("u:ann", [0, HOUR, 10 * HOUR + 5, 11 * HOUR])])
    assert [one.n_total for one in of_arm(signals)] == [1, 1]


def test_users_are_forgotten_with_the_last_candidate():
    retired = declared("2", "retired", 10 * HOUR)
    state, _ = run([*PAIR, retired, *visits("u:ann", [0, 10 * HOUR + 5])])
    assert state.blobs.keys("seen") == []
    assert all(not len(seen) for seen in state.seen_units.values())


def test_memory_of_units_is_bounded_and_its_end_is_told():
    cards = [card(n, n * 10, release="2" if n % 2 else "1", unit=f"u:{n}") for n in range(1_000)]
    state, signals = run([*PAIR, *cards], max_seen_units=300)
    assert routing(signals)[-1][1:] == ("blind", "seen_units_full")
    assert total(signals) == 300
    assert state.counts["seen_units_full"] == {"d": 700}
    assert sum(len(state.blobs.get(key)) for key in state.blobs.keys("seen")) == 8 * 300


def test_a_unit_answered_by_two_releases_is_no_coin():
    both = [card(1, 5, release="1", unit="c:a"), card(2, 6, release="2", unit="c:a"), *visits("c:b", [7])]
    _, signals = run([*PAIR, *both])
    assert total(signals) == 1


@pytest.mark.parametrize("share", [1e-300, 1.0 - 2**-53])
def test_a_share_that_is_no_coin_is_no_share(share):
    cards = [card(n, n * 10, release="2" if n % 2 else "1", share=share) for n in range(200)]
    _, signals = run([*PAIR, *cards])
    assert routing(signals)[-1][1:] == ("blind", "no_arm_stamped")
    assert of_arm(signals) == []


@pytest.mark.parametrize("every", [1, 17])
def test_restarts_change_nothing(every):
    random = Random(9)
    users = [card(f"u{n}", 100 * n, release="2" if n % 3 else "1", unit=f"u:{n % 40}",
                  share=None if n < 90 else 0.5) for n in range(300)]  # fmt: skip
    records = [*PAIR, *users, *world(random, first=30, buckets=10, bad=0.2),
               declared("2", "candidate", 40 * UNIT, share=0.5),
               *world(random, first=40, buckets=10)]  # fmt: skip
    records = [one for one in records if not isinstance(one, Tick)]
    records = [
        one for n, record in enumerate(records) for one in ((record, Tick(0, 0)) if n % 9 else (record,))
    ]
    assert run(records, every=every, max_seen_units=150)[1] == run(records, max_seen_units=150)[1]


def test_seen_units_restore_to_themselves():
    seen = SeenUnits()
    first, second = [hash_of("u:a"), hash_of("u:b")], [hash_of("u:a")]
    seen.remember(0, first)
    seen.remember(5, second)
    again = SeenUnits({0: seen.packed(0), 5: seen.packed(5)})
    assert again == seen
    assert (again.last(hash_of("u:a")), again.last(hash_of("u:b")), len(again)) == (5, 0, 2)
    assert again.forget_before(5) == [0]
    assert (again.last(hash_of("u:a")), again.last(hash_of("u:b")), len(again)) == (5, None, 1)


@pytest.mark.parametrize("share", [1e-17, 1.0 - 2**-53])
def test_a_share_that_is_no_coin_stops_nothing_wherever_it_comes(share):
    """A unit with such a share and a good one once ended the stage, at every start again."""
    odd = [card(f"{name}-odd", 0, share=share, unit=f"u:{name}") for name in "abc"]
    good = [card(f"{name}-good", 1, share=0.5, unit=f"u:{name}", release="2") for name in "a"]
    same = [card(f"{name}-good", 1, share=0.5, unit=f"u:{name}") for name in "b"]
    _, signals = run([*PAIR, *odd, *good, *same, card("d", 2, release="2")])
    assert {one.n_total for one in of_arm(signals)} == {2}  # b by its good share, and d
