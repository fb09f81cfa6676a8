"""What every stream of a closed bucket is compared with: the approved anchor, and its release's beginning."""

from typing import Literal

import msgspec

from detectors.records import Cell, Reference, Release, StreamKey
from detectors.stages.closed_units import Slice
from detectors.stages.detect_plan import DetectPlan
from detectors.stages.detect_state import DetectState, key_of
from detectors.stages.moments import Moments
from detectors.stages.reference_builder import ReferenceBuilder
from detectors.stages.units import ALL


class Anchors:
    """Finds, learns and pins the references of one deployment while one bucket closes.

    The anchor of a metric and segment is what somebody approved last. Until then it is the first units of the
    stable release, pinned once and for all: a later release inherits it, and nothing moves it but an
    approval. A release that is not the anchor's own is also compared with its own first units, in ``all``.

    Parameters
    ----------
    plan, state
        How detection is done, and what it knows.
    deployment, releases
        Whose bucket it is, and its declarations in force.
    bucket_ms
        Where the bucket starts.
    """

    def __init__(
        self,
        plan: DetectPlan,
        state: DetectState,
        deployment: str,
        releases: dict[str, Release],
        bucket_ms: int,
    ) -> None:
        self._plan, self._state, self._deployment = plan, state, deployment
        self._releases, self._bucket_ms = releases, bucket_ms
        self._learning: dict[str, tuple[StreamKey, str]] = {}

    def of(self, segment: str, metric: str, version: str) -> Reference | None:
        """Return the anchor of one metric in one segment, None while there is none."""
        return self._state.anchors.get(key_of("anchor", self._deployment, segment, metric, version))

    def learn_anchor(self, one: Slice) -> None:
        """Let the stable release's units become the anchor; others teach nothing."""
        declared = self._releases.get(one.release)
        if declared is not None and declared.role == "stable":
            self._learn(self._key(one, "reference"), one)

    def learn_own(self, one: Slice) -> None:
        """Let the release's first units become its own reference."""
        key = self._learn(self._key(one, "own"), one)
        self._state.own(key, self._deployment, one.release)

    def forget_own(self, one: Slice) -> None:
        """Drop what was learned of the release's own beginning: it is the anchor now."""
        key = key_of("builder", *msgspec.to_builtins(self._key(one, "own")), one.version)
        if self._state.builders.pop(key, None) is not None:
            self._state.touch(key)

    def take_learned(self, at_ms: int) -> list[tuple[StreamKey, Reference]]:
        """Return and forget the references that are complete at the close of the bucket; anchors are set."""
        state, found = self._state, []
        for builder_key, (key, version) in self._learning.items():
            builder = state.builders[builder_key]
            if builder.moments.n >= self._plan.reference_units:
                cells = self._cells(key, version) if key.test == "reference" and key.segment == ALL else {}
                found.append((key, builder.pin(key, version, at_ms, cells)))
        for key, reference in found:
            builder_key = key_of("builder", *msgspec.to_builtins(key), reference.scorer_version)
            del state.builders[builder_key]
            state.touch(builder_key)
            if key.test == "reference":
                state.set_anchor(reference)
        return found

    def _key(self, one: Slice, test: Literal["reference", "own"]) -> StreamKey:
        return StreamKey(self._deployment, one.release, one.segment, one.metric, test)

    def _learn(self, key: StreamKey, one: Slice) -> str:
        builder_key = key_of("builder", *msgspec.to_builtins(key), one.version)
        builder = self._state.builders.get(builder_key)
        if builder is None:
            builder = self._state.builders[builder_key] = ReferenceBuilder(Moments(), self._bucket_ms)
        builder.add(one.column)
        self._state.touch(builder_key)
        self._learning[builder_key] = (key, one.version)
        return builder_key

    def _cells(self, whole: StreamKey, version: str) -> dict[str, Cell]:
        """Return the slices of the units that `whole` collected: their builders began with its own."""
        found = {}
        for other, builder in self._state.builders.items():
            name = _slice_of(other, whole, version)
            if name:
                found[name] = builder.cell
        return found


def _slice_of(builder_key: str, whole: StreamKey, version: str) -> str:
    """Return the segment of a builder of the same release, metric and version; empty for any other."""
    deployment, release, segment, metric, test, other = msgspec.json.decode(
        builder_key.removeprefix("builder")
    )
    same = (deployment, release, metric, test, other) == (
        whole.deployment, whole.release, whole.metric, whole.test, version,
    )  # fmt: skip
    return segment if same and segment != ALL else ""
