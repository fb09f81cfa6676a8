"""Detect: scorecards become closed units, closed units become signals."""

from collections.abc import Mapping, Sequence

from detectors.records import Reference, Release, Scorecard, Tick
from detectors.stages.admission import admit_deployment
from detectors.stages.closing import Closing, prepare
from detectors.stages.contract import Delivery, Output
from detectors.stages.detect_plan import DetectPlan
from detectors.stages.detect_state import DetectState
from detectors.stages.units import bucket_of, entry_of


class DetectStage:
    """Closes buckets of event time and feeds their units to the detectors of every stream.

    Results are a function of the set of records: partitions, batch edges and merge order do not matter, as
    long as no record is later than the allowed lateness. Late records are counted, not detected.
    """

    name = "detect"
    source = "scorecards"

    def __init__(self, plan: DetectPlan) -> None:
        self._plan = plan

    @property
    def plan(self) -> DetectPlan:
        """How detection is done."""
        return self._plan

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
            elif isinstance(record, Reference):
                self._approve(state, record)
        if not outputs:  # what a close brought forth must not wait
            self._prepare(state)
        if batch:
            state.blobs.put("last_offset", batch[-1].offset)
            state.blobs.put("watermarks", {str(k): v for k, v in sorted(state.watermarks.items())})
        return state, outputs

    def _approve(self, state: DetectState, reference: Reference) -> None:
        if state.count_references(reference.deployment) < self._plan.max_streams:
            state.approve(reference)
        else:
            state.count("reference_overflow", reference.deployment)

    def _collect(self, state: DetectState, card: Scorecard) -> None:
        bucket_ms = bucket_of(card.event_time_ms, self._plan.unit_ms)
        if state.closed_until_ms is not None and bucket_ms < state.closed_until_ms:
            state.count("late", card.deployment)
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
            bucket = state.take_bucket(bucket_ms, deployment)
            foresight = state.take_foresight(bucket_ms, deployment)
            if admit_deployment(self._plan, state, deployment):
                outputs += Closing(self._plan, state, deployment, bucket_ms).run(bucket, foresight)
            else:
                state.count("deployment_overflow", deployment, len(bucket.entries))
        return outputs

    def _prepare(self, state: DetectState) -> None:
        """Do for the next closes what will hardly change: half of the allowed lateness is over.

        Detectors look ahead only where they stand: at the oldest bucket of their deployment.
        """
        if len(state.watermarks) < self._plan.source_partitions:
            return
        until = bucket_of(min(state.watermarks.values()) - self._plan.lateness_ms // 2, self._plan.unit_ms)
        if (until, state.closed_until_ms) == state.prepared_at:
            return
        state.prepared_at = until, state.closed_until_ms
        looked: set[str] = set()
        for bucket_ms, deployment in sorted(key for key in state.open if key[0] < until):
            is_next = deployment not in looked
            looked.add(deployment)
            if admit_deployment(self._plan, state, deployment):
                prepare(self._plan, state, deployment, bucket_ms, is_next=is_next)
