"""The units of one closed bucket, by column: one release, one metric, all its units at once.

A unit is one randomisation key (a conversation, or a user) within one bucket of event time. A bucket closes
when every source partition has moved past its end plus the allowed lateness; its units are then fed in the
order of their keys. So the result does not depend on partitions, batch edges or merge order.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from operator import attrgetter
from typing import Any, overload

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.records import Direction
from detectors.stages.units import ALL, Entry, Measure, SegmentTable, UnitValue, coin_of

_ORDER = attrgetter("unit", "release", "event_time_ms", "interaction_id")
_ARM_ORDER = attrgetter("unit", "release")
_MEASURES, _KIND, _VALUE = attrgetter("measures"), attrgetter("metric", "version"), attrgetter("value")
_Kind = tuple[str, str]  # metric and version


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


class _Unit(Struct, frozen=True, gc=False):
    """One unit: its first interaction, its measures, and the interactions behind each if it has several."""

    first: Entry
    share: float | None
    measures: tuple[Measure, ...]
    ids: Mapping[_Kind, tuple[str, ...]] | None = None

    def ids_of(self, kind: _Kind) -> tuple[str, ...]:
        return (self.first.interaction_id,) if self.ids is None else self.ids[kind]


class _Ids(Sequence[tuple[str, ...]]):
    """The interactions behind the units in `rows`, looked up when they are asked for: hardly any ever are."""

    def __init__(self, units: Sequence[_Unit], kind: _Kind, rows: NDArray[np.intp]) -> None:
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


class _Metric(Struct, frozen=True):
    """One metric of one release: its values, and the positions of the units that have them."""

    direction: Direction
    rows: NDArray[np.intp]
    values: NDArray[np.float64]


class _Release:
    """The units of one release, in their order."""

    def __init__(self, units: Sequence[_Unit], table: SegmentTable) -> None:
        self.units = units
        self.metrics = _metrics_of(units)
        # Units with the same slices are as good as one: there are few such groups.
        groups: dict[tuple[tuple[str, str], ...], int] = {}
        alike = [groups.setdefault(tuple(unit.first.segments.items()), len(groups)) for unit in units]
        self._group_of = np.array(alike, dtype=np.intp)
        self._groups_of: dict[str, list[int]] = defaultdict(list)
        for segments, group in groups.items():
            for label in table.labels_of(dict(segments)):
                self._groups_of[label].append(group)
        self._groups = len(groups)

    def labels(self) -> Iterable[str]:
        """Return the segments with units."""
        return self._groups_of.keys()

    def columns(self, segment: str) -> Iterator[tuple[_Kind, Direction, Column]]:
        """Yield the columns of `segment`."""
        if segment not in self._groups_of:
            return
        counted = np.zeros(self._groups, dtype=bool)
        counted[self._groups_of[segment]] = True
        chosen = counted[self._group_of]
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
    sum. Nothing depends on the order of the entries.

    Parameters
    ----------
    entries
        What was collected for the bucket, in any order.
    table
        Which values of each segment are kept apart.
    """

    def __init__(self, entries: Iterable[Entry], table: SegmentTable) -> None:
        units: dict[str, list[_Unit]] = defaultdict(list)
        members: list[Entry] = []
        for entry in sorted(entries, key=_ORDER):
            if members and (entry.unit != members[0].unit or entry.release != members[0].release):
                units[members[0].release].append(_unit_of(members))
                members = []
            members.append(entry)
        if members:
            units[members[0].release].append(_unit_of(members))
        self._releases = {release: _Release(of, table) for release, of in units.items()}

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

    def values_of(self, chosen: Set[str]) -> dict[_Kind, list[UnitValue]]:
        """Return the values of the `chosen` units by metric and version, each by unit and release.

        Metrics without a direction are left out: nothing about them is better or worse.
        """
        found: dict[_Kind, list[UnitValue]] = defaultdict(list)
        for release, of in self._releases.items():
            is_chosen = np.fromiter((unit.first.unit in chosen for unit in of.units), bool, len(of.units))
            for kind, metric in of.metrics.items():
                if metric.direction != "neutral":
                    found[kind] += _values_of(release, of.units, kind, metric, is_chosen)
        return {kind: sorted(values, key=_ARM_ORDER) for kind, values in found.items() if values}


def _values_of(
    release: str, units: Sequence[_Unit], kind: _Kind, metric: _Metric, is_chosen: NDArray[np.bool_]
) -> Iterator[UnitValue]:
    kept = np.flatnonzero(is_chosen[metric.rows])
    name, version = kind
    for row, value in zip(metric.rows[kept].tolist(), metric.values[kept].tolist(), strict=True):
        unit = units[row]
        ids = unit.ids_of(kind)
        yield UnitValue(release, unit.first.unit, unit.share, name, value, metric.direction, version, ids)


class _Numbers(dict[_Kind, int]):
    """Numbers kinds in the order in which they are asked for."""

    def __missing__(self, kind: _Kind) -> int:
        self[kind] = number = len(self)
        return number


def _metrics_of(units: Sequence[_Unit]) -> dict[_Kind, _Metric]:
    """Return all measures of `units` by metric and version, in the order of the units."""
    of_unit = list(map(_MEASURES, units))
    measures = list(chain.from_iterable(of_unit))
    rows = np.repeat(np.arange(len(units)), np.fromiter(map(len, of_unit), np.intp, len(units)))
    values = np.fromiter(map(_VALUE, measures), np.float64, len(measures))
    numbers = _Numbers()
    kinds = np.fromiter(map(numbers.__getitem__, map(_KIND, measures)), np.intp, len(measures))
    found = {}
    for kind, number in numbers.items():
        places = np.flatnonzero(kinds == number)
        found[kind] = _Metric(measures[places[0]].direction, rows[places], values[places])
    return found


def _unit_of(members: Sequence[Entry]) -> _Unit:
    """Return the unit of interactions that are in their order."""
    first = members[0]
    if len(members) == 1:  # by far the most units, and the mean of one value is that value
        return _Unit(first, coin_of(first.share), first.measures)
    coins = (coin_of(entry.share) for entry in members)
    share = next((coin for coin in coins if coin is not None), None)
    grouped: dict[_Kind, list[tuple[str, Measure]]] = defaultdict(list)
    for entry in members:
        for measure in entry.measures:
            grouped[measure.metric, measure.version].append((entry.interaction_id, measure))
    means = tuple(
        Measure(metric, _mean([one.value for _, one in measured]), measured[0][1].direction, version)
        for (metric, version), measured in grouped.items()
    )
    ids = {kind: tuple(one for one, _ in measured) for kind, measured in grouped.items()}
    return _Unit(first, share, means, ids)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
