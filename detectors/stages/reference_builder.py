"""What normal is: the first closed units of the stable release."""

import msgspec

from detectors.records import Reference, StreamKey
from detectors.records.ids import content_digest
from detectors.stages.closed_units import Column
from detectors.stages.moments import Moments


class ReferenceBuilder:
    """Collects the first closed units of the stable release until the reference can be pinned."""

    def __init__(self, moments: Moments, first_ms: int) -> None:
        self.moments = moments
        self.first_ms = first_ms

    def add(self, column: Column) -> None:
        """Take in the units of one closed bucket."""
        self.moments.add(column.values)

    def pin(self, key: StreamKey, scorer_version: str, last_ms: int) -> Reference:
        """Return the immutable reference; its id is the hash of everything else in it."""
        reference = Reference(
            reference_id="",
            deployment=key.deployment,
            release=key.release,
            segment=key.segment,
            metric=key.metric,
            scorer_version=scorer_version,
            n=self.moments.n,
            mean=self.moments.mean or 0.0,
            variance=self.moments.variance,
            first_ms=self.first_ms,
            last_ms=last_ms,
        )
        return msgspec.structs.replace(reference, reference_id=content_digest(msgspec.json.encode(reference)))
