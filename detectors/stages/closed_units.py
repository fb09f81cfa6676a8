"""The units of one closed bucket, by column: one release, one metric, all its units at once.

A bucket closes when every source partition has moved past its end plus the allowed lateness; its units are
then fed in the order of their keys. So the result does not depend on partitions, batch edges or merge order.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from operator import attrgetter
from typing import Any, overload

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.records import Direction
from detectors.stages.bucket import Kind, Metric, ReleaseUnits, Unit
from detectors.stages.units import ALL, SegmentTable, UnitValue

_ARM_ORDER = attrgetter("unit", "release")


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


class _Ids(Sequence[tuple[str, ...]]):
    """The interactions behind the units in `rows`, looked up when they are asked for: hardly any ever are."""

    def __init__(self, units: Sequence[Unit], kind: Kind, rows: NDArray[np.intp]) -> None:
        self._units, self._kind, self._rows = units, kind, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[str, ...]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return _Ids(self._units, self._kind, self._rows[index])
        return self._units[self._rows[index]].ids_of(self._kind)


class _Release:
    """The units of one release, and which of them are in which slice."""

    def __init__(self, of: ReleaseUnits, table: SegmentTable) -> None:
        self.units, self.metrics, self._of = of.units, of.metrics, of
        self._groups_of: dict[str, list[int]] = defaultdict(list)
        for group, segments in enumerate(of.groups):
            for label in table.labels_of(segments):
                self._groups_of[label].append(group)

    def labels(self) -> Iterable[str]:
        """Return the segments with units."""
        return self._groups_of.keys()

    def columns(self, segment: str) -> Iterator[tuple[Kind, Direction, Column]]:
        """Yield the columns of `segment`."""
        if segment not in self._groups_of:
            return
        counted = np.zeros(len(self._of.groups), dtype=bool)
        counted[self._groups_of[segment]] = True
        chosen = counted[self._of.group_of]
        for kind, metric in self.metrics.items():
            rows, values = metric.rows, metric.values
            if segment != ALL:
                kept = np.flatnonzero(chosen[rows])
                rows, values = rows[kept], values[kept]
            if len(rows):
                yield kind, metric.direction, Column(values, _Ids(self.units, kind, rows))


class ClosedUnits:
    """What one closed bucket of one deployment holds.

    A unit is what one release answered of one randomisation key. It counts in the segments of its first
    interaction (by event time, then id) alone, and so once in each dimension. The mean is an exactly rounded
    sum.

    Parameters
    ----------
    releases
        The units of each release.
    table
        Which values of each segment are kept apart.
    """

    def __init__(self, releases: Mapping[str, ReleaseUnits], table: SegmentTable) -> None:
        self._releases = {release: _Release(of, table) for release, of in releases.items()}

    def slices(self, segment: str) -> list[Slice]:
        """Return the columns of `segment`, by metric, version and release."""
        found = [
            Slice(segment, metric, version, release, direction, column)
            for release, units in self._releases.items()
            for (metric, version), direction, column in units.columns(segment)
        ]
        return sorted(found, key=lambda one: (one.metric, one.version, one.release))

    def segments(self) -> list[str]:
        """Return the names of all segments with units, sorted."""
        return sorted({label for units in self._releases.values() for label in units.labels()})

    def values_of(self, chosen: Set[str]) -> dict[Kind, list[UnitValue]]:
        """Return the values of the `chosen` units by metric and version, each by unit and release.

        Metrics without a direction are left out: nothing about them is better or worse.
        """
        found: dict[Kind, list[UnitValue]] = defaultdict(list)
        for release, of in self._releases.items():
            is_chosen = np.fromiter((unit.first.unit in chosen for unit in of.units), bool, len(of.units))
            for kind, metric in of.metrics.items():
                if metric.direction != "neutral":
                    found[kind] += _values_of(release, of.units, kind, metric, is_chosen)
        return {kind: sorted(values, key=_ARM_ORDER) for kind, values in found.items() if values}


def _values_of(
    release: str, units: Sequence[Unit], kind: Kind, metric: Metric, is_chosen: NDArray[np.bool_]
) -> Iterator[UnitValue]:
    kept = np.flatnonzero(is_chosen[metric.rows])
    name, version = kind
    for row, value in zip(metric.rows[kept].tolist(), metric.values[kept].tolist(), strict=True):
        unit = units[row]
        ids = unit.ids_of(kind)
        yield UnitValue(release, unit.first.unit, unit.share, name, value, metric.direction, version, ids)
