"""What was normal between two times: references from scorecards, by the same units as detection sees."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from detectors.records import Cell, Reference, Scorecard, StreamKey
from detectors.stages.bucket import units_of
from detectors.stages.closed_units import ClosedUnits, Slice
from detectors.stages.moments import Moments
from detectors.stages.reference_builder import ReferenceBuilder
from detectors.stages.units import ALL, Entry, SegmentTable, bucket_of, entry_of

MIN_UNITS: Final = 30
"""A slice with fewer units gets no reference of its own: it could show nothing."""


def references_of(cards: Iterable[Scorecard], table: SegmentTable, *, unit_ms: int) -> list[Reference]:
    """Return the reference of every metric, version and segment of `cards`, by segment, metric and version.

    Parameters
    ----------
    cards
        Of one release of one deployment, in any order, each once.
    table
        Which values of each segment are kept apart; detection has the one that its labels come from.
    unit_ms
        Length of a bucket of event time.

    Returns
    -------
    list of Reference
        Nobody has approved them yet. None for a metric and segment with fewer than 30 units.

    Raises
    ------
    ValueError
        If the cards are of several releases or deployments.
    """
    buckets: dict[int, list[Entry]] = defaultdict(list)
    names: set[tuple[str, str]] = set()
    for card in cards:
        names.add((card.deployment, card.release))
        buckets[bucket_of(card.event_time_ms, unit_ms)].append(entry_of(card))
    if len(names) > 1:
        raise ValueError("need the scorecards of one release")
    if not names:
        return []
    ((deployment, release),) = names
    builders = _collect(buckets, table)
    last_ms = max(buckets) + unit_ms
    found = []
    for segment, metric, version in sorted(builders):
        builder = builders[segment, metric, version]
        if builder.moments.n >= MIN_UNITS:
            key = StreamKey(deployment, release, segment, metric, "reference")
            cells = _cells(builders, metric, version) if segment == ALL else {}
            found.append(builder.pin(key, version, last_ms, cells))
    return found


def _collect(
    buckets: dict[int, list[Entry]], table: SegmentTable
) -> dict[tuple[str, str, str], ReferenceBuilder]:
    builders: dict[tuple[str, str, str], ReferenceBuilder] = {}
    for bucket_ms in sorted(buckets):
        table.admit(buckets[bucket_ms])
        units = ClosedUnits(units_of(buckets[bucket_ms]), table)
        for segment in units.segments():
            for one in units.slices(segment):
                builder = builders.setdefault(_place(one), ReferenceBuilder(Moments(), min(buckets)))
                builder.add(one.column)
    return builders


def _place(one: Slice) -> tuple[str, str, str]:
    return one.segment, one.metric, one.version


def _cells(
    builders: dict[tuple[str, str, str], ReferenceBuilder], metric: str, version: str
) -> dict[str, Cell]:
    return {
        segment: builder.cell
        for (segment, *measured), builder in builders.items()
        if measured == [metric, version] and segment != ALL
    }
