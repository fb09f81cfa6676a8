"""A clock that notices when this process stood still for so long that others may have its partitions."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

# Also counts while the machine sleeps, where there is such a clock.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class FencedError(RuntimeError):
    """The process stood still for too long and must not write any more; the text says for how long."""


def _steady_s() -> float:
    return time.clock_gettime(_CLOCK)


class Fence:
    """Lets a write begin only while the heart beats.

    Whoever looks first after a stall, the beat or a writer, sees it, and the fence stays shut: a process that
    was stopped may resume anywhere. Used from several threads.

    Parameters
    ----------
    limit_s
        The longest time between two beats. It must be shorter than the group's session.
    clock
        Seconds that never jump.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = _steady_s) -> None:
        self._limit_s, self._clock = limit_s, clock
        self._last_s: float | None = None
        self._stalled_s = 0.0

    def check(self) -> None:
        """Return if writing is allowed.

        Raises
        ------
        FencedError
            If the heart stood still, now or ever. Before its first beat nothing is fenced.
        """
        if self._last_s is not None:
            self._stalled_s = max(self._stalled_s, self._clock() - self._last_s)
        if self._stalled_s > self._limit_s:
            raise FencedError(
                f"landing: this process stood still for {self._stalled_s:.1f} s and may have lost its "
                "partitions: start it again, it goes on where it was"
            )

    def beat(self) -> None:
        """Say that the process runs; raises FencedError if it stood still before."""
        self.check()
        self._last_s = self._clock()

    async def keep_beating(self) -> None:
        """Beat from the event loop for ever; raises FencedError when it stood still."""
        while True:
            self.beat()
            await asyncio.sleep(self._limit_s / 8)
