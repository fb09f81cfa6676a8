"""BettingSR over its life: the companion that no reset touches, and the record of an alarm."""

import math
from random import Random

from detectors.drift.betting_sr import BettingSR


def coin(random, mean):
    return float(random.random() < mean)


def test_the_companion_outlives_resets():
    detector, random = BettingSR(mean_low=0.9, mean_high=0.9, alpha=1e-2), Random(2)
    assert detector.companion.value == 1.0
    for _ in range(2000):
        detector.update(coin(random, 0.5))
        if detector.drift_detected:
            assert detector.alarm_record["total"] <= detector.companion.n
            detector.reset()
    assert detector.companion.n == 2000
    assert 100.0 < detector.companion.evidence < 260.0
    for _ in range(5000):
        detector.update(0.0)
    assert math.isfinite(detector.companion.evidence)


def test_in_control_the_companion_hardly_ever_reaches_its_bound():
    reached = 0
    for seed in range(100):
        detector, random, most = BettingSR(mean_low=0.9, mean_high=0.9), Random(seed), 0.0
        for _ in range(40):
            for _ in range(10):
                detector.update(coin(random, 0.9))
            most = max(most, detector.companion.value)
        reached += most >= 20.0
    assert reached <= 5


def test_the_record_of_an_alarm_stays_until_reset():
    detector, random = BettingSR(mean_low=0.9, mean_high=0.9), Random(4)
    assert detector.alarm_record is None
    while not detector.drift_detected:
        detector.update(coin(random, 0.6))
    record = detector.alarm_record
    assert record["total"] == detector.n
    assert record["evidence"] >= 4.0
    for _ in range(100):
        detector.update(1.0)
    assert detector.alarm_record == record
    detector.reset()
    assert detector.alarm_record is None
