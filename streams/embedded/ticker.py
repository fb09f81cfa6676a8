"""Ticks for partitions that have nothing to say, so that one idle partition does not hold back all."""

import time
from collections.abc import Callable

from streams.embedded.journal import Journal
from streams.ticking import behind, furthest_ms


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
        now_ms = time.time_ns() // 1_000_000
        furthest = furthest_ms(reached, live=self._live, now_ms=now_ms, silence_ms=self._silence_ms)
        with self._journal.transaction() as db:
            ends = self._journal.ends("interactions")
            read = self._journal.positions("score", "interactions")
            drained = [part for part in range(self._journal.partitions) if read[part] == ends[part]]
            due = [
                ("interactions", tick.source_partition, tick) for tick in behind(reached, furthest, drained)
            ]
            self._journal.append(db, due)
        return len(due)
