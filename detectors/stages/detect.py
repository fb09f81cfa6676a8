"""Detect: scorecards become closed units, closed units become signals."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from detectors.records import Release, Scorecard, Signal, StreamKey, Tick
from detectors.records.ids import derive_id
from detectors.stages.arm_stream import ArmStream
from detectors.stages.contract import Delivery, Output
from detectors.stages.detect_state import DetectState, key_of
from detectors.stages.moments import Moments
from detectors.stages.reference_stream import ReferenceBuilder, ReferenceStream
from detectors.stages.units import (
    ALL,
    Entry,
    SegmentTable,
    UnitValue,
    bucket_of,
    entry_of,
    served_counts,
    unit_values,
)

SEEN_HORIZON_MS = 24 * 3_600_000
"""For how long a unit of randomisation is remembered: the arm test counts each once."""


class DetectPlan(Struct, frozen=True, kw_only=True):
    """How detection is done; see the settings ``[detect]`` for what each means to a user.

    ``reference_alpha`` is per observation of one reference stream, ``arm_alpha`` per arm stream for ever.
    """

    source_partitions: int
    unit_ms: int
    lateness_ms: int
    status_ms: int
    reference_units: int
    tolerance: float
    reference_alpha: float
    arm_alpha: float
    max_streams: int = 5_000
    segment_top: dict[str, int] = {}


class DetectStage:
    """Closes buckets of event time and feeds their units to the detectors of every stream.

    Results are a function of the set of records: partitions, batch edges and merge order do not matter, as
    long as no record is later than the allowed lateness. Late records are counted, not detected.
    """

    name = "detect"
    source = "scorecards"

    def __init__(self, plan: DetectPlan) -> None:
        self._plan = plan

    def restore(self, partition: int, stored: Mapping[str, bytes]) -> DetectState:  # noqa: ARG002 - contract
        """Return the live state held by the stored blobs."""
        return DetectState(stored)

    def changes(self, state: DetectState) -> dict[str, bytes | None]:
        """Return the blobs that changed since the last call."""
        return state.take_changes(str(state.blobs.get("last_offset", 0)))

    def step(self, state: DetectState, batch: Sequence[Delivery]) -> tuple[DetectState, list[Output]]:
        """Return the state after `batch`, with the signals and references of the buckets it closed."""
        outputs: list[Output] = []
        for delivery in batch:
            record = delivery.record
            if isinstance(record, Scorecard):
                self._collect(state, record)
            elif isinstance(record, Tick):
                if record.watermark_ms > state.watermarks.get(record.source_partition, -1):
                    state.watermarks[record.source_partition] = record.watermark_ms
                    outputs += self._close_due(state)
            elif isinstance(record, Release):
                state.declare(record)
        if batch:
            state.blobs.put("last_offset", batch[-1].offset)
            state.blobs.put("watermarks", {str(k): v for k, v in sorted(state.watermarks.items())})
        return state, outputs

    def _collect(self, state: DetectState, card: Scorecard) -> None:
        bucket_ms = bucket_of(card.event_time_ms, self._plan.unit_ms)
        if state.closed_until_ms is not None and bucket_ms < state.closed_until_ms:
            state.blobs.count("late", card.deployment)
        else:
            state.add_entry(card.deployment, bucket_ms, entry_of(card))

    def _close_due(self, state: DetectState) -> list[Output]:
        if len(state.watermarks) < self._plan.source_partitions:
            return []
        until = bucket_of(min(state.watermarks.values()) - self._plan.lateness_ms, self._plan.unit_ms)
        if state.closed_until_ms is not None and until <= state.closed_until_ms:
            return []
        state.closed_until_ms = until
        state.blobs.put("closed_until_ms", until)
        outputs: list[Output] = []
        for bucket_ms, deployment in sorted(key for key in state.open if key[0] < until):
            entries = state.take_bucket(bucket_ms, deployment)
            outputs += _Closing(self._plan, state, deployment, bucket_ms).run(entries)
        return outputs


class _Closing:
    """The close of one bucket of one deployment."""

    def __init__(self, plan: DetectPlan, state: DetectState, deployment: str, bucket_ms: int) -> None:
        self._plan, self._state, self._deployment, self._bucket_ms = plan, state, deployment, bucket_ms
        self._at_ms = bucket_ms + plan.unit_ms
        self._releases: dict[str, Release] = {}
        self._status_due = self._take_status_turn()
        self._outputs: list[Output] = []

    def run(self, entries: list[Entry]) -> list[Output]:
        """Feed the bucket's units to every stream and return what the streams say."""
        state, deployment = self._state, self._deployment
        for release in state.take_started(deployment, self._at_ms):
            self._outputs.append(Output(topic="signals", key=deployment, record=release))
        self._releases = state.releases[deployment]
        kept_key = key_of("segments", deployment)
        table = SegmentTable(self._plan.segment_top, dict(state.blobs.get(kept_key, {})))
        if table.admit(entries):
            state.blobs.put(kept_key, table.kept)
        if table.overflow:
            state.blobs.count("segment_overflow", deployment, table.overflow)
        by_segment = unit_values(entries, table)
        for segment in sorted(by_segment):
            self._feed_references(segment, by_segment[segment])
        self._feed_arms(by_segment.get(ALL, []))
        if self._status_due:
            self._say_shares(served_counts(entries))
        return self._outputs

    def _take_status_turn(self) -> bool:
        turn = self._at_ms // self._plan.status_ms
        key = key_of("status_turn", self._deployment)
        if self._state.blobs.get(key, -1) >= turn:
            return False
        self._state.blobs.put(key, turn)
        return True

    def _role(self, release: str) -> str:
        declared = self._releases.get(release)
        return declared.role if declared else "unknown"

    def _emit(self, signals: Sequence[Signal]) -> None:
        self._outputs += [Output(topic="signals", key=self._deployment, record=signal) for signal in signals]

    def _feed_references(self, segment: str, units: Sequence[UnitValue]) -> None:
        grouped: dict[tuple[str, str, str], list[UnitValue]] = defaultdict(list)
        for unit in units:
            grouped[unit.metric, unit.version, unit.release].append(unit)
        for (metric, version, release), values in sorted(grouped.items()):
            stream_key = StreamKey(self._deployment, release, segment, metric, "reference")
            key = key_of("stream", *msgspec.to_builtins(stream_key), version)
            stream = self._stream(key, stream_key, values[0])
            if stream is None:
                continue
            self._compare_or_learn(stream, version, values)
            stream.feed(values, self._bucket_ms)
            self._state.touch(key)
            self._emit(stream.signals(self._at_ms, self._role(release), status_due=self._status_due))

    def _stream(self, key: str, stream_key: StreamKey, like: UnitValue) -> ReferenceStream | None:
        stream = self._state.streams.get(key)
        if stream is None:
            if not self._make_room():
                self._state.blobs.count("stream_overflow", self._deployment)
                return None
            stream = self._state.streams[key] = ReferenceStream(stream_key, like.direction, like.version)
        return stream

    def _make_room(self) -> bool:
        """Return whether there is room for one more stream; the longest silent one is shed for it."""
        own = {k: s for k, s in self._state.streams.items() if s.key.deployment == self._deployment}
        if len(own) < self._plan.max_streams:
            return True
        oldest = min(own, key=lambda key: (own[key].last_ms, key))
        if own[oldest].last_ms >= self._bucket_ms:
            return False
        del self._state.streams[oldest]
        self._state.touch(oldest)
        self._state.blobs.count("stream_shed", self._deployment)
        return True

    def _compare_or_learn(self, stream: ReferenceStream, version: str, values: Sequence[UnitValue]) -> None:
        """Compare with the pinned anchor, or let the stable release's first units become it."""
        anchor_key = key_of("anchor", self._deployment, stream.key.segment, stream.key.metric, version)
        anchor = self._state.anchors.get(anchor_key)
        if anchor is not None:
            stream.compare_with(anchor, tolerance=self._plan.tolerance, alpha=self._plan.reference_alpha)
            return
        if self._role(stream.key.release) != "stable":
            return
        builder_key = key_of("builder", *msgspec.to_builtins(stream.key), version)
        builder = self._state.builders.get(builder_key)
        if builder is None:
            builder = self._state.builders[builder_key] = ReferenceBuilder(Moments(), self._bucket_ms)
        builder.add(values)
        self._state.touch(builder_key)
        if builder.moments.n >= self._plan.reference_units:
            reference = builder.pin(stream.key, version, self._at_ms)
            self._state.anchors[anchor_key] = reference
            self._state.blobs.put(anchor_key, msgspec.to_builtins(reference))
            del self._state.builders[builder_key]
            self._outputs.append(Output(topic="references", key=self._deployment, record=reference))

    def _feed_arms(self, units: Sequence[UnitValue]) -> None:
        candidates = sorted(name for name, release in self._releases.items() if release.role == "candidate")
        stable = [name for name, release in self._releases.items() if release.role == "stable"]
        if not candidates or len(stable) != 1:
            return
        fresh = self._fresh_units(units)
        for candidate in candidates:
            arms = {candidate, stable[0]}
            grouped: dict[tuple[str, str], list[UnitValue]] = defaultdict(list)
            for unit in units:
                if unit.unit in fresh and unit.release in arms and unit.direction != "neutral":
                    grouped[unit.metric, unit.version].append(unit)
            for (metric, version), values in sorted(grouped.items()):
                self._feed_arm(candidate, metric, version, values)

    def _feed_arm(self, candidate: str, metric: str, version: str, values: Sequence[UnitValue]) -> None:
        stream_key = StreamKey(self._deployment, candidate, ALL, metric, "arm")
        key = key_of("arm", *msgspec.to_builtins(stream_key), version)
        stream = self._state.arms.get(key)
        if stream is None:
            stream = self._state.arms[key] = ArmStream(
                stream_key, values[0].direction, version, self._plan.arm_alpha
            )
        stream.feed(values, self._bucket_ms)
        self._state.touch(key)
        self._emit(stream.signals(self._at_ms, self._role(candidate), status_due=self._status_due))

    def _fresh_units(self, units: Sequence[UnitValue]) -> set[str]:
        """Return the units of randomisation that appear for the first time, and under one release only.

        A unit's arm is random once; when it comes back its arm is known, and a bet on it would not be fair.
        """
        releases: dict[str, set[str]] = defaultdict(set)
        for unit in units:
            if unit.share is not None:
                releases[unit.unit].add(unit.release)
        remembered = self._state.seen_units.setdefault(self._deployment, {})
        for bucket_ms in [b for b in remembered if b < self._bucket_ms - SEEN_HORIZON_MS]:
            del remembered[bucket_ms]
            self._state.blobs.drop(key_of("seen", self._deployment, bucket_ms))
        new = {unit for unit in releases if not any(unit in seen for seen in remembered.values())}
        if new:
            remembered[self._bucket_ms] = new
            self._state.blobs.put(key_of("seen", self._deployment, self._bucket_ms), sorted(new))
        return {unit for unit in new if len(releases[unit]) == 1}

    def _known_releases(self, counts: dict[str, int]) -> list[str]:
        """Return the releases seen or declared so far, as many as there may be streams."""
        key = key_of("served", self._deployment)
        before: list[str] = self._state.blobs.get(key, [])
        fresh = sorted(
            {*counts, *self._releases} - set(before), key=lambda name: (name not in self._releases, name)
        )
        taken = fresh[: max(0, self._plan.max_streams - len(before))]
        if len(taken) < len(fresh):
            self._state.blobs.count("release_overflow", self._deployment, len(fresh) - len(taken))
        known = sorted([*before, *taken])
        self._state.blobs.put(key, known)
        return known

    def _say_shares(self, counts: dict[str, int]) -> None:
        """Say which share of the bucket each release served, a declared or known one with none included."""
        known = self._known_releases(counts)
        total = sum(counts.values())
        for release in known:
            key = StreamKey(self._deployment, release, ALL, "served_share", "share")
            self._emit(
                [
                    Signal(
                        signal_id=derive_id("signal", "status", *key.parts(), str(self._at_ms)),
                        kind="status",
                        stream=key,
                        at_ms=self._at_ms,
                        n=total,
                        n_total=total,
                        mean=counts.get(release, 0) / total,
                        role=self._role(release),  # type: ignore[arg-type]
                        detector="count",
                    )
                ]
            )
