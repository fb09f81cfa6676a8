"""The live state of the detect stage, and its keyed blobs."""

from collections.abc import Mapping
from typing import Any

import msgspec

from detectors.records import Reference, Release
from detectors.stages.arm_stream import ArmStream
from detectors.stages.contract import StageState
from detectors.stages.moments import Moments
from detectors.stages.reference_stream import ReferenceBuilder, ReferenceStream
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
    """

    def __init__(self, stored: Mapping[str, bytes]) -> None:
        self.blobs = StageState(stored)
        self.watermarks: dict[int, int] = {int(k): v for k, v in self.blobs.get("watermarks", {}).items()}
        self.closed_until_ms: int | None = self.blobs.get("closed_until_ms")
        self.releases: dict[str, dict[str, Release]] = {}
        self.streams: dict[str, ReferenceStream] = {}
        self.arms: dict[str, ArmStream] = {}
        self.builders: dict[str, ReferenceBuilder] = {}
        self.anchors: dict[str, Reference] = {}
        self.open: dict[tuple[int, str], list[Entry]] = {}
        self.seen_units: dict[str, dict[int, set[str]]] = {}
        self._touched: set[str] = set()
        self._fresh_entries: dict[tuple[int, str], list[Entry]] = {}
        self._load()

    def _load(self) -> None:
        for key in self.blobs.keys(""):
            kind, value = key.partition("[")[0], self.blobs.get(key)
            if kind == "release":
                release = msgspec.convert(value, Release)
                self.releases.setdefault(release.deployment, {})[release.release] = release
            elif kind == "stream":
                self.streams[key] = ReferenceStream.from_state(value)
            elif kind == "arm":
                self.arms[key] = ArmStream.from_state(value)
            elif kind == "builder":
                self.builders[key] = ReferenceBuilder(Moments.from_state(value["moments"]), value["first_ms"])
            elif kind == "anchor":
                self.anchors[key] = msgspec.convert(value, Reference)
            elif kind == "open":
                deployment, bucket, _ = msgspec.json.decode(key[len(kind) :])
                self.open.setdefault((bucket, deployment), []).extend(msgspec.convert(value, list[Entry]))
            elif kind == "seen":
                deployment, bucket = msgspec.json.decode(key[len(kind) :])
                self.seen_units.setdefault(deployment, {})[bucket] = set(value)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """What was counted and not detected: late records, streams and releases over their bound."""
        return self.blobs.counts

    def declare(self, release: Release) -> None:
        """Keep a declaration until event time has reached its start; repetitions change nothing."""
        key = key_of("declared", release.deployment)
        known = self.blobs.get(key, [])
        declared = msgspec.to_builtins(release)
        if declared not in known:
            rows = msgspec.convert([*known, declared], list[Release])
            self.blobs.put(key, [msgspec.to_builtins(row) for row in sorted(rows, key=_precedence)])

    def take_started(self, deployment: str, at_ms: int) -> list[Release]:
        """Put in force the declarations that started before `at_ms`, and return them in their order.

        Event time decides, not arrival: an earlier bucket that closes later must not see them.
        """
        key = key_of("declared", deployment)
        declared = msgspec.convert(self.blobs.get(key, []), list[Release])
        in_force = self.releases.setdefault(deployment, {})
        started = []
        for release in (release for release in declared if release.started_at_ms < at_ms):
            known = in_force.get(release.release)
            if known is None or _precedence(known) < _precedence(release):
                in_force[release.release] = release
                self.blobs.put(key_of("release", deployment, release.release), msgspec.to_builtins(release))
                started.append(release)
        waiting = [msgspec.to_builtins(release) for release in declared if release.started_at_ms >= at_ms]
        if len(waiting) < len(declared):
            self.blobs.put(key, waiting)
        return started

    def add_entry(self, deployment: str, bucket_ms: int, entry: Entry) -> None:
        """Keep `entry` until its bucket closes."""
        self.open.setdefault((bucket_ms, deployment), []).append(entry)
        self._fresh_entries.setdefault((bucket_ms, deployment), []).append(entry)

    def take_bucket(self, bucket_ms: int, deployment: str) -> list[Entry]:
        """Return and forget the entries of a bucket that closes."""
        self._fresh_entries.pop((bucket_ms, deployment), None)
        prefix = key_of("open", deployment, bucket_ms)[:-1] + ","
        for key in self.blobs.keys(prefix):
            self.blobs.drop(key)
        return self.open.pop((bucket_ms, deployment))

    def touch(self, key: str) -> None:
        """Mark the stream, arm or builder under `key` as changed."""
        self._touched.add(key)

    def take_changes(self, chunk: str) -> dict[str, bytes | None]:
        """Return the blobs changed since the last call; new open entries go under `chunk`."""
        for (bucket_ms, deployment), entries in sorted(self._fresh_entries.items()):
            self.blobs.put(key_of("open", deployment, bucket_ms, chunk), msgspec.to_builtins(entries))
        self._fresh_entries.clear()
        for key in sorted(self._touched):
            if (stream := self.streams.get(key) or self.arms.get(key)) is not None:
                self.blobs.put(key, stream.to_state())
            elif (builder := self.builders.get(key)) is not None:
                state = {"moments": builder.moments.to_state(), "first_ms": builder.first_ms}
                self.blobs.put(key, state)
            else:
                self.blobs.drop(key)
        self._touched.clear()
        return self.blobs.take_changes()


def _precedence(release: Release) -> tuple[int, bytes]:
    """Return what orders declarations of one release: the later start wins, equal starts by content."""
    return release.started_at_ms, msgspec.json.encode(release)
