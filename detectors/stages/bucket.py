"""One bucket before it closes, and what of its close depends on nothing but its entries.

A unit is one randomisation key (a conversation, or a user) within one bucket of event time. Most of a bucket
is there long before it closes, for a close waits for what is late. So what can be made of the entries alone
is made when half of that wait is over, and the close finds it done.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from operator import attrgetter

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.records import Direction
from detectors.stages.answers import Answers, answers_of
from detectors.stages.units import Entry, Measure, coin_of

Kind = tuple[str, str]
"""A metric, and the version of its scorer."""

_Segments = tuple[tuple[str, str], ...]
_ORDER = attrgetter("unit", "release", "event_time_ms", "interaction_id")
_RELEASE = attrgetter("release")
_MEASURES, _KIND, _VALUE = attrgetter("measures"), attrgetter("metric", "version"), attrgetter("value")


class Unit(Struct, frozen=True, gc=False):
    """One unit: its first interaction, its measures, and the interactions behind each if it has several."""

    first: Entry
    share: float | None
    measures: tuple[Measure, ...]
    ids: Mapping[Kind, tuple[str, ...]] | None = None

    def ids_of(self, kind: Kind) -> tuple[str, ...]:
        """Return the interactions behind the measure of `kind`."""
        return (self.first.interaction_id,) if self.ids is None else self.ids[kind]


class Metric(Struct, frozen=True):
    """One metric of one release: its values, and the positions of the units that have them."""

    direction: Direction
    rows: NDArray[np.intp]
    values: NDArray[np.float64]


class ReleaseUnits:
    """The units of one release in one bucket, in the order of their keys.

    Parameters
    ----------
    units
        In their order.
    samples
        Entries of the release, one at least of all that are in the same slices.

    Attributes
    ----------
    metrics
        All measures by metric and version.
    groups, group_of
        Segments that units have together, and for each unit which of them: there are few.
    """

    def __init__(self, units: Sequence[Unit], samples: Sequence[Entry]) -> None:
        self.units, self.samples = units, samples
        self.metrics = _metrics_of(units)
        numbers: dict[_Segments, int] = {}
        alike = [numbers.setdefault(tuple(unit.first.segments.items()), len(numbers)) for unit in units]
        self.group_of = np.array(alike, dtype=np.intp)
        self.groups = [dict(segments) for segments in numbers]


_Grouped = tuple[Sequence[Unit], Sequence[Entry]]


class Bucket:
    """The entries of one bucket of one deployment; what is made of them is made once, when it is asked for.

    Parameters
    ----------
    entries
        In any order: nothing depends on it.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self._count = len(entries)
        self._made: dict[str, ReleaseUnits] = {}

    def is_of(self, entries: Sequence[Entry]) -> bool:
        """Return whether nothing has come to `entries`, the same list, since."""
        return self.entries is entries and self._count == len(entries)

    def prepare(self, releases: Iterable[str], *, has_candidate: bool) -> None:
        """Make what a close will ask for if it watches `releases`."""
        _ = self.served
        self.units_of(releases)
        if has_candidate:
            _ = self.answers

    @cached_property
    def served(self) -> Counter[str]:
        """How many interactions each release answered."""
        return Counter(map(_RELEASE, self.entries))

    @cached_property
    def answers(self) -> Answers:
        """What the router did with the units."""
        return answers_of(self.entries)

    def units_of(self, releases: Iterable[str]) -> dict[str, ReleaseUnits]:
        """Return the units of those of `releases` that have any; all others cost next to nothing."""
        found = {}
        for release in sorted(self.served.keys() & set(releases)):
            if release not in self._made:
                self._made[release] = ReleaseUnits(*self._grouped[release])
            found[release] = self._made[release]
        return found

    @cached_property
    def _grouped(self) -> Mapping[str, _Grouped]:
        return _group(self.entries)


def units_of(entries: Iterable[Entry]) -> dict[str, ReleaseUnits]:
    """Return the units of every release in `entries`.

    Examples
    --------
    >>> first, second = (Entry(name, "2.3", "u:1", "", None, {}, ()) for name in "ij")
    >>> len(units_of([first, second])["2.3"].units)
    1
    """
    return {release: ReleaseUnits(*grouped) for release, grouped in _group(entries).items()}


def _group(entries: Iterable[Entry]) -> dict[str, _Grouped]:
    """Return by release its units in their order, and an entry of each combination of segments."""
    units: dict[str, list[Unit]] = defaultdict(list)
    samples: dict[str, dict[_Segments, Entry]] = defaultdict(dict)
    members: list[Entry] = []
    for entry in sorted(entries, key=_ORDER):
        samples[entry.release].setdefault(tuple(entry.segments.items()), entry)
        if members and (entry.unit != members[0].unit or entry.release != members[0].release):
            units[members[0].release].append(_unit_of(members))
            members = []
        members.append(entry)
    if members:
        units[members[0].release].append(_unit_of(members))
    return {release: (of, list(samples[release].values())) for release, of in units.items()}


class _Numbers(dict[Kind, int]):
    """Numbers kinds in the order in which they are asked for."""

    def __missing__(self, kind: Kind) -> int:
        self[kind] = number = len(self)
        return number


def _metrics_of(units: Sequence[Unit]) -> dict[Kind, Metric]:
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
        found[kind] = Metric(measures[places[0]].direction, rows[places], values[places])
    return found


def _unit_of(members: Sequence[Entry]) -> Unit:
    """Return the unit of interactions that are in their order."""
    first = members[0]
    if len(members) == 1:  # by far the most units, and the mean of one value is that value
        return Unit(first, coin_of(first.share), first.measures)
    coins = (coin_of(entry.share) for entry in members)
    share = next((coin for coin in coins if coin is not None), None)
    grouped: dict[Kind, list[tuple[str, Measure]]] = defaultdict(list)
    for entry in members:
        for measure in entry.measures:
            grouped[measure.metric, measure.version].append((entry.interaction_id, measure))
    means = tuple(
        Measure(metric, _mean([one.value for _, one in measured]), measured[0][1].direction, version)
        for (metric, version), measured in grouped.items()
    )
    ids = {kind: tuple(one for one, _ in measured) for kind, measured in grouped.items()}
    return Unit(first, share, means, ids)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
