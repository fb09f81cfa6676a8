"""The close of one bucket of one deployment."""

from collections.abc import Sequence

import msgspec

from detectors.drift.feeding import feed_columns
from detectors.records import Release, Signal, StreamKey
from detectors.stages.admission import admit_releases
from detectors.stages.arms import ArmTests
from detectors.stages.closed_units import ClosedUnits, Slice
from detectors.stages.contract import Output
from detectors.stages.detect_plan import DetectPlan
from detectors.stages.detect_state import DetectState, key_of
from detectors.stages.moments import Moments
from detectors.stages.reference_builder import ReferenceBuilder
from detectors.stages.reference_stream import ReferenceStream
from detectors.stages.served_shares import count_served, share_statuses
from detectors.stages.units import ALL, Entry, SegmentTable


class Closing:
    """Feeds the units of a closed bucket to every stream, and collects what the streams say."""

    def __init__(self, plan: DetectPlan, state: DetectState, deployment: str, bucket_ms: int) -> None:
        self._plan, self._state, self._deployment, self._bucket_ms = plan, state, deployment, bucket_ms
        self._at_ms = bucket_ms + plan.unit_ms
        self._releases: dict[str, Release] = {}
        self._status_due = self._take_status_turn()
        self._outputs: list[Output] = []

    def run(self, entries: list[Entry]) -> list[Output]:
        """Return declarations that come into force, references, and signals."""
        state, deployment, bucket_ms = self._state, self._deployment, self._bucket_ms
        for release in state.take_started(deployment, self._at_ms):
            self._outputs.append(Output(topic="signals", key=deployment, record=release))
        self._releases = state.releases.get(deployment, {})
        watched = admit_releases(self._plan, state, deployment, entries, bucket_ms)
        # Names without end must not cost without end: what is not watched stops here. So does what a release
        # answered in the bucket before its declared start: it belongs to its last episode.
        units = self._close(
            [
                entry
                for entry in entries
                if entry.release in watched and entry.event_time_ms >= self._start_ms(entry.release)
            ]
        )
        self._feed_references(units)
        arms = ArmTests(self._plan, state, deployment, bucket_ms)
        self._emit(arms.run(entries, units, status_due=self._status_due))
        count_served(state, deployment, entries, watched, bucket_ms)
        if self._status_due:
            self._emit(share_statuses(state, deployment, self._at_ms))
        return self._outputs

    def _start_ms(self, release: str) -> int:
        declared = self._releases.get(release)
        return self._bucket_ms if declared is None else declared.started_at_ms

    def _take_status_turn(self) -> bool:
        turn, turns = self._at_ms // self._plan.status_ms, self._state.status_turns
        if self._deployment in turns and turns[self._deployment] >= turn:
            return False
        turns[self._deployment] = turn
        self._state.blobs.put(key_of("status_turn", self._deployment), turn)
        return True

    def _close(self, entries: Sequence[Entry]) -> ClosedUnits:
        key = key_of("segments", self._deployment)
        table = SegmentTable(self._plan.segment_top, dict(self._state.blobs.get(key, {})))
        if table.admit(entries):
            self._state.blobs.put(key, table.kept)
        if table.overflow:
            self._state.count("segment_overflow", self._deployment, table.overflow)
        return ClosedUnits(entries, table)

    def _emit(self, signals: Sequence[Signal]) -> None:
        self._outputs += [Output(topic="signals", key=self._deployment, record=signal) for signal in signals]

    def _feed_references(self, units: ClosedUnits) -> None:
        """Let every stream take in its column; the detectors of all of them are carried on together."""
        fed: list[tuple[ReferenceStream, Slice]] = []
        for segment in sorted(units.segments(), key=lambda name: (name != ALL, name)):
            for one in units.slices(segment):
                stream = self._take_in(one)
                if stream is not None:
                    fed.append((stream, one))
        watches = [(stream.watch, one.column.values) for stream, one in fed if stream.watch is not None]
        carried = iter(feed_columns([watch for watch, _ in watches], [values for _, values in watches]))
        for stream, one in fed:
            if stream.watch is not None:
                watch, first = next(carried)
                stream.carry_on(watch, one.column.values[first:], self._bucket_ms)
            declared = self._releases.get(one.release)
            role = declared.role if declared else "unknown"
            self._emit(stream.signals(self._at_ms, role, status_due=self._status_due))

    def _take_in(self, one: Slice) -> ReferenceStream | None:
        """Return the stream of the column, which has noted it; None if there is no room for it."""
        declared = self._releases.get(one.release)
        stream_key = StreamKey(self._deployment, one.release, one.segment, one.metric, "reference")
        episode = str(declared.started_at_ms) if declared else ""
        key = key_of("stream", *msgspec.to_builtins(stream_key), episode, one.version)
        stream = self._stream(key, stream_key, episode, one)
        if stream is None:
            return None
        self._compare_or_learn(stream, one)
        stream.note(one.column, self._bucket_ms)
        self._state.streams.use(key)
        self._state.touch(key)
        return stream

    def _stream(self, key: str, stream_key: StreamKey, episode: str, like: Slice) -> ReferenceStream | None:
        stream = self._state.streams.get(key)
        if stream is None:
            if stream_key.segment != ALL and not self._make_room():
                self._state.count("stream_overflow", self._deployment)
                return None
            stream = ReferenceStream(stream_key, like.direction, like.version, episode)
            self._state.streams.add(key, stream)
            self._state.own(key, self._deployment, stream_key.release)
        return stream

    def _make_room(self) -> bool:
        """Return whether there is room for one more slice; the longest silent one is shed for it."""
        streams = self._state.streams
        if streams.count(self._deployment) < self._plan.max_streams:
            return True
        oldest = streams.longest_silent(self._deployment)
        stream = None if oldest is None else streams.get(oldest)
        if oldest is None or stream is None or stream.last_ms >= self._bucket_ms:
            return False
        self._state.drop_stream(oldest, self._deployment, stream.key.release)
        self._state.count("stream_shed", self._deployment)
        return True

    def _compare_or_learn(self, stream: ReferenceStream, one: Slice) -> None:
        """Compare with the pinned anchor, or let the stable release's first units become it."""
        version = one.version
        anchor_key = key_of("anchor", self._deployment, stream.key.segment, stream.key.metric, version)
        anchor = self._state.anchors.get(anchor_key)
        if anchor is not None:
            stream.compare_with(anchor, tolerance=self._plan.tolerance, alpha=self._plan.reference_alpha)
            return
        declared = self._releases.get(stream.key.release)
        if declared is None or declared.role != "stable":
            return
        builder_key = key_of("builder", *msgspec.to_builtins(stream.key), version)
        builder = self._state.builders.get(builder_key)
        if builder is None:
            builder = self._state.builders[builder_key] = ReferenceBuilder(Moments(), self._bucket_ms)
        builder.add(one.column)
        self._state.touch(builder_key)
        if builder.moments.n >= self._plan.reference_units:
            reference = builder.pin(stream.key, version, self._at_ms)
            self._state.anchors[anchor_key] = reference
            self._state.blobs.put(anchor_key, msgspec.to_builtins(reference))
            del self._state.builders[builder_key]
            self._outputs.append(Output(topic="references", key=self._deployment, record=reference))
