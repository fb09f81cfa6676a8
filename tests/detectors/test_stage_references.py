"""Two references: the anchor somebody approved, and the release's own beginning; and who carries a change."""

from random import Random

import msgspec
import pytest

from detectors.records import Decision, Reference, Release, Score, Scorecard, Signal, Tick
from detectors.records.reference import name_reference
from detectors.rules.sustained_regression import SustainedRegression
from detectors.stages import Delivery
from detectors.stages.decide import DecideStage
from detectors.stages.detect import DetectStage
from detectors.stages.detect_plan import DetectPlan

UNIT = 60_000
PER_BUCKET = 50


def plan(**fields) -> DetectPlan:
    values = {
        "source_partitions": 1, "unit_ms": UNIT, "lateness_ms": 0, "status_ms": UNIT,
        "reference_units": 2_000, "tolerance": 0.01, "reference_alpha": 2.5e-6,
        "arm_alpha": 1e-3, "segment_top": {"plan": 4},
    }  # fmt: skip
    return DetectPlan(**{**values, **fields})


def stable(release: str, at_ms: int) -> Release:
    return Release(deployment="d", release=release, role="stable", started_at_ms=at_ms)


def approval(at_ms: int, *, mean=0.8, n=2_000, segment="all", release="1") -> Reference:
    return name_reference(
        Reference(
            reference_id="", deployment="d", release=release, segment=segment, metric="helpful",
            scorer_version="1", n=n, mean=mean, variance=mean * (1 - mean), first_ms=0, last_ms=UNIT,
            approved_at_ms=at_ms,
        )
    )  # fmt: skip


