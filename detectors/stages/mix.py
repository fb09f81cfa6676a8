"""Worse answers, or more traffic where answers were always worse? By slice, from the units after an alarm."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from detectors.attribution import Split, Tally, split_change
from detectors.records import Cell, Direction, Reference
from detectors.records.signal import SplitKind
from detectors.stages.closed_units import Column
from detectors.stages.moments import Moments
from detectors.stages.units import ALL

MIN_UNITS: Final = 30
"""How many units after an alarm there must be before they say who carries the change."""

_NAMED: Final = 5
_REST: Final = ""  # units that have no value in the dimension


class Explanation(Struct, frozen=True, kw_only=True):
    """What the slices of one dimension say about a change; see the fields of a ``Signal``."""

    kind: SplitKind
    dimension: str
    within: float
    mix: float
    segments: tuple[str, ...]


class Mix:
    """The units of the whole buckets after an alarm, by slice.

    Parameters
    ----------
    tallies
        Count, sum and sum of squares by slice, as `to_state` gave them; the whole is ``all``.
    """

    def __init__(self, tallies: Mapping[str, list[float]] | None = None) -> None:
        self._after = {name: Moments.from_state(three) for name, three in (tallies or {}).items()}

    def add(self, columns: Mapping[str, Column]) -> None:
        """Take in one bucket: the columns of one release, metric and version by slice, ``all`` among them."""
        for segment, column in columns.items():
            self._after.setdefault(segment, Moments()).add(column.values)

    def explain(self, reference: Reference, direction: Direction) -> Explanation | None:
        """Return what the dimension says that explains most; None while there is too little to say anything.

        The kind is *mix* only where worse answers cannot be more than half of it: the interval of what
        changed within slices holds 0, and ends before the size of what the mix did.
        """
        whole = self._after.get(ALL, Moments())
        if whole.n < MIN_UNITS or not reference.cells:
            return None
        before_all = _whole(reference)
        splits: dict[str, Split] = {}
        for dimension in sorted({name.partition("=")[0] for name in reference.cells}):
            of = f"{dimension}="
            before = {name: _tally(cell) for name, cell in reference.cells.items() if name.startswith(of)}
            after = {
                name: Tally(one.n, one.total, one.square_sum)
                for name, one in self._after.items()
                if name.startswith(of)
            }
            whole_after = Tally(whole.n, whole.total, whole.square_sum)
            splits[dimension] = split_change(_with_rest(before, before_all), _with_rest(after, whole_after))
        kinds = {dimension: _kind(split) for dimension, split in splits.items()}
        chosen = max(splits, key=lambda name: (kinds[name] == "mix", abs(splits[name].mix)))
        fallen = [part for split in splits.values() for part in split.fallen(direction) if part.segment]
        fallen.sort(key=lambda part: (-abs(part.change or 0.0), part.segment))
        return Explanation(
            kind=kinds[chosen],
            dimension=chosen,
            within=splits[chosen].within,
            mix=splits[chosen].mix,
            segments=tuple(part.segment for part in fallen[:_NAMED]),
        )

    def to_state(self) -> dict[str, list[float]]:
        """Return everything as plain values."""
        return {name: one.to_state() for name, one in sorted(self._after.items())}


def _kind(split: Split) -> SplitKind:
    within = split.within_interval
    if split.kind == "mix" and max(-within.low, within.high) >= abs(split.mix):
        return "unclear"
    return split.kind


def _tally(cell: Cell) -> Tally:
    return Tally(cell.n, cell.total, cell.squares)


def _whole(reference: Reference) -> Tally:
    n, mean = reference.n, reference.mean
    return Tally(n, n * mean, reference.variance * (n - 1) + n * mean * mean)


def _with_rest(slices: dict[str, Tally], whole: Tally) -> dict[str, Tally]:
    """Return `slices` and, under no name, the units of the whole that are in none of them."""
    n = whole.n - sum(one.n for one in slices.values())
    if n <= 0:
        return slices
    total = whole.total - sum(one.total for one in slices.values())
    squares = whole.squares - sum(one.squares for one in slices.values())
    return {**slices, _REST: Tally(n, min(max(total, 0.0), float(n)), min(max(squares, 0.0), float(n)))}
