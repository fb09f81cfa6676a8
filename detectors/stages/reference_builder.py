"""What normal is: the first closed units of the stable release."""

from collections.abc import Mapping

from detectors.records import Cell, Reference, StreamKey
from detectors.records.reference import name_reference
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

    @property
    def cell(self) -> Cell:
        """What was collected, as a slice of a larger reference."""
        moments = self.moments
        return Cell(moments.n, moments.total, moments.square_sum)

    def pin(
        self, key: StreamKey, scorer_version: str, last_ms: int, cells: Mapping[str, Cell] | None = None
    ) -> Reference:
        """Return the immutable reference, with its `cells` by slice, under the id of its content."""
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
            cells=dict(cells or {}),
        )
        return name_reference(reference)
