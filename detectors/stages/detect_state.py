"""The live state of the detect stage, and its keyed blobs."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

from detectors.records import Reference, Release
from detectors.stages.arm_stream import ArmStream
from detectors.stages.bucket import Bucket
from detectors.stages.candidate import Candidate
from detectors.stages.contract import StageState
from detectors.stages.foresight import Foresight
from detectors.stages.moments import Moments
from detectors.stages.reference_builder import ReferenceBuilder
from detectors.stages.reference_stream import ReferenceStream
from detectors.stages.seen_units import SeenUnits
from detectors.stages.stream_table import StreamTable
from detectors.stages.units import Entry


def key_of(kind: str, *parts: Any) -> str:
    """Return the storage key of one blob: unambiguous whatever the parts hold."""
    return kind + msgspec.json.encode(parts).decode()


class DetectState:
    """What the detect stage knows in one partition of its source.

    Attributes
    ----------
    watermarks
        Event time reached, by source partition.
    closed_until_ms
        Every bucket that starts before this is closed; what arrives for it is late.
    open
        Entries of buckets still open, by (bucket start, deployment).
    prepared, foresights, prepared_at
        What was made of open buckets before their close, and up to which, after which close; not stored.
    status_turns
        The latest status time, counted in periods, of every deployment that is watched.
    seen_units
        The units of randomisation counted already, by (deployment, kind).
    """

    def __init__(self, stored: Mapping[str, bytes]) -> None:
        self.blobs = StageState(stored)
        self.watermarks: dict[int, int] = {int(k): v for k, v in self.blobs.get("watermarks", {}).items()}
        self.closed_until_ms: int | None = self.blobs.get("closed_until_ms")
        self.status_turns: dict[str, int] = {}
        self.releases: dict[str, dict[str, Release]] = {}
        self.streams = StreamTable()
        self.arms: dict[str, ArmStream] = {}
        self.candidates: dict[str, Candidate] = {}
        self.builders: dict[str, ReferenceBuilder] = {}
        self.anchors: dict[str, Reference] = {}
        self.open: dict[tuple[int, str], list[Entry]] = {}
        self.prepared: dict[tuple[int, str], Bucket] = {}
        self.foresights: dict[tuple[int, str], Foresight] = {}
        self.prepared_at: tuple[int, int | None] | None = None
        self.seen_units: dict[tuple[str, str], SeenUnits] = {}
        self._keys_of: dict[tuple[str, str], set[str]] = defaultdict(set)  # by deployment and release
        self._chunks: dict[tuple[int, str], list[str]] = {}  # keys of the stored entries of open buckets
        self._touched: set[str] = set()
        self._stored_entries: dict[tuple[int, str], int] = {}  # how many, of the buckets with others
        self._load()

    def _load(self) -> None:
        seen: dict[tuple[str, str], dict[int, bytes]] = defaultdict(dict)
        streams: list[tuple[str, ReferenceStream]] = []
        for key in self.blobs.keys(""):
            kind, bracket, rest = key.partition("[")
            value, parts = self.blobs.get(key), msgspec.json.decode(bracket + rest) if bracket else []
            if kind == "stream":
                streams.append((key, ReferenceStream.from_state(value)))
            elif kind == "seen":
                seen[parts[0], parts[1]][parts[2]] = value
            elif kind == "open":
                where = (parts[1], parts[0])
                self.open.setdefault(where, []).extend(msgspec.convert(value, list[Entry]))
                self._chunks.setdefault(where, []).append(key)
            elif kind == "status_turn":
                self.status_turns[parts[0]] = value
            else:
                self._load_other(kind, key, value)
            if kind in {"stream", "arm", "candidate"} or (kind == "builder" and parts[4] == "own"):
                self._keys_of[parts[0], parts[1]].add(key)
        self.streams.load(streams)
        self.seen_units = {where: SeenUnits(stored) for where, stored in seen.items()}

    def _load_other(self, kind: str, key: str, value: Any) -> None:
        if kind == "release":
            release = msgspec.convert(value, Release)
            self.releases.setdefault(release.deployment, {})[release.release] = release
        elif kind == "arm":
            self.arms[key] = ArmStream.from_state(value)
        elif kind == "candidate":
            self.candidates[key] = Candidate.from_state(value)
        elif kind == "builder":
            self.builders[key] = ReferenceBuilder(Moments.from_state(value["moments"]), value["first_ms"])
        elif kind == "anchor":
            self.anchors[key] = msgspec.convert(value, Reference)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """What was counted and not detected: late records, streams and releases over their bound."""
        return self.blobs.counts

    def count(self, what: str, deployment: str, by: int = 1) -> None:
        """Count something not detected; names of deployments that are not watched are not kept."""
        self.blobs.count(what, deployment if deployment in self.status_turns else "", by)

    def declare(self, release: Release) -> None:
        """Keep a declaration until event time has reached its start; repetitions change nothing."""
        key = key_of("declared", release.deployment)
        known = self.blobs.get(key, [])
        declared = msgspec.to_builtins(release)
        if declared not in known:
            rows = msgspec.convert([*known, declared], list[Release])
            self.blobs.put(key, [msgspec.to_builtins(row) for row in sorted(rows, key=_precedence)])

    def is_declared(self, deployment: str) -> bool:
        """Return whether anybody declared a release of `deployment`, in force or to come."""
        return deployment in self.releases or bool(self.blobs.get(key_of("declared", deployment)))

    def take_started(self, deployment: str, at_ms: int) -> list[Release]:
        """Put in force the declarations that started before `at_ms`, and return them in their order.

        Event time decides, not arrival: an earlier bucket that closes later must not see them. A new start
        is a new episode: what was known of the old one is dropped.
        """
        key = key_of("declared", deployment)
        waiting = self.blobs.get(key)
        if not waiting:
            return []
        declared = msgspec.convert(waiting, list[Release])
        in_force = self.releases.setdefault(deployment, {})
        started = []
        for release in (release for release in declared if release.started_at_ms < at_ms):
            known = in_force.get(release.release)
            if known is not None and _precedence(known) >= _precedence(release):
                continue
            if known is None or known.started_at_ms != release.started_at_ms:
                self.drop_release(deployment, release.release)
            in_force[release.release] = release
            self.blobs.put(key_of("release", deployment, release.release), msgspec.to_builtins(release))
            started.append(release)
        still = [msgspec.to_builtins(release) for release in declared if release.started_at_ms >= at_ms]
        if len(still) < len(declared):
            self.blobs.put(key, still)
        return started

    def approve(self, reference: Reference) -> None:
        """Keep an approval until event time has reached it; repetitions change nothing."""
        key = key_of("approved", reference.deployment)
        known = self.blobs.get(key, [])
        approved = msgspec.to_builtins(reference)
        if approved not in known:
            rows = msgspec.convert([*known, approved], list[Reference])
            self.blobs.put(key, [msgspec.to_builtins(row) for row in sorted(rows, key=_approval)])

    def count_references(self, deployment: str) -> int:
        """Return how many anchors `deployment` has, and approvals that wait."""
        waiting = len(self.blobs.get(key_of("approved", deployment), []))
        return waiting + sum(anchor.deployment == deployment for anchor in self.anchors.values())

    def take_approved(self, deployment: str, at_ms: int) -> None:
        """Make the references that were approved before `at_ms` the anchors, in their order.

        Event time decides, as it does for declarations. What was being learned for the same place ends.
        """
        key = key_of("approved", deployment)
        waiting = msgspec.convert(self.blobs.get(key, []), list[Reference])
        if not waiting:
            return
        still = []
        for reference in waiting:
            if reference.approved_at_ms is not None and reference.approved_at_ms >= at_ms:
                still.append(msgspec.to_builtins(reference))
                continue
            place = _place(reference)
            anchor = self.anchors.get(key_of("anchor", *place))
            if anchor is None or _approval(anchor) < _approval(reference):
                self.set_anchor(reference)
                self._drop_builders(place)
        if len(still) < len(waiting):
            self.blobs.put(key, still)

    def set_anchor(self, reference: Reference) -> None:
        """Make `reference` what its metric and segment are compared with."""
        key = key_of("anchor", *_place(reference))
        self.anchors[key] = reference
        self.blobs.put(key, msgspec.to_builtins(reference))

    def _drop_builders(self, place: tuple[str, str, str, str]) -> None:
        for key in list(self.builders):
            deployment, _, segment, metric, test, version = msgspec.json.decode(key.removeprefix("builder"))
            if test == "reference" and (deployment, segment, metric, version) == place:
                del self.builders[key]
                self._touched.add(key)

    def own(self, key: str, deployment: str, release: str) -> None:
        """Note that the stream, arm, candidate or builder under `key` belongs to a release."""
        self._keys_of[deployment, release].add(key)
        self._touched.add(key)

    def drop_release(self, deployment: str, release: str) -> None:
        """Forget the streams, arms and candidate of a release, and its beginning; anchors stay."""
        for key in self._keys_of.pop((deployment, release), ()):
            self.streams.drop(key)
            self.arms.pop(key, None)
            self.candidates.pop(key, None)
            self.builders.pop(key, None)
            self._touched.add(key)

    def drop_stream(self, key: str, deployment: str, release: str) -> None:
        """Forget one stream."""
        self.streams.drop(key)
        self._keys_of[deployment, release].discard(key)
        self._touched.add(key)

    def add_entry(self, deployment: str, bucket_ms: int, entry: Entry) -> None:
        """Keep `entry` until its bucket closes."""
        where = (bucket_ms, deployment)
        entries = self.open.get(where)
        if entries is None:
            entries = self.open[where] = []
        if where not in self._stored_entries:
            self._stored_entries[where] = len(entries)
        entries.append(entry)

    def take_bucket(self, bucket_ms: int, deployment: str) -> Bucket:
        """Return and forget the bucket, which closes: as it was prepared, if nothing came since."""
        where = bucket_ms, deployment
        self._stored_entries.pop(where, None)
        for key in self._chunks.pop(where, ()):
            self.blobs.drop(key)
        entries, prepared = self.open.pop(where), self.prepared.pop(where, None)
        return prepared if prepared is not None and prepared.is_of(entries) else Bucket(entries)

    def take_foresight(self, bucket_ms: int, deployment: str) -> Foresight:
        """Return and forget what was expected of the bucket: nothing, if it was not prepared."""
        return self.foresights.pop((bucket_ms, deployment), None) or Foresight(())

    def has_candidate(self, deployment: str) -> bool:
        """Return whether a release of `deployment` is a candidate."""
        return any(one.role == "candidate" for one in self.releases.get(deployment, {}).values())

    def touch(self, key: str) -> None:
        """Mark the stream, arm, candidate or builder under `key` as changed."""
        self._touched.add(key)

    def take_changes(self, chunk: str) -> dict[str, bytes | None]:
        """Return the blobs changed since the last call; new open entries go under `chunk`."""
        for (bucket_ms, deployment), stored in sorted(self._stored_entries.items()):
            key = key_of("open", deployment, bucket_ms, chunk)
            entries = self.open[bucket_ms, deployment][stored:]
            self.blobs.put(key, entries)  # packed as they are: plain arrays again when they are read
            self._chunks.setdefault((bucket_ms, deployment), []).append(key)
        self._stored_entries.clear()
        for key in sorted(self._touched):
            thing = self.streams.get(key) or self.arms.get(key) or self.candidates.get(key)
            if thing is not None:
                self.blobs.put(key, thing.to_state())
            elif (builder := self.builders.get(key)) is not None:
                state = {"moments": builder.moments.to_state(), "first_ms": builder.first_ms}
                self.blobs.put(key, state)
            else:
                self.blobs.drop(key)
        self._touched.clear()
        return self.blobs.take_changes()


def _place(reference: Reference) -> tuple[str, str, str, str]:
    """Return what a reference is the anchor of."""
    return reference.deployment, reference.segment, reference.metric, reference.scorer_version


def _approval(reference: Reference) -> tuple[int, str]:
    """Return what orders approvals of one place: the later wins; what nobody approved comes first."""
    at_ms = reference.approved_at_ms
    return -1 if at_ms is None else at_ms, reference.reference_id


def _precedence(release: Release) -> tuple[int, bytes]:
    """Return what orders declarations of one release: the later start wins, equal starts by content."""
    return release.started_at_ms, msgspec.json.encode(release)
