"""A flood of bad records stops its partition: a topic must not be drained into its dead letters. Pure."""

from collections import deque
from typing import Any, Final

from detectors.records import Decision
from detectors.records.ids import derive_id
from streams.settings import SettingsError

REASON: Final = "dead_letter_flood"
OURSELVES: Final = "plumbline"
"""The deployment of a page about the monitor's own input: nobody can say whose the bad records are."""
_WINDOW_S: Final = 60


class FloodError(RuntimeError):
    """Too many bad records in one partition; the text says where, and how to go on."""


class FloodGauge:
    """Counts good and bad records of one partition within a minute of record time.

    It is part of the partition's state: a restart in the middle of a flood must not begin to count afresh, or
    each restart would let some more through. Record time that goes back counts into the newest second; where
    it goes back by more than the minute, the newest was a stray one, and what was counted counts from here.

    Parameters
    ----------
    share
        Highest share of bad records that is borne, above 0 and at most 1 (``worker.flood_share``).
    records
        Least number of bad records that can be a flood (``worker.flood_records``).

    Examples
    --------
    >>> gauge = FloodGauge(share=0.5, records=3)
    >>> gauge.add(1_000, good=2, bad=2)
    False
    >>> gauge.add(2_000, good=0, bad=1)
    True
    >>> gauge.add(70_000, good=0, bad=1)
    False
    """

    def __init__(self, *, share: float, records: int) -> None:
        self._share, self._records = share, records
        self._seconds: deque[tuple[int, int, int]] = deque()

    def add(self, timestamp_ms: int, good: int, bad: int) -> bool:
        """Count records of that time; return whether it is a flood now."""
        second = timestamp_ms // 1000
        if self._seconds and second < self._seconds[-1][0] - _WINDOW_S:
            held = self.counts()
            self._seconds.clear()
            self._seconds.append((second, *held))
        if self._seconds and second <= self._seconds[-1][0]:
            second, good_before, bad_before = self._seconds.pop()
            self._seconds.append((second, good_before + good, bad_before + bad))
        else:
            self._seconds.append((second, good, bad))
        while self._seconds[0][0] <= second - _WINDOW_S:
            self._seconds.popleft()
        good, bad = self.counts()
        return bad >= self._records and bad > self._share * (good + bad)

    def counts(self) -> tuple[int, int]:
        """Return how many good and bad records the last minute held."""
        return sum(row[1] for row in self._seconds), sum(row[2] for row in self._seconds)

    def clear(self) -> None:
        """Forget what was counted: somebody has looked, and lets the partition go on."""
        self._seconds.clear()

    def to_state(self) -> list[list[int]]:
        """Return plain lists for the stage's state: second, good, bad."""
        return [list(row) for row in self._seconds]

    @classmethod
    def from_state(cls, state: Any, *, share: float, records: int) -> "FloodGauge":
        """Return the gauge that :meth:`to_state` was called on; None gives an empty one.

        Raises
        ------
        ValueError
            If `state` is something else.
        """
        gauge = cls(share=share, records=records)
        try:
            for second, good, bad in state or ():
                gauge._seconds.append((int(second), int(good), int(bad)))
        except TypeError as error:
            raise ValueError("not the state of a flood gauge") from error
        return gauge


def flood_page(topic: str, partition: int, next_place: int, *, at_ms: int, good: int, bad: int) -> Decision:
    """Return the page about a flood: the same again until the partition has gone on.

    Parameters
    ----------
    topic, partition, next_place
        Where it stands: Kafka's name of the topic, and the place that was to be read next.
    at_ms
        Record time of the last record that was counted.
    good, bad
        What the last minute held.
    """
    return Decision(
        decision_id=derive_id(REASON, topic, str(partition), str(next_place)),
        deployment=OURSELVES,
        release="",
        cause="common",
        verbs=("page",),
        reason=REASON,
        rule=REASON,
        at_ms=at_ms,
        summary=(
            f"{bad} of {good + bad} records within a minute cannot be used: partition {partition} of {topic} "
            "stands still, uncommitted, until somebody has looked"
        ),
        metric="dead_letters",
        segment="all",
        effect=bad / (good + bad),
        n=good + bad,
    )


def flood_error(topic: str, partition: int, *, good: int, bad: int) -> FloodError:
    """Return the error of a partition that stands still, with the remedy.

    Examples
    --------
    >>> print(flood_error("plumbline.submissions.v1", 3, good=10, bad=190))
    plumbline.submissions.v1/3 stands still: 190 of 200 records within a minute cannot be used; mend their \
producer, then go on with `plumbline worker --accept-flood plumbline.submissions.v1/3`, or raise \
worker.flood_share or worker.flood_records
    """
    return FloodError(
        f"{topic}/{partition} stands still: {bad} of {good + bad} records within a minute cannot be used; "
        f"mend their producer, then go on with `plumbline worker --accept-flood {topic}/{partition}`, "
        "or raise worker.flood_share or worker.flood_records"
    )


def parse_accepted(texts: tuple[str, ...]) -> frozenset[tuple[str, int]]:
    """Return topic and partition of each ``TOPIC/PARTITION``.

    Raises
    ------
    SettingsError
        If a text is something else.

    Examples
    --------
    >>> parse_accepted(("plumbline.submissions.v1/3",))
    frozenset({('plumbline.submissions.v1', 3)})
    """
    found = set()
    for text in texts:
        topic, slash, partition = text.rpartition("/")
        if not (slash and topic and partition.isascii() and partition.isdigit()):
            raise SettingsError(f"--accept-flood: {text!r} is not TOPIC/PARTITION")
        found.add((topic, int(partition)))
    return frozenset(found)
