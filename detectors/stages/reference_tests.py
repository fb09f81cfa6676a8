"""The reference streams of a closed bucket: every release against the anchor and its own beginning."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Literal

import msgspec

from detectors.records import Reference, Release, Signal, StreamKey
from detectors.stages.anchors import Anchors
from detectors.stages.closed_units import ClosedUnits, Slice
from detectors.stages.contract import Output
from detectors.stages.detect_plan import DetectPlan
from detectors.stages.detect_state import DetectState, key_of
from detectors.stages.foresight import Foresight
from detectors.stages.reference_stream import ReferenceStream
from detectors.stages.units import ALL

Test = Literal["reference", "own"]
_Measured = tuple[str, str, str]  # release, metric, version


class ReferenceTests:
    """Feeds one closed bucket of one deployment to its reference streams."""

    def __init__(
        self,
        plan: DetectPlan,
        state: DetectState,
        deployment: str,
        releases: dict[str, Release],
        bucket_ms: int,
    ) -> None:
        self._plan, self._state, self._deployment = plan, state, deployment
        self._releases, self._bucket_ms, self._at_ms = releases, bucket_ms, bucket_ms + plan.unit_ms
        self._anchors = Anchors(plan, state, deployment, releases, bucket_ms)
        self._slices: dict[_Measured, dict[str, Slice]] = defaultdict(dict)

    def expect(self, units: ClosedUnits) -> Foresight:
        """Return what the streams will take in if the bucket closes with `units`; nothing is changed."""
        expected = []
        for segment in units.segments():
            tests: tuple[Test, ...] = ("reference", "own") if segment == ALL else ("reference",)
            for one in units.slices(segment):
                known = [self._state.streams.get(self._key(one, test)[0]) for test in tests]
                expected += [(stream, one.column.values) for stream in known if stream is not None]
        return Foresight(expected)

    def run(self, units: ClosedUnits, foresight: Foresight, *, status_due: bool) -> list[Output]:
        """Return new references and what the streams say; the detectors of all are carried on together."""
        self._state.take_approved(self._deployment, self._at_ms)
        fed: list[tuple[ReferenceStream, Slice]] = []
        for segment in sorted(units.segments(), key=lambda name: (name != ALL, name)):
            for one in units.slices(segment):
                self._slices[one.release, one.metric, one.version][segment] = one
                fed += [(stream, one) for stream in self._take_in(one)]
        outputs = [self._told("references", reference) for reference in self._learned()]
        watched = [(stream, one.column.values) for stream, one in fed if stream.watch is not None]
        carried = iter(foresight.feed(watched))
        for stream, one in fed:
            if stream.watch is not None:
                watch, first = next(carried)
                stream.carry_on(watch, one.column.values[first:], self._bucket_ms)
            outputs += self._say(stream, one, status_due=status_due)
        return outputs

    def _say(self, stream: ReferenceStream, one: Slice, *, status_due: bool) -> list[Output]:
        anchor = None
        if one.segment == ALL and stream.key.test == "reference" and stream.alarmed:
            anchor = self._anchors.of(ALL, one.metric, one.version)
            slices = self._slices[one.release, one.metric, one.version]
            stream.attribute({segment: of.column for segment, of in slices.items()})
        declared = self._releases.get(one.release)
        role = declared.role if declared else "unknown"
        said = stream.signals(self._at_ms, role, status_due=status_due, reference=anchor)
        return [self._told("signals", signal) for signal in said]

    def _told(self, topic: str, record: Reference | Signal) -> Output:
        return Output(topic=topic, key=self._deployment, record=record)

    def _take_in(self, one: Slice) -> Iterator[ReferenceStream]:
        """Yield the streams of the column, which have noted it."""
        anchor = self._anchors.of(one.segment, one.metric, one.version)
        key, stream_key = self._key(one, "reference")
        stream = self._stream(key, stream_key, one)
        if stream is not None:
            if anchor is None:
                self._anchors.learn_anchor(one)
            else:
                self._compare(stream, anchor)
            self._note(key, stream, one)
            yield stream
        if one.segment == ALL:
            own = self._own(one, anchor)
            if own is not None:
                yield own

    def _own(self, one: Slice, anchor: Reference | None) -> ReferenceStream | None:
        """Return the stream against the release's own beginning, None while that is learned or the anchor."""
        key, _ = self._key(one, "own")
        declared = self._releases.get(one.release)
        is_anchor = (
            anchor.release == one.release if anchor else declared is not None and declared.role == "stable"
        )
        stream = self._state.streams.get(key)
        if is_anchor:
            self._anchors.forget_own(one)
            if stream is not None:
                self._state.drop_stream(key, self._deployment, one.release)
            return None
        if stream is None:
            self._anchors.learn_own(one)
            return None
        self._note(key, stream, one)
        return stream

    def _learned(self) -> list[Reference]:
        """Return the references that are complete now; each release's own one gets its stream."""
        found = []
        for key, reference in self._anchors.take_learned(self._at_ms):
            found.append(reference)
            if key.test == "own":
                one = self._slices[key.release, key.metric, reference.scorer_version][ALL]
                storage_key, _ = self._key(one, "own")
                stream = self._add(storage_key, key, one)
                self._compare(stream, reference)
        return found

    def _key(self, one: Slice, test: Test) -> tuple[str, StreamKey]:
        """Return the storage key and the name of a stream."""
        key = StreamKey(self._deployment, one.release, one.segment, one.metric, test)
        return key_of("stream", *msgspec.to_builtins(key), self._episode(one.release), one.version), key

    def _episode(self, release: str) -> str:
        declared = self._releases.get(release)
        return str(declared.started_at_ms) if declared else ""

    def _compare(self, stream: ReferenceStream, reference: Reference) -> None:
        stream.compare_with(reference, tolerance=self._plan.tolerance, alpha=self._plan.reference_alpha)

    def _note(self, key: str, stream: ReferenceStream, one: Slice) -> None:
        stream.note(one.column, self._bucket_ms)
        self._state.streams.use(key)
        self._state.touch(key)

    def _stream(self, key: str, stream_key: StreamKey, like: Slice) -> ReferenceStream | None:
        """Return the stream under `key`, made if there is none; None if there is no room for it."""
        stream = self._state.streams.get(key)
        if stream is None and stream_key.segment != ALL and not self._make_room():
            self._state.count("stream_overflow", self._deployment)
            return None
        return self._add(key, stream_key, like) if stream is None else stream

    def _add(self, key: str, stream_key: StreamKey, like: Slice) -> ReferenceStream:
        stream = ReferenceStream(stream_key, like.direction, like.version, self._episode(stream_key.release))
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