class Traffic:
    """Coins, bucket after bucket; a release's rate by plan, and the share of plan ``small``."""

    def __init__(self, seed: int = 1) -> None:
        self.random = Random(seed)
        self.buckets = 0
        self.records: list = []

    def declare(self, release: str) -> None:
        self.records.append(stable(release, self.now_ms))

    @property
    def now_ms(self) -> int:
        return self.buckets * UNIT

    def serve(
        self, release: str, units: int, rates: dict[str, float] | float, *, small: float = 0.05
    ) -> None:
        rates = rates if isinstance(rates, dict) else {"large": rates, "small": rates}
        for _ in range(units // PER_BUCKET):
            for i in range(PER_BUCKET):
                name = "small" if self.random.random() < small else "large"
                value = float(self.random.random() < rates[name])
                self.records.append(self.card(release, i, name, value))
            self.buckets += 1

    def card(self, release: str, i: int, name: str, value: float) -> Scorecard:
        score = Score(name="helpful", value=value, direction="higher")
        return Scorecard(
            deployment="d", interaction_id=f"{self.buckets}-{i}", release=release, received_at_ms=0,
            event_time_ms=self.now_ms + i, unit=f"c:{self.buckets}-{i:03}",
            segments={"plan": name}, scores=(score,),
        )  # fmt: skip

    def run(self, *, restart: bool = False, **fields) -> list:
        """Return what detection brings forth; every bucket is closed by its own tick."""
        stage, outputs, stored = DetectStage(plan(**fields)), [], {}
        state = stage.restore(0, {})
        at_ms = -1
        for number, record in enumerate([*self.records, Tick(0, self.now_ms + UNIT)]):
            batch = [Delivery(0, 2 * number + 1, record)]
            if isinstance(record, Scorecard) and record.event_time_ms // UNIT > at_ms:
                at_ms = record.event_time_ms // UNIT
                batch.insert(0, Delivery(0, 2 * number, Tick(0, at_ms * UNIT)))
            state, found = stage.step(state, batch)
            outputs += [output.record for output in found]
            if restart and number % 997 == 0:
                for key, blob in stage.changes(state).items():
                    stored.pop(key, None) if blob is None else stored.update({key: blob})
                state = stage.restore(0, dict(stored))
        return outputs


def signals(outputs, *, test="reference", segment="all", kind=None, release=None) -> list[Signal]:
    return [
        one for one in outputs
        if isinstance(one, Signal) and (one.stream.test, one.stream.segment) == (test, segment)
        and kind in (None, one.kind) and release in (None, one.stream.release)
    ]  # fmt: skip


def decisions(outputs) -> list[Decision]:
    stage = DecideStage([SustainedRegression()])
    state = stage.restore(0, {})
    _, found = stage.step(state, [Delivery(0, n, record) for n, record in enumerate(outputs)
                                  if not isinstance(record, Reference)])  # fmt: skip
    return [one.record for one in found if isinstance(one.record, Decision)]


# The approved anchor


def test_an_approved_reference_is_the_anchor_from_its_event_time_on():
    traffic = Traffic()
    traffic.declare("1")
    traffic.serve("1", 2_000, 0.9)
    traffic.serve("1", 2_000, 0.8)
    traffic.records.insert(0, approval(60 * UNIT))  # it may arrive long before
    traffic.serve("1", 2_000, 0.8)
    outputs = traffic.run()
    pinned, approved = next(one for one in outputs if isinstance(one, Reference)), approval(60 * UNIT)
    ids = {one.at_ms: one.reference_id for one in signals(outputs, kind="status") if one.reference_id}
    assert {at for at, name in ids.items() if name == pinned.reference_id} == {
        n * UNIT for n in range(41, 61)
    }
    assert {name for at, name in ids.items() if at > 60 * UNIT} == {approved.reference_id}
    (alarm,) = signals(outputs, kind="change")
    assert 40 * UNIT < alarm.at_ms <= 60 * UNIT
    (over,) = signals(outputs, kind="cleared")
    assert (over.at_ms, over.reason) == (61 * UNIT, "reference_approved")


def test_a_new_release_inherits_the_anchor_and_nothing_moves_it_but_an_approval():
    traffic = Traffic()
    for number in range(4):
        traffic.declare(str(number))
        traffic.serve(str(number), 2_500, 0.9)
    outputs = traffic.run()
    anchors = {one.reference_id for one in signals(outputs, kind="status") if one.reference_id}
    assert len(anchors) == 1
    assert not signals(outputs, kind="change")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_later_approval_wins_whatever_arrives_first_and_however_often(order):
    traffic, both = Traffic(), (approval(UNIT, mean=0.7), approval(2 * UNIT, mean=0.8))
    traffic.records += [both[i] for i in order] * 3
    traffic.serve("1", 200, 0.8)
    traffic.records += [both[i] for i in order]
    traffic.serve("1", 200, 0.8)
    outputs = traffic.run()
    assert {one.baseline for one in signals(outputs, kind="status") if one.at_ms > 3 * UNIT} == {0.8}
    assert not signals(outputs, kind="cleared")


def test_an_approval_ends_what_is_being_learned():
    traffic = Traffic()
    traffic.declare("1")
    traffic.serve("1", 1_500, 0.9)
    traffic.records.append(approval(traffic.now_ms - 1, mean=0.9))
    traffic.serve("1", 1_500, 0.9)
    outputs = traffic.run()
    told = [one.segment for one in outputs if isinstance(one, Reference)]
    assert "all" not in told  # approved ones are told by whoever approved them
    assert signals(outputs)[-1].baseline == 0.9


def test_approvals_are_bounded_and_counted():
    stage = DetectStage(plan(max_streams=5))
    state = stage.restore(0, {})
    records = [approval(1, segment=f"plan=p{n}") for n in range(9)]
    stage.step(state, [Delivery(0, n, one) for n, one in enumerate(records)])
    assert state.counts["reference_overflow"] == {"": 4}


def test_the_score_stage_passes_approvals_on():
    from detectors.stages.score import ScoreStage  # noqa: PLC0415 - the only test that scores

    stage = ScoreStage([])
    state = stage.restore(3, {})
    _, (output,) = stage.step(state, [Delivery(3, 0, approval(5))])
    assert (output.topic, output.key, output.record) == ("scorecards", "d", approval(5))


# Slow decline


def test_ten_releases_each_a_point_worse_are_found_by_the_eighth():
    """Measured against what was approved, not against the release before."""
    late = 0
    for seed in range(5):
        traffic = Traffic(seed)
        traffic.declare("0")
        traffic.serve("0", 4_000, 0.9)
        for number in range(1, 11):
            traffic.declare(str(number))
            traffic.serve(str(number), 1_000, 0.9 - 0.01 * number)
        found = signals(traffic.run(), kind="change")
        late += not found or int(found[0].stream.release) > 8
    assert late == 0


# The release's own beginning


def test_a_change_within_a_release_is_seen_against_its_own_beginning():
    """The anchor was worse than this release is now: only its own beginning tells."""
    traffic = Traffic()
    traffic.declare("1")
    traffic.serve("1", 2_000, 0.7)
    traffic.declare("2")
    traffic.serve("2", 3_000, 0.9)
    changed_ms = traffic.now_ms
    traffic.serve("2", 2_000, 0.75)
    outputs = traffic.run()
    assert not signals(outputs, kind="change")
    (alarm,) = signals(outputs, kind="change", test="own")
    assert (alarm.stream.release, alarm.worse) == ("2", True)
    assert changed_ms <= alarm.at_ms <= changed_ms + 10 * UNIT
    assert alarm.baseline == pytest.approx(0.9, abs=0.02)
    (made,) = decisions(outputs)
    assert (made.reason, made.cause, made.verbs) == ("changed_within_release", "release", ("page",))
    assert "from its own beginning" in made.summary


def test_the_release_of_the_anchor_has_no_second_reference():
    traffic = Traffic()
    traffic.declare("1")
    traffic.serve("1", 6_000, 0.9)
    traffic.serve("1", 2_000, 0.7)
    outputs = traffic.run()
    assert not signals(outputs, test="own")
    assert len(decisions(outputs)) == 1


def test_an_approval_of_a_release_ends_its_own_reference():
    traffic = Traffic()
    traffic.declare("1")
    traffic.serve("1", 2_000, 0.9)
    traffic.declare("2")
    traffic.serve("2", 2_500, 0.9)
    approved_ms = traffic.now_ms
    traffic.records.append(approval(approved_ms, mean=0.9, release="2"))
    traffic.serve("2", 500, 0.9)
    own = signals(traffic.run(), test="own")
    assert own
    assert max(one.at_ms for one in own) == approved_ms


def test_one_fall_against_both_references_is_one_page():
    traffic = Traffic()
    traffic.declare("1")
    traffic.serve("1", 2_000, 0.9)
    traffic.declare("2")
    traffic.serve("2", 3_000, 0.9)
    traffic.serve("2", 3_000, 0.6)
    outputs = traffic.run()
    assert signals(outputs, kind="change")
    assert signals(outputs, kind="change", test="own")
    assert len([one for one in decisions(outputs) if one.segment == "all"]) == 1


def test_a_restart_changes_nothing():
    traffic = Traffic()
    traffic.declare("1")
    traffic.serve("1", 2_000, {"large": 0.95, "small": 0.6})
    traffic.declare("2")
    traffic.serve("2", 2_500, {"large": 0.95, "small": 0.6})
    traffic.serve("2", 1_000, {"large": 0.7, "small": 0.6})
    traffic.records.append(approval(traffic.now_ms))
    traffic.serve("2", 500, {"large": 0.7, "small": 0.6})
    whole, pieces = traffic.run(), traffic.run(restart=True)
    assert [msgspec.json.encode(one) for one in pieces] == [msgspec.json.encode(one) for one in whole]
    assert signals(whole, kind="change", test="own")
    assert any(one.split for one in signals(whole))


# Who carries a change


def test_a_pure_mix_shift_is_called_one():
    rates = {"large": 0.95, "small": 0.6}
    traffic = Traffic()
    traffic.declare("1")
    traffic.serve("1", 4_000, rates, small=0.1)
    traffic.serve("1", 4_000, rates, small=0.5)
    outputs = traffic.run()
    last = signals(outputs, kind="status")[-1]
    assert (last.split, last.split_by, last.segments) == ("mix", "plan", ())
    assert last.mix == pytest.approx(-0.4 * 0.35, abs=0.04)
    assert abs(last.within) < 0.03
    assert last.within + last.mix == pytest.approx(last.effect, abs=0.02)
    (made,) = decisions(outputs)
    assert (made.reason, made.cause, made.verbs) == ("traffic_mix_shift", "common", ("page",))
    assert "by traffic mix" in made.summary


def test_worse_answers_are_not_called_a_mix_shift():
    traffic = Traffic()
    traffic.declare("1")
    traffic.serve("1", 4_000, {"large": 0.95, "small": 0.6}, small=0.1)
    traffic.serve("1", 4_000, {"large": 0.8, "small": 0.6}, small=0.1)
    outputs = traffic.run()
    last = signals(outputs, kind="status")[-1]
    assert (last.split, last.segments) == ("within", ("plan=large",))
    whole = [one for one in decisions(outputs) if one.segment == "all"]
    assert {one.reason for one in whole} == {"release_worse_than_reference"}


def test_a_small_segment_that_falls_while_the_whole_rises_is_named():
    traffic = Traffic()
    traffic.declare("1")
    traffic.serve("1", 10_000, 0.9)
    traffic.serve("1", 10_000, {"large": 0.94, "small": 0.6})
    outputs = traffic.run(reference_units=400)
    assert not signals(outputs, kind="change")
    (alarm,) = signals(outputs, kind="change", segment="plan=small")
    assert alarm.worse
    assert {(one.segment, one.reason) for one in decisions(outputs)} == {
        ("plan=small", "release_worse_than_reference")
    }


def test_an_anchor_holds_its_units_by_slice():
    traffic = Traffic()
    traffic.declare("1")
    traffic.serve("1", 2_500, 0.9)
    outputs = traffic.run()
    whole = next(one for one in outputs if isinstance(one, Reference) and one.segment == "all")
    assert sorted(whole.cells) == ["plan=large", "plan=small"]
    assert sum(cell.n for cell in whole.cells.values()) == whole.n == 2_000
    assert sum(cell.total for cell in whole.cells.values()) == pytest.approx(whole.n * whole.mean)
