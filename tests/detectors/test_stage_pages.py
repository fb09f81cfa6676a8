"""From scorecards to decisions: a release that falls twice pages twice, an improvement never."""

from random import Random

from detectors.records import Decision, Release, Score, Scorecard, Tick
from detectors.rules.sustained_regression import SustainedRegression
from detectors.stages import Delivery
from detectors.stages.decide import DecideStage
from detectors.stages.detect import DetectStage
from detectors.stages.detect_plan import DetectPlan

UNIT = 1_000
EACH = 40
PLAN = DetectPlan(
    source_partitions=1, unit_ms=UNIT, lateness_ms=0, status_ms=UNIT, reference_units=800, tolerance=0.01,
    reference_alpha=1e-5, arm_alpha=1e-3, segment_top={"plan": 2},
)  # fmt: skip


def decisions(rates):
    """Return what is decided when the rate of the stable release is `rates[k]` in the k-th thirty buckets."""
    random, detect, decide = Random(5), DetectStage(PLAN), DecideStage([SustainedRegression()])
    watched, ruled, found = detect.restore(0, {}), decide.restore(0, {}), []

    def draw(bucket):
        return float(random.random() < rates[bucket // 30])

    records = [Release(deployment="d", release="1", role="stable", started_at_ms=0)]
    for bucket in range(30 * len(rates)):
        records += [
            Scorecard(
                deployment="d", interaction_id=f"{bucket}-{n}", release="1", event_time_ms=bucket * UNIT + n,
                received_at_ms=0, unit=f"c:{bucket}-{n}", segments={"plan": "ab"[n % 2]},
                scores=(Score(name="helpful", value=draw(bucket), direction="higher"),),
            )
            for n in range(EACH)
        ]  # fmt: skip
        records.append(Tick(0, (bucket + 1) * UNIT))
    for number, record in enumerate(records):
        watched, signals = detect.step(watched, [Delivery(0, number, record)])
        passed = [Delivery(0, number, output.record) for output in signals if output.topic == "signals"]
        ruled, made = decide.step(ruled, passed)
        found += [output.record for output in made if isinstance(output.record, Decision)]
    return found


def test_two_falls_are_two_pages_and_the_slices_are_silent_meanwhile():
    made = decisions((0.9, 0.5, 0.9, 0.5))
    whole = [one for one in made if one.segment == "all"]
    assert [one.at_ms // UNIT // 30 for one in whole] == [1, 3]
    assert len({one.decision_id for one in made}) == len(made)
    assert [one.segment for one in made] == ["all", "all"]
    assert {one.reason for one in made} == {"release_worse_than_reference"}
    assert [
        abs(one.began_at_ms // UNIT - start) <= 2 for one, start in zip(whole, (30, 90), strict=True)
    ] == [True] * 2


def test_a_fall_after_an_improvement_pages():
    made = decisions((0.8, 0.98, 0.4))
    assert [(one.segment, one.at_ms // UNIT // 30) for one in made] == [("all", 2)]
