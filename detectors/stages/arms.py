"""The arm tests of one closed bucket: which units are counted, and whether they may be compared."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final

import msgspec
import numpy as np

from detectors.records import Release, Signal, StreamKey
from detectors.stages.answers import Answers, Routed, answers_of
from detectors.stages.arm_stream import ArmStream
from detectors.stages.bucket import Bucket
from detectors.stages.candidate import Candidate
from detectors.stages.closed_units import ClosedUnits
from detectors.stages.detect_plan import DetectPlan
from detectors.stages.detect_state import DetectState, key_of
from detectors.stages.seen_units import Kind, SeenUnits, kind_of
from detectors.stages.units import ALL, UnitValue, bucket_of

CONVERSATION_HORIZON_MS: Final = 24 * 3_600_000
"""For how long a conversation is remembered; a user is for as long as the candidate's episode lasts."""

_HASHED: Final = attrgetter("hashed")


class ArmTests:
    """Feeds one closed bucket of one deployment to the arm tests of its candidates."""

    def __init__(self, plan: DetectPlan, state: DetectState, deployment: str, bucket_ms: int) -> None:
        self._plan, self._state, self._deployment, self._bucket_ms = plan, state, deployment, bucket_ms
        releases = state.releases.get(deployment, {})
        self._candidates = sorted(
            (release for release in releases.values() if release.role == "candidate"),
            key=lambda release: release.release,
        )
        self._stable = sorted(name for name, release in releases.items() if release.role == "stable")

    def run(self, bucket: Bucket, units: ClosedUnits, *, status_due: bool) -> list[Signal]:
        """Return what the arm tests say after `bucket`, whose watched units are `units`."""
        self._forget()
        if not self._candidates:
            return []
        answers = self._answers(bucket)
        obstacle = self._obstacle()
        fresh: dict[str, list[Routed]] = {}
        if not obstacle:
            fresh, full = self._fresh(answers.routed)
            obstacle = "seen_units_full" if full else ""
        found: list[Signal] = []
        for release in self._candidates:
            key, candidate = self._candidate(release)
            name = release.release
            served, stamped = answers.served.get(name, 0), answers.stamped.get(name, 0)
            candidate.serve(served=served, stamped=stamped, bucket_ms=self._bucket_ms)
            counted = self._assign(candidate, name, fresh.get(name, ()))
            status = candidate.status(self._at_ms, obstacle) if status_due else None
            found += [status] if status else []
            blind = obstacle or ("share_mismatch" if candidate.mismatch else "")
            found += self._feed(release, units.values_of(counted), status_due=status_due, blind=blind)
            self._state.own(key, self._deployment, name)
        return found

    def _answers(self, bucket: Bucket) -> Answers:
        since_ms = max(release.started_at_ms for release in self._candidates)
        if since_ms <= self._bucket_ms:
            return bucket.answers
        return answers_of([entry for entry in bucket.entries if entry.event_time_ms >= since_ms])

    @property
    def _at_ms(self) -> int:
        return self._bucket_ms + self._plan.unit_ms

    def _obstacle(self) -> str:
        if len(self._stable) == 1:
            return ""
        return "several_stable_releases" if self._stable else "no_stable_release"

    def _candidate(self, release: Release) -> tuple[str, Candidate]:
        key = key_of("candidate", self._deployment, release.release)
        candidate = self._state.candidates.get(key)
        if candidate is None:
            candidate = self._state.candidates[key] = Candidate(release)
        return key, candidate

    def _assign(self, candidate: Candidate, name: str, fresh: Iterable[Routed]) -> set[str]:
        """Bet on the arms of the fresh units; return those that the arm tests count."""
        arms = {name, self._stable[0]} if self._stable else {name}
        coins = [
            routed
            for routed in fresh
            if len(routed.releases) == len(routed.shares) == 1 and routed.releases <= arms
        ]
        treated = np.array([name in routed.releases for routed in coins], dtype=bool)
        shares = np.array([share for routed in coins for share in routed.shares], dtype=np.float64)
        candidate.assign(treated, np.where(treated, shares, 1.0 - shares))
        return {routed.unit for routed in coins}

    def _feed(
        self,
        release: Release,
        values: Mapping[tuple[str, str], Sequence[UnitValue]],
        *,
        status_due: bool,
        blind: str,
    ) -> list[Signal]:
        found: list[Signal] = []
        episode = str(release.started_at_ms)
        for (metric, version), ours in sorted(values.items()):
            stream_key = StreamKey(self._deployment, release.release, ALL, metric, "arm")
            key = key_of("arm", *msgspec.to_builtins(stream_key), episode, version)
            stream = self._state.arms.get(key)
            if stream is None:
                stream = self._state.arms[key] = ArmStream(
                    stream_key, ours[0].direction, version, episode, alpha=self._plan.arm_alpha
                )
            stream.feed(ours, self._bucket_ms)
            self._state.own(key, self._deployment, release.release)
            found += stream.signals(self._at_ms, release.role, status_due=status_due, blind=blind)
        return found

    def _horizon_ms(self, release: Release, kind: Kind) -> int:
        """Return the start of the first bucket that counts as the past of a unit for `release`."""
        began_ms = bucket_of(release.started_at_ms, self._plan.unit_ms)
        return began_ms if kind == "user" else max(began_ms, self._bucket_ms - CONVERSATION_HORIZON_MS)

    def _forget(self) -> None:
        kinds: tuple[Kind, ...] = ("user", "conversation")
        for kind in kinds:
            seen = self._state.seen_units.get((self._deployment, kind))
            if seen is None:
                continue
            until_ms = min(
                (self._horizon_ms(release, kind) for release in self._candidates), default=self._at_ms
            )
            for bucket_ms in seen.forget_before(until_ms):
                self._state.blobs.drop(key_of("seen", self._deployment, kind, bucket_ms))

    def _fresh(self, routed: Iterable[Routed]) -> tuple[dict[str, list[Routed]], bool]:
        """Return, by candidate, the units that its tests have not counted, and whether some had no room.

        A unit's arm is random once; when it comes back its arm is known, and a bet on it would not be fair.
        Their order is that of their hashes, so that what finds no room does not depend on names.
        """
        fresh: dict[str, list[Routed]] = defaultdict(list)
        new: dict[Kind, list[bytes]] = defaultdict(list)
        kinds: tuple[Kind, ...] = ("user", "conversation")
        tables = {kind: self._seen(kind) for kind in kinds}
        horizons = {
            kind: [(release.release, self._horizon_ms(release, kind)) for release in self._candidates]
            for kind in kinds
        }
        room = self._plan.max_seen_units - sum(len(table) for table in tables.values())
        refused = 0
        for one in sorted(routed, key=_HASHED):
            kind = kind_of(one.unit)
            last_ms = tables[kind].last(one.hashed)
            names = [name for name, ms in horizons[kind] if last_ms is None or last_ms < ms]
            if names and last_ms is None and room <= 0:
                refused += 1
            elif names:
                room -= last_ms is None
                new[kind].append(one.hashed)
                for name in names:
                    fresh[name].append(one)
        for kind, hashes in new.items():
            tables[kind].remember(self._bucket_ms, hashes)
            packed = tables[kind].packed(self._bucket_ms)
            self._state.blobs.put(key_of("seen", self._deployment, kind, self._bucket_ms), packed)
        if refused:
            self._state.count("seen_units_full", self._deployment, refused)
        return fresh, room <= 0

    def _seen(self, kind: str) -> SeenUnits:
        return self._state.seen_units.setdefault((self._deployment, kind), SeenUnits())
