"""One release, segment and metric against a reference: the pinned anchor, or the release's own beginning."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.drift.bet_grid import Side
from detectors.drift.betting_sr import BettingSR
from detectors.drift.confidence_sequence import BettingSequence, mean_interval
from detectors.drift.feeding import feed_columns
from detectors.records import Direction, Interval, Reference, Role, Signal, StreamKey
from detectors.records.ids import derive_id
from detectors.stages.bucket_times import BucketTimes
from detectors.stages.closed_units import Column
from detectors.stages.exemplars import Exemplars
from detectors.stages.mix import Explanation, Mix
from detectors.stages.moments import Moments
from detectors.stages.recovery import Recovery

MIN_EFFECT_UNITS: Final = 30
"""How many units after an alarm there must be before they say how large the change is."""

WORSE_SIDE: Final[dict[Direction, Side]] = {"higher": "down", "lower": "up", "neutral": "both"}

_LEVEL: Final = 0.95


class ReferenceStream:
    """Feeds closed units to a :class:`BettingSR` and says what it finds.

    Before a reference is pinned the stream is *warming*: it has a mean and no opinion. Of a metric with a
    direction only the worse side is watched: an alarm on the better side would leave the stream deaf. How
    large a change is is measured by the units after the alarm, for those before it are biased by having
    alarmed. Its interval holds at all times at once; it takes the mean of the reference as exact. When the
    metric is back (:class:`Recovery`) the stream says *cleared*, and watches anew. So it does when somebody
    approves another reference, with the reason *reference_approved*. While a change lasts, the slices of its
    units say who carries it (:class:`Mix`).

    Parameters
    ----------
    key
        Names the stream.
    direction
        Of the metric.
    version
        Of the scorer; versions are never compared with each other.
    episode
        Of the release: declared again, it is watched anew. Empty while nobody declared it.
    """

    def __init__(self, key: StreamKey, direction: Direction, version: str, episode: str) -> None:
        self.key = key
        self.direction: Direction = direction
        self.version = version
        self._episode = episode
        self.last_ms = -1
        self._period = Moments()
        self._from_ms: int | None = None
        self._n_total = 0
        self._detector: BettingSR | None = None
        self._reference_id = ""
        self._baseline: float | None = None
        self._superseded = False  # within one bucket alone
        self._forget_alarm()

    def _forget_alarm(self) -> None:
        self._after_alarm = BettingSequence(level=_LEVEL)  # of the value less the baseline
        self._recovery: Recovery | None = None
        self._alarmed_at_ms: int | None = None
        self._began_at_ms: int | None = None
        self._times = BucketTimes()
        self._exemplars = Exemplars(self.direction)
        self._mix = Mix()

    @property
    def declared(self) -> bool:
        """Whether somebody declared the release."""
        return bool(self._episode)

    def compare_with(self, reference: Reference, *, tolerance: float, alpha: float) -> None:
        """Begin to compare with `reference`; with another one than before, begin anew.

        An alarm against the old one is over then, and is *cleared* by the next :meth:`signals`.
        """
        if reference.reference_id == self._reference_id:
            return
        self._superseded = self._alarmed_at_ms is not None
        self._forget_alarm()
        self._detector = BettingSR.from_reference(
            reference, tolerance=tolerance, alpha=alpha, direction=WORSE_SIDE[self.direction]
        )
        self._reference_id = reference.reference_id
        self._baseline = reference.mean

    def feed(self, column: Column, bucket_ms: int) -> None:
        """Take in the units of the closed bucket that starts at `bucket_ms`, in their order."""
        self.note(column, bucket_ms)
        if (watch := self.watch) is not None:
            ((watch, first),) = feed_columns([watch], [column.values])
            self.carry_on(watch, column.values[first:], bucket_ms)

    def note(self, column: Column, bucket_ms: int) -> None:
        """Take in all that the units say but what the detector makes of them."""
        self.last_ms = bucket_ms
        self._n_total += len(column)
        self._from_ms = bucket_ms if self._from_ms is None else self._from_ms
        self._period.add(column.values)
        if self._baseline is not None:
            self._exemplars.add(column, self._baseline)

    @property
    def alarmed(self) -> bool:
        """Whether a change was announced that is not over."""
        return self._alarmed_at_ms is not None

    def attribute(self, columns: Mapping[str, Column]) -> None:
        """Take in the slices of a bucket that lies after the alarm, by their names, ``all`` among them."""
        self._mix.add(columns)

    @property
    def watch(self) -> BettingSR | None:
        """The detector, None while there is nothing to compare with."""
        return self._detector

    def carry_on(self, watch: BettingSR, after: NDArray[np.float64], bucket_ms: int) -> None:
        """Go on with the detector that has seen the bucket, of which `after` came after its alarm."""
        self._detector = watch
        if self._baseline is not None:
            self._after_alarm.update_many(after - self._baseline, np.ones(len(after)))
        self._times.note(bucket_ms, watch.n)

    def signals(
        self, at_ms: int, role: Role | str, *, status_due: bool, reference: Reference | None = None
    ) -> list[Signal]:
        """Return what there is to say at the close of a bucket: change and end once, a status when due.

        `reference` is the one it is compared with; its cells tell who carries a change.
        """
        found: list[Signal] = []
        watch = self._detector
        if self._superseded:
            self._superseded = False
            found.append(self._signal("cleared", at_ms, role, reason="reference_approved"))
        if watch is not None and watch.drift_detected and self._alarmed_at_ms is None:
            self._alarmed_at_ms = at_ms
            self._began_at_ms = self._times.bucket_of(watch.began_index)
            self._recovery = Recovery.of(watch)
            found.append(self._signal("change", at_ms, role))
        if status_due and self._period.n:
            if watch is not None and self._is_back(watch):
                found.append(self._signal("cleared", at_ms, role))
                watch.reset()
                self._forget_alarm()
            told = self._mix.explain(reference, self.direction) if self.alarmed and reference else None
            found.append(self._signal("status", at_ms, role, told=told))
            self._period, self._from_ms = Moments(), None
        return found

    def _is_back(self, watch: BettingSR) -> bool:
        """Take the period that ends into account; return whether the metric is back."""
        if self._recovery is None or self._alarmed_at_ms is None or self._from_ms is None:
            return False
        if self._from_ms < self._alarmed_at_ms:
            return False
        return self._recovery.add(self._period, watch)

    def _signal(
        self, kind: Any, at_ms: int, role: Any, *, told: Explanation | None = None, reason: str = ""
    ) -> Signal:
        watch, period = self._detector, self._period
        detected = watch is not None and watch.drift_detected
        effect, interval = self._effect()
        within = mean_interval(period.n, period.mean or 0.0, period.variance, _LEVEL) if period.n else None
        return Signal(
            signal_id=derive_id("signal", kind, *self.key.parts(), self._episode, self.version, str(at_ms)),
            kind=kind,
            stream=self.key,
            at_ms=at_ms,
            n=period.n,
            from_ms=self._from_ms,
            n_total=self._n_total,
            mean=period.mean,
            mean_interval=within,
            baseline=self._baseline,
            effect=effect,
            interval=interval,
            effect_n=self._after_alarm.n,
            direction=self.direction,
            worse=self._is_worse(effect),
            evidence=watch.evidence if watch else 0.0,
            threshold=watch.threshold if watch else 0.0,
            detected=detected and kind != "cleared",
            state="steady" if kind == "cleared" else self._state(),
            began_at_ms=self._began_at_ms,
            alarmed_at_ms=self._alarmed_at_ms,
            role=role,
            detector="betting_sr",
            reason=reason,
            reference_id=self._reference_id,
            bad=tuple(self._exemplars.bad) if detected else (),
            good=tuple(self._exemplars.good) if detected else (),
            split=told.kind if told else "",
            split_by=told.dimension if told else "",
            within=told.within if told else None,
            mix=told.mix if told else None,
            segments=told.segments if told else (),
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

    def to_state(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "key": list(msgspec.to_builtins(self.key)),
            "direction": self.direction,
            "version": self.version,
            "episode": self._episode,
            "period": self._period.to_state(),
            "from": self._from_ms,
            "after": self._after_alarm.to_state(),
            "recovery": self._recovery.to_state() if self._recovery else None,
            "n": self._n_total,
            "last": self.last_ms,
            "detector": self._detector.to_state() if self._detector else None,
            "reference": self._reference_id,
            "baseline": self._baseline,
            "began": self._began_at_ms,
            "alarmed": self._alarmed_at_ms,
            "buckets": self._times.counts,
            "bad": self._exemplars.bad,
            "good": self._exemplars.good,
            "mix": self._mix.to_state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "ReferenceStream":
        """Return the stream that `to_state` described."""
        key = msgspec.convert(state["key"], StreamKey)
        stream = cls(key, state["direction"], state["version"], state["episode"])
        stream._period = Moments.from_state(state["period"])
        stream._from_ms = state["from"]
        stream._after_alarm = BettingSequence.from_state(state["after"])
        stream._recovery = Recovery.from_state(state["recovery"]) if state["recovery"] else None
        stream._n_total = state["n"]
        stream.last_ms = state["last"]
        stream._detector = BettingSR.from_state(state["detector"]) if state["detector"] else None
        stream._reference_id = state["reference"]
        stream._baseline = state["baseline"]
        stream._began_at_ms = state["began"]
        stream._alarmed_at_ms = state["alarmed"]
        stream._times = BucketTimes(state["buckets"])
        stream._exemplars = Exemplars(stream.direction, state["bad"], state["good"])
        stream._mix = Mix(state["mix"])
        return stream


def is_worse(effect: float, direction: Direction) -> bool:
    """Return whether `effect` points against the metric's direction; a neutral metric is never worse.

    Examples
    --------
    >>> is_worse(-0.1, "higher"), is_worse(-0.1, "lower"), is_worse(-0.1, "neutral")
    (True, False, False)
    """
    return (direction == "higher" and effect < 0) or (direction == "lower" and effect > 0)
