"""The units of one closed bucket, by column: one release, one metric, all its units at once.

A unit is one randomisation key (a conversation, or a user) within one bucket of event time. A bucket closes
when every source partition has moved past its end plus the allowed lateness; its units are then fed in the
order of their keys. So the result does not depend on partitions, batch edges or merge order.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.records import Direction
from detectors.stages.units import Entry, Measure, SegmentTable, UnitValue

_FIELDS_OF = attrgetter("metric", "value", "direction", "version")


class Column(Struct, frozen=True):
    """Unit values of one metric in the order of the unit keys, each with the interactions behind it."""

    values: NDArray[np.float64]
    ids: Sequence[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.values)


class Slice(Struct, frozen=True):
    """One column and the stream that it belongs to."""

    segment: str
    metric: str
    version: str
    release: str
    direction: Direction
    column: Column


class _Metric:
    """One metric of one release while its units are collected; ``rows`` are positions of units."""

    __slots__ = ("direction", "ids", "rows", "values")

    def __init__(self, direction: Direction) -> None:
        self.direction: Direction = direction
        self.rows: list[int] = []
        self.values: list[float] = []
        self.ids: list[tuple[str, ...]] = []


class _Release:
    """The units of one release while they are collected."""

    __slots__ = ("metrics", "rows_of", "shares", "units")

    def __init__(self) -> None:
        self.units: list[str] = []
        self.shares: list[float | None] = []
        self.rows_of: dict[str, list[int]] = defaultdict(list)  # by segment
        self.metrics: dict[tuple[str, str], _Metric] = {}

    def add(self, members: Sequence[Entry], labels: Iterable[str]) -> None:
        """Take in one unit, whose first interaction counts in the segments `labels`."""
        row, first = len(self.units), members[0]
        self.units.append(first.unit)
        for label in labels:
            self.rows_of[label].append(row)
        if len(members) == 1:  # by far the most units, and the mean of one value is that value
            self.shares.append(first.share)
            alone, metrics = (first.interaction_id,), self.metrics
            for name, value, direction, version in map(_FIELDS_OF, first.measures):
                metric = metrics.get((name, version))
                if metric is None:
                    metric = metrics[name, version] = _Metric(direction)
                metric.rows.append(row)
                metric.values.append(value)
                metric.ids.append(alone)
            return
        self.shares.append(next((entry.share for entry in members if entry.share is not None), None))
        for measure, value, ids in _means(members):
            self._put(row, measure, value, ids)

    def _put(self, row: int, measure: Measure, value: float, ids: tuple[str, ...]) -> None:
        key = (measure.metric, measure.version)
        metric = self.metrics.get(key)
        if metric is None:
            metric = self.metrics[key] = _Metric(measure.direction)
        metric.rows.append(row)
        metric.values.append(value)
        metric.ids.append(ids)


class ClosedUnits:
    """What one closed bucket of one deployment holds.

    A unit is what one release answered of one randomisation key. It counts in the segments of its first
    interaction (by event time, then id) alone, and so once in each dimension. The mean is an exactly rounded
    sum. Nothing depends on the order of the entries.

    Parameters
    ----------
    entries
        What was collected for the bucket, in any order.
    table
        Which values of each segment are kept apart.
    """

    def __init__(self, entries: Iterable[Entry], table: SegmentTable) -> None:
        members: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in entries:
            members[entry.unit, entry.release].append(entry)
        self._releases: dict[str, _Release] = defaultdict(_Release)
        for unit, release in sorted(members):
            group = members[unit, release]
            if len(group) > 1:
                group.sort(key=lambda entry: (entry.event_time_ms, entry.interaction_id))
            self._releases[release].add(group, table.labels(group[0]))

    def slices(self, segment: str) -> list[Slice]:
        """Return the columns of `segment`, by metric, version and release."""
        found = []
        for release, units in self._releases.items():
            rows = units.rows_of.get(segment)
            if not rows:
                continue
            chosen = np.zeros(len(units.units), dtype=bool)
            chosen[rows] = True
            for (metric, version), measured in units.metrics.items():
                column = _column(measured, chosen)
                if len(column):
                    found.append(Slice(segment, metric, version, release, measured.direction, column))
        return sorted(found, key=lambda one: (one.metric, one.version, one.release))

    def segments(self) -> list[str]:
        """Return the names of all segments with units, sorted."""
        return sorted({label for units in self._releases.values() for label in units.rows_of})

    def unit_values(self) -> list[UnitValue]:
        """Return the values of all units one by one, by unit, release, metric and version."""
        return sorted(self._unit_values(), key=lambda one: (one.unit, one.release, one.metric, one.version))

    def _unit_values(self) -> Iterator[UnitValue]:
        for release, units in self._releases.items():
            for (metric, version), measured in units.metrics.items():
                for row, value, ids in zip(measured.rows, measured.values, measured.ids, strict=True):
                    yield UnitValue(
                        release, units.units[row], units.shares[row], metric, value, measured.direction,
                        version, ids,
                    )  # fmt: skip


def _column(measured: _Metric, chosen: NDArray[np.bool_]) -> Column:
    values = np.array(measured.values, dtype=np.float64)
    kept = np.flatnonzero(chosen[measured.rows])
    if len(kept) == len(values):
        return Column(values, measured.ids)
    ids = measured.ids
    return Column(values[kept], [ids[index] for index in kept.tolist()])


def _means(members: Sequence[Entry]) -> Iterator[tuple[Measure, float, tuple[str, ...]]]:
    """Yield the mean of every metric and version over the interactions of one unit."""
    grouped: dict[tuple[str, str], list[tuple[str, Measure]]] = defaultdict(list)
    for entry in members:
        for measure in entry.measures:
            grouped[measure.metric, measure.version].append((entry.interaction_id, measure))
    for measured in grouped.values():
        mean = math.fsum(measure.value for _, measure in measured) / len(measured)
        yield measured[0][1], mean, tuple(interaction_id for interaction_id, _ in measured)
