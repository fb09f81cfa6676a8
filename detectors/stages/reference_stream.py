"""One release, segment and metric against the pinned reference."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from detectors.drift.betting_sr import BettingSR
from detectors.drift.confidence_sequence import BettingSequence, mean_interval
from detectors.records import Direction, Interval, Reference, Role, Signal, StreamKey
from detectors.records.ids import content_digest, derive_id
from detectors.stages.exemplars import Exemplars
from detectors.stages.moments import Moments
from detectors.stages.units import UnitValue

MIN_EFFECT_UNITS: Final = 30
"""How many units after an alarm there must be before they say how large the change is."""

_LEVEL: Final = 0.95
_TIMES_KEPT: Final = 128


class ReferenceBuilder:
    """Collects the first closed units of the stable release until the reference can be pinned."""

    def __init__(self, moments: Moments, first_ms: int) -> None:
        self.moments = moments
        self.first_ms = first_ms

    def add(self, values: Sequence[UnitValue]) -> None:
        """Take in the units of one closed bucket."""
        self.moments.add(unit.value for unit in values)

    def pin(self, key: StreamKey, scorer_version: str, last_ms: int) -> Reference:
        """Return the immutable reference; its id is the hash of everything else in it."""
        reference = Reference(
            reference_id="",
            deployment=key.deployment,
            release=key.release,
            segment=key.segment,
            metric=key.metric,
            scorer_version=scorer_version,
            n=self.moments.n,
            mean=self.moments.mean or 0.0,
            variance=self.moments.variance,
            first_ms=self.first_ms,
            last_ms=last_ms,
        )
        return msgspec.structs.replace(reference, reference_id=content_digest(msgspec.json.encode(reference)))


class ReferenceStream:
    """Feeds closed units to a :class:`BettingSR` and says what it finds.

    Before a reference is pinned the stream is *warming*: it has a mean and no opinion. How large a change is
    is measured by the units after the alarm, for those before it are biased by having alarmed. Its interval
    holds at all times at once; it takes the mean of the reference as exact.
    """

    def __init__(self, key: StreamKey, direction: Direction, version: str) -> None:
        self.key = key
        self._version = version
        self.direction: Direction = direction
        self._period = Moments()
        self._after_alarm = BettingSequence(level=_LEVEL)  # of the value less the baseline
        self._n_total = 0
        self._detector: BettingSR | None = None
        self._reference_id = ""
        self._baseline: float | None = None
        self.last_ms = -1
        self._announced = False
        self._began_at_ms: int | None = None
        self._bucket_counts: list[list[int]] = []
        self._exemplars = Exemplars(direction)

    def compare_with(self, reference: Reference, *, tolerance: float, alpha: float) -> None:
        """Begin to compare with `reference`; a stream keeps the first one it was given."""
        if self._detector is not None:
            return
        self._detector = BettingSR.from_reference(reference, tolerance=tolerance, alpha=alpha)
        self._reference_id = reference.reference_id
        self._baseline = reference.mean

    def feed(self, values: Sequence[UnitValue], bucket_ms: int) -> None:
        """Take in the units of the closed bucket that starts at `bucket_ms`, in their order."""
        self.last_ms = bucket_ms
        self._n_total += len(values)
        self._period.add(unit.value for unit in values)
        if self._detector is None or self._baseline is None:
            return
        self._exemplars.add(values, self._baseline)
        for unit in values:
            if self._detector.drift_detected:
                self._after_alarm.update(unit.value - self._baseline, 1.0)
            self._detector.update(unit.value)
        self._bucket_counts = [*self._bucket_counts, [bucket_ms, self._detector.n]][-_TIMES_KEPT:]

    def signals(self, at_ms: int, role: Role | str, *, status_due: bool) -> list[Signal]:
        """Return what there is to say at the close of a bucket: a change once, a status when it is due."""
        found: list[Signal] = []
        if self._detector is not None and self._detector.drift_detected and not self._announced:
            self._announced = True
            self._began_at_ms = self._began()
            found.append(self._signal("change", at_ms, role))
        if status_due and self._period.n:
            found.append(self._signal("status", at_ms, role))
            self._period = Moments()
        return found

    def _signal(self, kind: Any, at_ms: int, role: Any) -> Signal:
        watch, baseline = self._detector, self._baseline
        detected = watch is not None and watch.drift_detected
        effect, interval = self._effect()
        period = self._period
        within = mean_interval(period.n, period.mean or 0.0, period.variance, _LEVEL) if period.n else None
        return Signal(
            signal_id=derive_id("signal", kind, *self.key.parts(), self._version, str(at_ms)),
            kind=kind,
            stream=self.key,
            at_ms=at_ms,
            n=period.n,
            n_total=self._n_total,
            mean=period.mean,
            mean_interval=within,
            baseline=baseline,
            effect=effect,
            interval=interval,
            effect_n=self._after_alarm.n,
            direction=self.direction,
            worse=self._is_worse(effect),
            evidence=watch.evidence if watch else 0.0,
            threshold=watch.threshold if watch else 0.0,
            detected=detected,
            state=self._state(),
            began_at_ms=self._began_at_ms,
            role=role,
            detector="betting_sr",
            reference_id=self._reference_id,
            bad=tuple(self._exemplars.bad) if detected else (),
            good=tuple(self._exemplars.good) if detected else (),
        )

    def _effect(self) -> tuple[float | None, Interval | None]:
        after, baseline = self._after_alarm, self._baseline
        if baseline is None or after.n < MIN_EFFECT_UNITS:
            return None, None
        found = after.interval()
        return after.estimate, Interval(max(found.low, -baseline), min(found.high, 1.0 - baseline), _LEVEL)

    def _is_worse(self, effect: float | None) -> bool:
        """Judge by the effect once there is one, until then by the side of the evidence that alarmed."""
        if effect is not None:
            return is_worse(effect, self.direction)
        side = self._detector.side if self._detector and self._detector.drift_detected else None
        return side is not None and is_worse(-1.0 if side == "down" else 1.0, self.direction)

    def _state(self) -> Any:
        if self._detector is None:
            return "warming"
        if self._detector.drift_detected:
            return "drift"
        return "warning" if self._detector.warning_detected else "steady"

    def _began(self) -> int | None:
        index = self._detector.began_index if self._detector else None
        if index is None:
            return None
        for bucket_ms, count in self._bucket_counts:
            if count > index:
                return bucket_ms
        return None

    def to_state(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "key": list(msgspec.to_builtins(self.key)),
            "direction": self.direction,
            "version": self._version,
            "period": self._period.to_state(),
            "after": self._after_alarm.to_state(),
            "n": self._n_total,
            "last": self.last_ms,
            "detector": self._detector.to_state() if self._detector else None,
            "reference": self._reference_id,
            "baseline": self._baseline,
            "announced": self._announced,
            "began": self._began_at_ms,
            "buckets": self._bucket_counts,
            "bad": self._exemplars.bad,
            "good": self._exemplars.good,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "ReferenceStream":
        """Return the stream that `to_state` described."""
        stream = cls(msgspec.convert(state["key"], StreamKey), state["direction"], state["version"])
        stream._period = Moments.from_state(state["period"])
        stream._after_alarm = BettingSequence.from_state(state["after"])
        stream._n_total = state["n"]
        stream.last_ms = state["last"]
        stream._detector = BettingSR.from_state(state["detector"]) if state["detector"] else None
        stream._reference_id = state["reference"]
        stream._baseline = state["baseline"]
        stream._announced = state["announced"]
        stream._began_at_ms = state["began"]
        stream._bucket_counts = state["buckets"]
        stream._exemplars = Exemplars(stream.direction, state["bad"], state["good"])
        return stream


def is_worse(effect: float, direction: Direction) -> bool:
    """Return whether `effect` points against the metric's direction; a neutral metric is never worse.

    Examples
    --------
    >>> is_worse(-0.1, "higher"), is_worse(-0.1, "lower"), is_worse(-0.1, "neutral")
    (True, False, False)
    """
    return (direction == "higher" and effect < 0) or (direction == "lower" and effect > 0)
