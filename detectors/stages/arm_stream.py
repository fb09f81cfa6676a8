"""Canary against stable, under routing that is known: immune to season, mix and a shared provider."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from detectors.drift.arm_betting_test import ArmBettingTest
from detectors.records import Direction, Role, Signal, StreamKey
from detectors.records.ids import derive_id
from detectors.stages.bucket_times import BucketTimes
from detectors.stages.closed_units import Column
from detectors.stages.exemplars import Exemplars
from detectors.stages.reference_stream import is_worse
from detectors.stages.units import UnitValue


class ArmStream:
    """Feeds each unit of randomisation, once, to an :class:`ArmBettingTest`.

    Parameters
    ----------
    key
        Names the candidate's stream.
    direction
        Of the metric; the test asks only whether the candidate is worse.
    version
        Of the scorer; versions are never compared with each other.
    episode
        Of the candidate: declared again, it is tested anew.
    alpha
        Probability that this stream ever alarms on a candidate that is no worse.
    """

    def __init__(
        self, key: StreamKey, direction: Direction, version: str, episode: str, *, alpha: float
    ) -> None:
        self.key = key
        self.direction: Direction = direction
        self._version, self._episode = version, episode
        self._test = ArmBettingTest(alpha=alpha, worse="lower" if direction == "higher" else "higher")
        self._from_ms: int | None = None
        self._began_at_ms: int | None = None
        self._alarmed_at_ms: int | None = None
        self._times = BucketTimes()
        self._exemplars = Exemplars(direction)

    def feed(self, values: Sequence[UnitValue], bucket_ms: int) -> None:
        """Take in the first appearance of every unit in the closed bucket, in their order."""
        stamped = [unit for unit in values if unit.share is not None]
        treated = np.array([unit.release == self.key.release for unit in stamped], dtype=bool)
        shares = np.array([unit.share for unit in stamped], dtype=np.float64)
        xs = np.array([unit.value for unit in stamped], dtype=np.float64)
        self._test.update_many(xs, treated, np.where(treated, shares, 1.0 - shares))
        if self._from_ms is None and treated.any():
            self._from_ms = bucket_ms
        self._times.note(bucket_ms, self._test.n)
        ours = [unit for unit in values if unit.release == self.key.release]
        column = Column(np.array([unit.value for unit in ours]), [unit.interaction_ids for unit in ours])
        self._exemplars.add(column, self._test.mean_control or 0.5)

    def signals(self, at_ms: int, role: Role | str, *, status_due: bool, blind: str = "") -> list[Signal]:
        """Return what there is to say at the close of a bucket: a change once, a status when it is due.

        `blind` says why nothing may be concluded; then nothing is announced, whatever the evidence.
        """
        found: list[Signal] = []
        if self._test.drift_detected and self._alarmed_at_ms is None and not blind:
            self._alarmed_at_ms = at_ms
            self._began_at_ms = self._times.bucket_of(self._test.began_index)
            found.append(self._signal("change", at_ms, role, blind))
        if status_due and self._test.n_treated:
            found.append(self._signal("status", at_ms, role, blind))
        return found

    def _signal(self, kind: Any, at_ms: int, role: Any, blind: str) -> Signal:
        test, detected = self._test, self._test.drift_detected and not blind
        effect, interval = test.effect() if test.n_treated and test.n_control else (None, None)
        return Signal(
            signal_id=derive_id("signal", kind, *self.key.parts(), self._episode, self._version, str(at_ms)),
            kind=kind,
            stream=self.key,
            at_ms=at_ms,
            n=test.n_treated,
            from_ms=self._from_ms,
            n_total=test.n_treated + test.n_control,
            mean=test.mean_treated,
            baseline=test.mean_control,
            effect=effect,
            interval=interval,
            effect_n=test.n_treated,
            direction=self.direction,
            worse=effect is not None and is_worse(effect, self.direction),
            evidence=test.evidence,
            threshold=test.threshold,
            detected=detected,
            state="blind" if blind else test.state,
            began_at_ms=self._began_at_ms if detected else None,
            alarmed_at_ms=self._alarmed_at_ms if detected else None,
            role=role,
            detector="arm_betting",
            reason=blind,
            bad=tuple(self._exemplars.bad) if detected else (),
            good=tuple(self._exemplars.good) if detected else (),
        )

    def to_state(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "key": list(msgspec.to_builtins(self.key)),
            "direction": self.direction,
            "version": self._version,
            "episode": self._episode,
            "test": self._test.to_state(),
            "from": self._from_ms,
            "began": self._began_at_ms,
            "alarmed": self._alarmed_at_ms,
            "buckets": self._times.counts,
            "bad": self._exemplars.bad,
            "good": self._exemplars.good,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "ArmStream":
        """Return the stream that `to_state` described."""
        test = ArmBettingTest.from_state(state["test"])
        key = msgspec.convert(state["key"], StreamKey)
        stream = cls(key, state["direction"], state["version"], state["episode"], alpha=test.alpha)
        stream._test = test
        stream._from_ms = state["from"]
        stream._began_at_ms = state["began"]
        stream._alarmed_at_ms = state["alarmed"]
        stream._times = BucketTimes(state["buckets"])
        stream._exemplars = Exemplars(stream.direction, state["bad"], state["good"])
        return stream
