"""Every registered detector keeps what every detector must keep, and the checks notice when one does not."""

from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import ClassVar

import pytest

from detectors.checks import detector_checks
from detectors.checks.detector_checks import DETECTOR_CHECKS, BrokenWordError
from detectors.drift import DETECTORS
from detectors.drift.betting_sr import BettingSR


@pytest.mark.parametrize("check", DETECTOR_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", DETECTORS.names())
def test_registered_detector(name, check):
    check(DETECTORS.get(name).trial())


def test_both_detectors_are_registered():
    assert {"arm_betting", "betting_sr"} <= set(DETECTORS.names())


def test_configuration_builds_a_detector():
    built = DETECTORS.build(
        "betting_sr", {"mean_low": 0.8, "mean_high": 0.9, "alpha": 0.001}, path="detector[0]"
    )
    assert (built.mean_low, built.mean_high, built.alpha) == (0.8, 0.9, 0.001)
    with pytest.raises(ValueError, match=r"detector\[0\].*tolerance"):
        DETECTORS.build(
            "betting_sr", {"mean_low": 0.8, "mean_high": 0.9, "tolerance": 0.1}, path="detector[0]"
        )


class Deaf(BettingSR):
    def _judge(self, total):
        self._warning_detected = False


class Jumpy(BettingSR):
    def _judge(self, total):
        self._drift_detected = self.n > 100


class Forgetful(BettingSR):
    def _judge(self, total):
        self._drift_detected = total >= self._alarm_at


class Swallowing(BettingSR):
    def update(self, x):
        try:
            super().update(x)
        except ValueError:
            self.refused += 1


class Poisoned(BettingSR):
    def update(self, x):
        self._n += 0 if isinstance(x, float) and 0.0 <= x <= 1.0 else 1
        super().update(x)


class Amnesic(BettingSR):
    @classmethod
    def from_state(cls, state):
        new = super().from_state(state)
        new._runs = [0.0 for _ in new._runs]
        return new


class Hoarding(BettingSR):
    def to_state(self):
        return {**super().to_state(), "seen": [0] * self.n}


class Sharing(BettingSR):
    _kept: ClassVar[list[float]] = []

    def update(self, x):
        self._kept.append(x)
        super().update(x)

    def to_state(self):
        return {**super().to_state(), "kept": len(self._kept)}

    @classmethod
    def from_state(cls, state):
        return super().from_state({key: value for key, value in state.items() if key != "kept"})


class Trusting(BettingSR):
    @classmethod
    def from_state(cls, state):
        try:
            return super().from_state(state)
        except ValueError:
            return cls(mean_low=0.5, mean_high=0.5)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Deaf, "check_fires_on_a_change"),
        (Jumpy, "check_stays_quiet"),
        (Forgetful, "check_stays_detected"),
        (Swallowing, "check_refuses"),
        (Poisoned, "check_refuses"),
        (Amnesic, "check_resumes_exactly"),
        (Hoarding, "check_memory_is_bounded"),
        (Sharing, "check_instances_are_independent"),
        (Trusting, "check_refuses_foreign_states"),
    ],
)
def test_checks_notice_a_broken_detector(broken, check):
    with pytest.raises(BrokenWordError):
        getattr(detector_checks, check)(broken.trial())


def test_trial_streams_are_repeatable():
    for name in DETECTORS.names():
        trial = DETECTORS.get(name).trial()
        first, second = (list(islice(trial.changed(Random(3)), 50)) for _ in range(2))
        assert first == second
        assert isinstance(trial.changed(Random(3)), Iterator)
