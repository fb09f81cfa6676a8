"""The close of one bucket of one deployment."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from detectors.records import Release, Signal
from detectors.stages.admission import admit_releases, watched_releases
from detectors.stages.arms import ArmTests
from detectors.stages.bucket import Bucket, ReleaseUnits, units_of
from detectors.stages.closed_units import ClosedUnits
from detectors.stages.contract import Output
from detectors.stages.detect_plan import DetectPlan
from detectors.stages.detect_state import DetectState, key_of
from detectors.stages.foresight import Foresight
from detectors.stages.reference_tests import ReferenceTests
from detectors.stages.served_shares import count_served, share_statuses
from detectors.stages.units import SegmentTable


def prepare(plan: DetectPlan, state: DetectState, deployment: str, bucket_ms: int, *, is_next: bool) -> None:
    """Do for the close of an open bucket what will hardly change; nothing that is stored is changed.

    If it `is_next` of its deployment to close, detectors look ahead; behind another they would begin where
    they will not stand.
    """
    where = bucket_ms, deployment
    bucket, watched = state.prepared.get(where), watched_releases(state, deployment)
    if bucket is None or (is_next and not bucket.is_of(state.open[where])):
        bucket = state.prepared[where] = Bucket(state.open[where])
        bucket.prepare(watched, has_candidate=state.has_candidate(deployment))
    if not is_next or where in state.foresights:
        return
    releases = bucket.units_of(watched)
    table = _segment_table(plan, state, deployment)
    table.admit(chain.from_iterable(of.samples for of in releases.values()))
    tests = ReferenceTests(plan, state, deployment, state.releases.get(deployment, {}), bucket_ms)
    state.foresights[where] = tests.expect(ClosedUnits(releases, table))


class Closing:
    """Feeds the units of a closed bucket to every stream, and collects what the streams say."""

    def __init__(self, plan: DetectPlan, state: DetectState, deployment: str, bucket_ms: int) -> None:
        self._plan, self._state, self._deployment, self._bucket_ms = plan, state, deployment, bucket_ms
        self._at_ms = bucket_ms + plan.unit_ms
        self._releases: dict[str, Release] = {}
        self._status_due = self._take_status_turn()
        self._outputs: list[Output] = []

    def run(self, bucket: Bucket, foresight: Foresight) -> list[Output]:
        """Return declarations that come into force, references, and signals."""
        state, deployment, bucket_ms = self._state, self._deployment, self._bucket_ms
        for release in state.take_started(deployment, self._at_ms):
            self._outputs.append(Output(topic="signals", key=deployment, record=release))
        self._releases = state.releases.get(deployment, {})
        watched = admit_releases(self._plan, state, deployment, bucket.served, bucket_ms)
        units = self._close(self._watched_units(bucket, watched))
        references = ReferenceTests(self._plan, state, deployment, self._releases, bucket_ms)
        self._outputs += references.run(units, foresight, status_due=self._status_due)
        arms = ArmTests(self._plan, state, deployment, bucket_ms)
        self._emit(arms.run(bucket, units, status_due=self._status_due))
        count_served(state, deployment, bucket.served, watched, bucket_ms)
        if self._status_due:
            self._emit(share_statuses(state, deployment, self._at_ms))
        return self._outputs

    def _watched_units(self, bucket: Bucket, watched: Iterable[str]) -> dict[str, ReleaseUnits]:
        """Return the units of the releases that are watched, from their start on.

        Names without end must not cost without end: what is not watched stops here. So does what a release
        answered in the bucket before its declared start: it belongs to its last episode.
        """
        starts_ms = {release: self._start_ms(release) for release in watched}
        if all(start_ms <= self._bucket_ms for start_ms in starts_ms.values()):
            return bucket.units_of(starts_ms)
        return units_of(
            entry for entry in bucket.entries if entry.event_time_ms >= starts_ms.get(entry.release, math.inf)
        )

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

    def _close(self, releases: Mapping[str, ReleaseUnits]) -> ClosedUnits:
        table = _segment_table(self._plan, self._state, self._deployment)
        if table.admit(chain.from_iterable(of.samples for of in releases.values())):
            self._state.blobs.put(key_of("segments", self._deployment), table.kept)
        if table.overflow:
            self._state.count("segment_overflow", self._deployment, table.overflow)
        return ClosedUnits(releases, table)

    def _emit(self, signals: Sequence[Signal]) -> None:
        self._outputs += [Output(topic="signals", key=self._deployment, record=signal) for signal in signals]


def _segment_table(plan: DetectPlan, state: DetectState, deployment: str) -> SegmentTable:
    kept: dict[str, list[str]] = state.blobs.get(key_of("segments", deployment), {})
    return SegmentTable(plan.segment_top, {name: list(values) for name, values in kept.items()})
