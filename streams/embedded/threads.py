"""The two threads beside the event loop: one thinks, one lands."""

import logging
import threading
import time
from collections.abc import Callable

from streams.embedded.errors import log_failure
from streams.embedded.journal import Journal
from streams.embedded.landing import Lander
from streams.embedded.pipeline import Pipeline
from streams.embedded.ticker import Ticker
from streams.store import StoreError

_log = logging.getLogger("plumbline.embedded")
_PRUNE_EVERY_S = 600.0
_FINISH_S = 10.0


class Loop(threading.Thread):
    """A thread that repeats one piece of work until told to stop, and reports its death.

    Parameters
    ----------
    name
        Of the thread, and of the part in a report.
    on_failure
        Called with the part's name and the error when the work raises: its live state may then be ahead of
        the log, so the process must exit and start again from its checkpoint.
    """

    def __init__(self, name: str, on_failure: Callable[[str, BaseException], None]) -> None:
        super().__init__(name=f"plumbline-{name}", daemon=True)
        self._part, self._on_failure = name, on_failure
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._ended_s = time.monotonic()

    def round_age_s(self) -> float:
        """Return the seconds since the last piece of work ended, or since the thread was made."""
        return time.monotonic() - self._ended_s

    def run(self) -> None:
        """Work until stopped."""
        try:
            while not self._stopping.is_set():
                pause_s = self.work()
                self._ended_s = time.monotonic()
                if pause_s > 0:
                    self._wake.wait(pause_s)
                    self._wake.clear()
            self.finish()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the process, loudly
            log_failure(_log, self._part, error)
            self._on_failure(self._part, error)

    def work(self) -> float:
        """Do one piece of work and return how many seconds to wait before the next."""
        raise NotImplementedError

    def finish(self) -> None:
        """Do what is left when told to stop."""

    def stop(self) -> None:
        """Ask the thread to end after the piece of work at hand, and wait for it."""
        self._stopping.set()
        self._wake.set()
        if self.is_alive():
            self.join()


class ThinkThread(Loop):
    """Scores, detects and decides what the journal holds, and ticks."""

    def __init__(
        self,
        pipeline: Pipeline,
        ticker: Ticker,
        *,
        tick_s: float,
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        super().__init__("think", on_failure)
        self._pipeline, self._ticker, self._tick_s = pipeline, ticker, tick_s
        self._next_tick = 0.0

    def work(self) -> float:
        """Run one round over all stages; tick when due."""
        moved = self._pipeline.run_once()
        if time.monotonic() >= self._next_tick:
            self._next_tick = time.monotonic() + self._tick_s
            moved += self._ticker.tick()
        return 0.0 if moved else 0.02


class LandThread(Loop):
    """Lands what the journal holds; a store that is away is waited for, and stops nothing else."""

    def __init__(
        self,
        lander: Lander,
        journal: Journal,
        *,
        flush_s: float,
        retention_s: float,
        act_positions: Callable[[], dict[int, int]],
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        super().__init__("land", on_failure)
        self._lander, self._journal, self._flush_s = lander, journal, flush_s
        self._retention_s, self._act_positions = retention_s, act_positions
        self._failures = 0
        self._next_prune = time.monotonic() + _PRUNE_EVERY_S
        self.problem = ""

    def work(self) -> float:
        """Land one batch of every topic."""
        try:
            carried = self._lander.land_once()
        except StoreError as error:
            self._failures += 1
            self.problem = str(error)
            pause_s = min(30.0, 0.5 * 2.0 ** min(self._failures, 6))
            _log.warning("landing waits %.1f s: %s", pause_s, error)
            return pause_s
        self._failures, self.problem = 0, ""
        if time.monotonic() >= self._next_prune:
            self._next_prune = time.monotonic() + _PRUNE_EVERY_S
            older_than_ms = time.time_ns() // 1_000_000 - int(self._retention_s * 1000)
            self._journal.prune(older_than_ms, self._act_positions())
        return 0.0 if carried >= 200 or self._lander.filled else self._flush_s

    def finish(self) -> None:
        """Land what is left, for a while; what is refused or too much lands after the next start."""
        until = time.monotonic() + _FINISH_S
        try:
            while self._lander.land_once():
                if time.monotonic() > until:
                    _log.warning("landing goes on after the next start: too much is left to land now")
                    return
        except StoreError as error:
            _log.warning("landing goes on after the next start: %s", error)
