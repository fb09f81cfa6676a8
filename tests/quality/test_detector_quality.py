"""What the detectors are worth, measured on seeded streams and held to the committed figures.

``python tests/quality/test_detector_quality.py`` prints the figures anew; commit them beside this file when a
detector was changed on purpose.
"""

import json
import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from statistics import fmean

import pytest

from detectors.drift.arm_betting_test import ArmBettingTest
from detectors.drift.betting_sr import BettingSR
from detectors.drift.share_betting_test import ShareBettingTest
from detectors.records import Reference

COMMITTED = json.loads(Path(__file__).with_name("detector_quality.json").read_text(encoding="utf-8"))
SHIFTS = (0.85, 0.80, 0.70)


def coin(random: Random, mean: float) -> float:
    return float(random.random() < mean)


def graded(random: Random, mean: float) -> float:
    return random.betavariate(10 * mean, 10 * (1 - mean))


def known(_: Random) -> BettingSR:
    return BettingSR(mean_low=0.9, mean_high=0.9, alpha=1e-4)


def pinned(n: int, tolerance: float) -> Callable[[Random], BettingSR]:
    """Return a maker of detectors with a reference of `n` fresh coins each."""

    def build(random: Random) -> BettingSR:
        mean = fmean(coin(random, 0.9) for _ in range(n))
        reference = Reference(
            reference_id="r",
            deployment="d",
            release="1",
            segment="all",
            metric="helpful",
            scorer_version="1",
            n=n,
            mean=mean,
            variance=mean * (1 - mean),
            first_ms=0,
            last_ms=1,
        )
        return BettingSR.from_reference(reference, tolerance=tolerance, alpha=1e-4)

    return build


def run_length(alpha: float, streams: int, draw: Callable[[Random, float], float]) -> float:
    lengths = []
    for seed in range(streams):
        detector, random = BettingSR(mean_low=0.9, mean_high=0.9, alpha=alpha), Random(seed)
        while not detector.drift_detected:
            detector.update(draw(random, 0.9))
        lengths.append(detector.n)
    return fmean(lengths)


def delays(
    build: Callable[[Random], BettingSR], draw: Callable[[Random, float], float], streams: int
) -> list:
    """Return the mean delay for each shift from .90 after 500 observations in control."""
    means = []
    for after in SHIFTS:
        found = []
        for seed in range(streams):
            random = Random(seed)
            detector = build(random)
            for _ in range(500):
                detector.update(draw(random, 0.9))
                if detector.drift_detected:
                    detector.reset()
            start = detector.n
            while not detector.drift_detected and detector.n - start < 30_000:
                detector.update(draw(random, after))
            found.append(detector.n - start)
        means.append(fmean(found))
    return means


def feed_canary(seed: int, *, drop: float, units: int) -> ArmBettingTest:
    """Feed coins of .9 -/+ .04 (season), the canary's lower by `drop`; stop at an alarm."""
    test, random = ArmBettingTest(worse="lower", alpha=0.01), Random(seed)
    for i in range(units):
        treated = random.random() < 0.1
        mean = 0.9 + 0.04 * math.sin(2 * math.pi * i / 2400) - (drop if treated else 0.0)
        test.update(float(random.random() < mean), treated=treated, share=0.1)
        if test.drift_detected:
            break
    return test


def doubts_a_true_share(seed: int, *, units: int) -> bool:
    test, random = ShareBettingTest(), Random(seed)
    for _ in range(units):
        test.update(treated=random.random() < 0.1, share=0.1)
    return test.mismatch


@cache
def figures() -> dict:
    nulls = [feed_canary(seed, drop=0.0, units=10_000) for seed in range(200)]
    broken = {drop: [feed_canary(s, drop=drop, units=60_000) for s in range(60)] for drop in (0.05, 0.1, 0.2)}
    return {
        "run_length_alpha_1e-3_coin": run_length(1e-3, 250, coin),
        "run_length_alpha_1e-3_graded": run_length(1e-3, 100, graded),
        "run_length_alpha_1e-4_coin": run_length(1e-4, 60, coin),
        "delays_known_mean_coin": delays(known, coin, 120),
        "delays_known_mean_graded": delays(known, graded, 60),
        "delays_reference_2000": delays(pinned(2000, 0.0), coin, 60),
        "delays_reference_1000_tolerance_.01": delays(pinned(1000, 0.01), coin, 30),
        "canary_false_alarms_in_200": sum(test.drift_detected for test in nulls),
        "canary_false_mismatches_in_200": sum(doubts_a_true_share(s, units=10_000) for s in range(200)),
        "canary_units_to_alarm": [fmean(test.n_treated for test in tests) for tests in broken.values()],
        "canary_missed": sum(not test.drift_detected for tests in broken.values() for test in tests),
    }


@pytest.mark.parametrize("name", sorted(COMMITTED))
def test_figure_is_the_committed_one(name):
    # Equal seeds give equal streams; the margin is for a last digit of the C library.
    assert figures()[name] == pytest.approx(COMMITTED[name], rel=0.02)


def test_every_figure_is_committed():
    assert set(figures()) == set(COMMITTED)


def test_run_lengths_keep_the_promise():
    # Run lengths are nearly exponential: the standard error is the mean over the root of the streams.
    for name, promise, streams in (
        ("run_length_alpha_1e-3_coin", 1e3, 250),
        ("run_length_alpha_1e-3_graded", 1e3, 100),
        ("run_length_alpha_1e-4_coin", 1e4, 60),
    ):
        assert figures()[name] * (1 + 2 / math.sqrt(streams)) >= promise
        assert figures()[name] <= 2 * promise


def test_delays_are_at_most_the_published_ones():
    # With a reference of 2000 the published detector broke its promise by 15 %; this one keeps it and pays.
    for name, published in (
        ("delays_known_mean_coin", (371, 129, 45)),
        ("delays_known_mean_graded", (52, 24, 12)),
        ("delays_reference_2000", (1.3 * 400, 1.3 * 144, 1.3 * 49)),
    ):
        for measured, bound in zip(figures()[name], published, strict=True):
            assert measured <= 1.1 * bound


def test_canary_figures_reach_their_targets():
    assert figures()["canary_false_alarms_in_200"] <= 2 + 2 * math.sqrt(2)  # 2 are promised on average
    assert figures()["canary_missed"] == 0
    for measured, target in zip(figures()["canary_units_to_alarm"], (520, 150, 60), strict=True):
        assert measured <= target


if __name__ == "__main__":
    sys.stdout.write(json.dumps(figures(), indent=2) + "\n")
