"""AnchorWatch: a worse system, a changed judge, and anchors that stay away are told apart."""

from collections import Counter
from random import Random

import msgspec
import pytest

from detectors.drift.anchor_watch import AnchorWatch


def watch(**changed):
    return AnchorWatch(**{"mean": 0.9, "alpha": 1e-3, "guard": 300, "least_anchors": 10, **changed})


def feed(watched, random, units, *, rate=0.9, bias=0.0, anchors=5):
    """Feed `units` live scores, an anchor after every `anchors` of them; stop at a verdict."""
    for i in range(units):
        judged = float(random.random() < rate)
        watched.update(score=judged * (1.0 + bias) if judged else 0.0)
        if anchors and i % anchors == 0:
            human = random.betavariate(4, 2)
            watched.update(judge=min(1.0, max(0.0, human * (1 + bias) + random.gauss(0, 0.02))), human=human)
        if watched.culprit not in ("none", "pending"):
            return


def verdicts(**world):
    found = Counter()
    for seed in range(20):
        watched = watch()
        feed(watched, Random(seed), 1500, **world)
        found[watched.culprit] += 1
    return found


def test_a_worse_system_is_announced():
    assert verdicts(rate=0.7) == {"system": 20}


def test_a_strict_judge_is_blamed_and_nothing_is_announced():
    found = verdicts(rate=0.9, bias=-0.15)
    assert found == {"judge": 20}
    watched = watch()
    feed(watched, Random(3), 1500, bias=-0.15)
    assert (watched.drift_detected, watched.warning_detected, watched.culprit) == (False, True, "judge")
    assert watched.anchor_evidence >= watched.threshold


def test_without_anchors_the_alarm_is_announced_unattributed():
    assert verdicts(rate=0.6, anchors=0) == {"unattributed": 20}


def test_the_guard_window_holds_the_announcement_back():
    watched, random, seen = watch(guard=200), Random(4), []
    for i in range(2000):
        watched.update(score=float(random.random() < 0.6))
        if i % 4 == 0:
            watched.update(judge=0.7, human=0.7)
        if not seen or seen[-1][0] != watched.culprit:
            seen.append((watched.culprit, watched.n_live))
    assert [culprit for culprit, _ in seen] == ["none", "pending", "system"]
    assert seen[2][1] - seen[1][1] == 200
    assert watched.alarm_record["culprit"] == "system"
    assert watched.n == watched.n_live + watched.n_anchors


def test_in_control_it_keeps_its_promise():
    announced, blamed, units = 0, 0, 20_000
    watched, random = watch(guard=20), Random(5)
    for i in range(units):
        watched.update(score=float(random.random() < 0.9))
        if i % 4 == 0:
            human = random.random()
            watched.update(judge=min(1.0, max(0.0, human + random.choice((-0.1, 0.1)))), human=human)
        if watched.culprit not in ("none", "pending"):
            announced += watched.drift_detected
            blamed += watched.culprit == "judge"
            watched.reset()
    assert announced <= 20 + 9
    assert blamed <= 5 + 5


@pytest.mark.parametrize("cut", [0, 40, 90, 160, 300])
def test_resume_is_exact(cut):
    random = Random(6)
    whole = watch(guard=60, anchor_mean=0.02, reference_units=3000, anchor_units=400)
    stream = [
        {"score": float(random.random() < 0.6)} if i % 5 else {"judge": random.random(), "human": 0.5}
        for i in range(400)
    ]
    for one in stream[:cut]:
        whole.update(**one)
    resumed = AnchorWatch.from_state(msgspec.json.decode(msgspec.json.encode(whole.to_state())))
    for one in stream[cut:]:
        whole.update(**one)
        resumed.update(**one)
        assert whole.culprit == resumed.culprit
    assert whole.to_state() == resumed.to_state()


@pytest.mark.parametrize(
    "wrong",
    [
        {"anchor_mean": 0.5},
        {"largest_error": 0.0},
        {"guard": -1},
        {"least_anchors": -1},
        {"mean": 1.2},
        {"alpha": 1.0},
    ],
)
def test_impossible_configuration_is_refused(wrong):
    with pytest.raises(ValueError, match=r"anchor|guard|mean|alpha"):
        watch(**wrong)
