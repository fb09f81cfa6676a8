"""Ticks for partitions that have nothing to say, so that one idle partition does not hold back all."""

import time
from collections.abc import Callable
from typing import Final

from detectors.records import Tick
from streams.embedded.journal import Journal

_SILENCE_STEP_MS: Final = 5_000
"""In silence time goes on in such steps: every tick is a record that is kept, in every partition."""


class Ticker:
    """Appends ticks to the drained partitions of ``interactions``.

    A drained partition has passed everything that is in the log, so it may be said to have come as far in
    event time as the furthest one. Ticks are records of the log: a replay reads the same ones.

    Parameters
    ----------
    journal
        The log.
    watermarks
        Returns the event time that scoring has reached, by partition.
    live
        Whether event time is wall-clock time, so that silence closes buckets too.
    silence_s
        How far behind the wall clock a silent installation's watermark stays.
    """

    def __init__(
        self,
        journal: Journal,
        watermarks: Callable[[], dict[int, int]],
        *,
        live: bool,
        silence_s: float = 60.0,
    ) -> None:
        self._journal, self._watermarks = journal, watermarks
        self._live, self._silence_ms = live, int(silence_s * 1000)

    def tick(self) -> int:
        """Append what ticks are due; return how many."""
        reached = self._watermarks()
        furthest = max(reached.values(), default=-1)
        if self._live and furthest >= 0:
            silent_until = time.time_ns() // 1_000_000 - self._silence_ms
            furthest = max(furthest, silent_until // _SILENCE_STEP_MS * _SILENCE_STEP_MS)
        with self._journal.transaction() as db:
            ends = self._journal.ends("interactions")
            read = self._journal.positions("score", "interactions")
            due = [
                ("interactions", partition, Tick(partition, furthest))
                for partition in range(self._journal.partitions)
                if reached.get(partition, -1) < furthest and read[partition] == ends[partition]
            ]
            self._journal.append(db, due)
        return len(due)
