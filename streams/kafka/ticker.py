"""Ticks on Kafka: partitions of ``interactions`` that have nothing to say are told that time went on."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct

from detectors.records import Tick
from streams.kafka.errors import BrokerError
from streams.ticking import behind, furthest_ms

_log = logging.getLogger("plumbline.kafka")
_JOIN_S: Final = 10.0


class Reached(Struct, frozen=True):
    """How far scoring has come in one partition: in event time (None: seen none), and in Kafka offsets.

    An envelope that was scored in part stands at ``next_offset``.
    """

    watermark_ms: int | None = None
    next_offset: int = 0


class TickLog(Protocol):
    """What ticking needs of a log."""

    def reached(self) -> Mapping[int, Reached]:
        """Return how far scoring has come, by partition that it has ever read."""
        ...

    def admitted(self, partitions: Sequence[int]) -> Sequence[int]:
        """Return those of the partitions into which admit has brought every submission that was there."""
        ...

    def drained(self, positions: Mapping[int, int]) -> Sequence[int]:
        """Return those of the partitions in which no record waits at or after the given offset."""
        ...

    def append(self, ticks: Sequence[Tick]) -> None:
        """Append each tick to its own partition; on return all are stored."""
        ...

    def close(self) -> None:
        """Let go of the connections."""
        ...


def tick_once(
    log: TickLog, *, partitions: int, live: bool, silence_ms: int, now_ms: Callable[[], int]
) -> int:
    """Append what ticks are due to `log` and return how many.

    A partition that scoring has drained, and for which no submission waits either, may be said to have come
    as far in event time as the furthest one. A tick stands behind every record that was sent before it: it
    makes none late that arrived in time, and two tickers at once (one of them a zombie) do no harm.
    """
    reached = log.reached()
    marks = {part: at.watermark_ms for part, at in reached.items() if at.watermark_ms is not None}
    furthest = furthest_ms(marks, live=live, now_ms=now_ms(), silence_ms=silence_ms)
    wanting = [tick.source_partition for tick in behind(marks, furthest, range(partitions))]
    if not wanting:
        return 0
    # In this order: what is admitted after the first look is seen by the second, or was sent after it.
    admitted = log.admitted(wanting)
    drained = log.drained({part: reached.get(part, Reached()).next_offset for part in admitted})
    due = behind(marks, furthest, drained)
    if due:
        log.append(due)
    return len(due)


class Ticker(threading.Thread):
    """Ticks every `tick_s` seconds until stopped; runs beside the worker that has partition 0.

    A broker that is away is waited for: ticks are due again in the next round. Anything else that goes wrong
    is reported, and the process exits.

    Parameters
    ----------
    open_log
        Connects; called in the thread.
    partitions
        How many ``interactions`` has.
    live
        Whether event time is wall-clock time, so that silence closes buckets too.
    silence_s
        How far behind the wall clock the watermark of a silent installation stays.
    on_failure
        Called with ``"ticker"`` and the error when ticking cannot go on.

    Attributes
    ----------
    problem
        Why the last round did not work; empty if it did.
    """

    def __init__(
        self,
        open_log: Callable[[], TickLog],
        *,
        partitions: int,
        live: bool,
        tick_s: float = 1.0,
        silence_s: float = 60.0,
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        super().__init__(name="plumbline-ticker", daemon=True)
        self._open_log, self._partitions, self._live = open_log, partitions, live
        self._tick_s, self._silence_ms = tick_s, int(silence_s * 1000)
        self._on_failure = on_failure
        self._stopping = threading.Event()
        self.problem = ""

    def run(self) -> None:
        """Tick until stopped."""
        try:
            while not self._stopping.is_set():
                try:
                    self._follow()
                    return
                except BrokerError as error:
                    self._tell(str(error))
                    self._stopping.wait(self._tick_s)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the process, loudly
            self._on_failure("ticker", error)

    def _follow(self) -> None:
        log = self._open_log()
        try:
            while not self._stopping.is_set():
                tick_once(
                    log,
                    partitions=self._partitions,
                    live=self._live,
                    silence_ms=self._silence_ms,
                    now_ms=_wall_ms,
                )
                self._tell("")
                self._stopping.wait(self._tick_s)
        finally:
            log.close()

    def _tell(self, problem: str) -> None:
        if problem and problem != self.problem:
            _log.warning("ticks wait: %s", problem)
        self.problem = problem

    def stop(self) -> None:
        """End after the round at hand, and wait for that, for some seconds at most."""
        self._stopping.set()
        if self.is_alive():
            self.join(_JOIN_S)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
