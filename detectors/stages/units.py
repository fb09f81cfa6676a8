"""What detection keeps of a scorecard until its bucket closes, and which slices it counts in."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from detectors.records import Direction, Scorecard

ALL = "all"
OTHER = "other"


_LEAST_SHARE: Final = 1e-6


class Measure(Struct, frozen=True, array_like=True, gc=False):
    """One score on its way into a unit."""

    metric: str
    value: float
    direction: Direction
    version: str


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """What detection keeps of a scorecard until its bucket closes."""

    interaction_id: str
    release: str
    unit: str
    arm: str
    share: float | None
    segments: dict[str, str]
    measures: tuple[Measure, ...]
    event_time_ms: int = 0


class UnitValue(Struct, frozen=True):
    """The mean of one metric over one unit, in one segment, with the interactions behind it.

    ``share`` is the probability with which the unit was routed to its release, None if nobody stamped it, or
    no coin (:func:`coin_of`).
    """

    release: str
    unit: str
    share: float | None
    metric: str
    value: float
    direction: Direction
    version: str
    interaction_ids: tuple[str, ...]


def entry_of(card: Scorecard) -> Entry:
    """Return what detection needs of `card`: its scored values, none of its spans."""
    return Entry(
        card.interaction_id,
        card.release,
        card.unit,
        card.arm.name if card.arm else "",
        card.arm.share if card.arm else None,
        card.segments,
        # A list first: it takes two thirds of the time of a generator.
        tuple(
            [
                Measure(score.name, score.value, score.direction, score.version)
                for score in card.scores
                if score.value is not None
            ]
        ),
        card.event_time_ms,
    )


def coin_of(share: float | None) -> float | None:
    """Return `share` where it is that of a coin: one that never falls on one side is none.

    Examples
    --------
    >>> coin_of(0.1), coin_of(1e-17), coin_of(None)
    (0.1, None, None)
    """
    return share if share is not None and _LEAST_SHARE <= share <= 1.0 - _LEAST_SHARE else None


def bucket_of(event_time_ms: int, unit_ms: int) -> int:
    """Return the start of the bucket that holds `event_time_ms`.

    Examples
    --------
    >>> bucket_of(119_999, 60_000), bucket_of(-1, 60_000)
    (60000, -60000)
    """
    return event_time_ms // unit_ms * unit_ms


class SegmentTable:
    """Which values of each segment are kept apart: the first `top`, in the order of the closed buckets.

    Values that are new in one bucket are taken in sorted order, so the table depends on the closed buckets
    alone.
    """

    def __init__(self, top: dict[str, int], kept: dict[str, list[str]]) -> None:
        self._top = top
        self.kept = kept
        self.overflow = 0

    def admit(self, entries: Iterable[Entry]) -> bool:
        """Take in the values of a closing bucket; return whether the table grew."""
        fresh: dict[str, set[str]] = defaultdict(set)
        for entry in entries:
            for name, value in entry.segments.items():
                if value not in self.kept.get(name, ()):
                    fresh[name].add(value)
        grew = False
        for name in sorted(fresh):
            room = self._top.get(name, 0) - len(self.kept.setdefault(name, []))
            for value in sorted(fresh[name]):
                if room > 0:
                    self.kept[name].append(value)
                    room, grew = room - 1, True
                else:
                    self.overflow += 1
        return grew

    def labels(self, entry: Entry) -> list[str]:
        """Return the segments that `entry` counts in: ``all`` first."""
        return self.labels_of(entry.segments)

    def labels_of(self, segments: Mapping[str, str]) -> list[str]:
        """Return the segments that an entry with `segments` counts in: ``all`` first."""
        return [ALL] + [
            f"{name}={value if value in self.kept.get(name, ()) else OTHER}"
            for name, value in sorted(segments.items())
        ]
