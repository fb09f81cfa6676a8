"""Ends a process that has work and gets nowhere: a supervisor starts it again, and it goes on where it was.

Consumers on Kafka have been seen to live on after a rebalance or an outage and to read nothing, for ever. No
error is raised then, so that somebody has to look.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

_log = logging.getLogger("plumbline.kafka")
EXIT_CODE: Final = 70
"""What a process ends with that its watchdog ended (``EX_SOFTWARE``)."""
UNASSIGNED_AFTER_S: Final = 90.0
HEARD_WITHIN_S: Final = 60.0
"""How long the ends of the log are believed: a consumer whose thread hangs hears of no new ones."""
_LOOK_EVERY_S: Final = 1.0


class Look(Struct, frozen=True):
    """What a worker looks like from outside.

    Parameters
    ----------
    assigned
        Whether it has partitions.
    behind
        Whether there is something to read.
    waiting
        Whether it waits for somebody else, knowingly, and will go on by itself (a store that is away).
    moved
        Any number that changes with every commit.
    placed
        Whether its group has told it which partitions it has, be it none: a spare worker has none and is
        well, and one that waits for the answer for ever is not.
    """

    assigned: bool
    behind: bool
    waiting: bool
    moved: float
    placed: bool = False


def is_behind(
    ends: Mapping[tuple[str, int], int],
    reached: Mapping[tuple[str, int], int],
    *,
    heard_s: float,
    now_s: float | None = None,
) -> bool:
    """Return whether there is something to read, or may be: ends that are old say nothing about it.

    Parameters
    ----------
    ends, reached
        By partition: the log's end as it was last heard, and what was dealt with.
    heard_s, now_s
        ``time.monotonic()`` when the ends were heard, and now.

    Examples
    --------
    >>> reached = {("t", 0): 7}
    >>> [is_behind({("t", 0): end}, reached, heard_s=0.0, now_s=at) for end, at in ((7, 9), (8, 9), (7, 61))]
    [False, True, True]
    """
    if any(ends.get(where, 0) > offset for where, offset in reached.items()):
        return True
    return bool(reached) and (time.monotonic() if now_s is None else now_s) - heard_s > HEARD_WITHIN_S


def unassigned_limit_s(session_s: float) -> float:
    """Return for how long a member may wait for its partitions: the group may take a session for it.

    Examples
    --------
    >>> unassigned_limit_s(6.0), unassigned_limit_s(300.0)
    (90.0, 600.0)
    """
    return max(UNASSIGNED_AFTER_S, 2 * session_s)


class Judgement:
    """Says whether what is looked at has been stuck for too long. Pure: times are handed in.

    It is armed by the first look: a start may take its time.

    Parameters
    ----------
    stuck_after_s
        With partitions and something to read, and without a commit.
    unassigned_after_s
        Without partitions, and without the group's word that there are none for it.

    Examples
    --------
    >>> judgement = Judgement(stuck_after_s=60)
    >>> idle = Look(assigned=True, behind=False, waiting=False, moved=1)
    >>> stuck = Look(assigned=True, behind=True, waiting=False, moved=1)
    >>> [judgement.of(look, now_s) for look, now_s in ((idle, 0), (stuck, 900), (stuck, 960))]
    ['', '', '']
    >>> judgement.of(stuck, 961)
    'nothing was committed for 61 s, and there is something to read'
    """

    def __init__(self, *, stuck_after_s: float, unassigned_after_s: float = UNASSIGNED_AFTER_S) -> None:
        self._stuck_after_s, self._unassigned_after_s = stuck_after_s, unassigned_after_s
        self._moved: float | None = None
        self._worked = False
        self._well_s = 0.0
        self._answered_s: float | None = None

    def of(self, look: Look, now_s: float) -> str:
        """Return why the process should end now; empty if it should not."""
        if self._answered_s is None or look.assigned or look.placed:
            self._answered_s = now_s
        works = look.assigned and look.behind and not look.waiting
        if not (works and self._worked) or look.moved != self._moved:
            self._well_s = now_s
        self._moved, self._worked = look.moved, works
        if now_s - self._answered_s > self._unassigned_after_s:
            return f"the group has not said for {now_s - self._answered_s:.0f} s which partitions it has"
        if now_s - self._well_s > self._stuck_after_s:
            return f"nothing was committed for {now_s - self._well_s:.0f} s, and there is something to read"
        return ""


class Watchdog(threading.Thread):
    """Looks once a second, in a thread of its own: an event loop that hangs cannot look after itself.

    Parameters
    ----------
    look
        Returns how the worker is; called in the thread, it must not wait for the worker.
    judgement
        Says when it has been so for too long.
    part
        What is watched, for the log: ``"score"``.
    clock, end
        Seconds that never jump; what ends the process, with :data:`EXIT_CODE`.
    """

    def __init__(
        self,
        look: Callable[[], Look],
        judgement: Judgement,
        *,
        part: str,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        super().__init__(name="plumbline-watchdog", daemon=True)
        self._look, self._judgement, self._part = look, judgement, part
        self._clock, self._end = clock, end
        self._stopping = threading.Event()

    def run(self) -> None:
        """Look until stopped, or until it is time to end the process."""
        while not self._stopping.wait(_LOOK_EVERY_S):
            if self.check():
                return

    def check(self) -> bool:
        """Look once; end the process and return True if it is stuck."""
        try:
            reason = self._judgement.of(self._look(), self._clock())
        except Exception as error:  # noqa: BLE001 - who cannot be looked at cannot be watched
            reason = f"it cannot be looked at ({type(error).__name__})"
        if reason:
            _log.critical("%s ends itself: %s; start it again, it goes on where it was", self._part, reason)
            self._end(EXIT_CODE)
        return bool(reason)

    def stop(self) -> None:
        """Stop looking; returns at once."""
        self._stopping.set()
