"""The act side of the embedded runner: decisions from the journal into the response machine, actions back."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from detectors.records import Action, ActionState
from detectors.records.ids import derive_id
from streams.embedded.errors import log_failure
from streams.embedded.journal import BATCH_BYTES, Journal
from streams.inbox import Entry
from streams.response.copies import CopiedTable
from streams.response.machine import ResponseMachine
from streams.response.outbox import Posted

_log = logging.getLogger("plumbline.embedded")
_READ_LIMIT: Final = 100
_FINISH_S: Final = 10.0
_STATES: Final[dict[str, ActionState]] = {"sent": "DELIVERED", "dead": "FAILED"}


class ActLoop:
    """Feeds the machine, and copies its transitions and the pages that ended to the topic ``actions``.

    Three tasks run side by side: *feed* (take decisions in, copy actions out), *advance* (rollbacks) and
    *deliver* (pages). A pager that hangs delays no rollback, a gateway that hangs no page. What waits for a
    disk runs in threads that nobody else may fill.

    Parameters
    ----------
    journal
        The log.
    machine
        What decides and acts; it keeps its own position in the log.
    step_s
        Seconds between two rounds that moved nothing.
    on_failure
        Called when a round raises; the process then exits.
    """

    def __init__(
        self,
        journal: Journal,
        machine: ResponseMachine,
        *,
        step_s: float = 0.1,
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self._journal, self._machine, self._step_s = journal, machine, step_s
        self._on_failure = on_failure
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="plumbline-act")
        self._copied = machine.copied()
        self._stopping = self._has_failed = False
        self._tasks: list[asyncio.Task[None]] = []
        self._ended_s: dict[str, float] = {}

    def start(self) -> None:
        """Begin to run in the current event loop."""
        rounds: dict[str, Callable[[], Awaitable[int]]] = {
            "feed": self._feed,
            "advance": self._machine.advance,
            "deliver": self._machine.deliver,
        }
        for name, work in rounds.items():
            self._ended_s[name] = time.monotonic()
            self._tasks.append(asyncio.create_task(self._run(name, work)))

    async def close(self) -> None:
        """End after the rounds at hand; what they brought forth is copied.

        A call that hangs is left after a while: the ledger knows that it was begun, and it is made again.
        """
        self._stopping = True
        if self._tasks:
            _, hanging = await asyncio.wait(self._tasks, timeout=_FINISH_S)
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
            if not self._has_failed:
                await self._run("feed", self._feed)
        self._threads.shutdown()

    def round_ages(self) -> dict[str, float]:
        """Return the seconds since each task last ended a round."""
        return {f"act_{name}": time.monotonic() - ended for name, ended in self._ended_s.copy().items()}

    async def _run(self, name: str, work: Callable[[], Awaitable[int]]) -> None:
        try:
            while True:
                moved = await work()
                self._ended_s[name] = time.monotonic()
                if self._stopping:
                    return
                if not moved:
                    await asyncio.sleep(self._step_s)
        except Exception as error:  # noqa: BLE001 - reported; the process exits and resumes from the ledger
            self._has_failed = True
            log_failure(_log, f"act ({name})", error)
            self._on_failure("act", error)

    async def _feed(self) -> int:
        loop = asyncio.get_running_loop()
        moved = await loop.run_in_executor(self._threads, self._ingest)
        return moved + await loop.run_in_executor(self._threads, self.copy)

    def positions(self) -> dict[int, int]:
        """Return the next offset that the machine will take of every partition of ``decisions``."""
        return {partition: self._machine.position(partition) for partition in range(self._journal.partitions)}

    def _ingest(self) -> int:
        moved = 0
        for partition, position in self.positions().items():
            rows = self._journal.read("decisions", partition, position, _READ_LIMIT, max_bytes=BATCH_BYTES)
            if rows:
                moved += self._machine.ingest(
                    partition, rows[0].offset, [(row.offset, row.record) for row in rows]
                )
        return moved

    def copy(self) -> int:
        """Copy what is new in the ledger to the log and return how much; it costs nothing more with age.

        The copies are in the log before the position says so; after a crash between the two they are
        offered again, and the log knows them.
        """
        fresh = self._machine.transitions_after(self._copied["transitions"], limit=_READ_LIMIT)
        ended = self._machine.settled_after(self._copied["settlements"], limit=_READ_LIMIT)
        entries = [_entry(action) for _, action in fresh] + [_entry(_page(posted)) for _, posted in ended]
        if not entries:
            return 0
        self._journal.admit(entries)
        reached: dict[CopiedTable, int] = {
            "transitions": _last(fresh, self._copied["transitions"]),
            "settlements": _last(ended, self._copied["settlements"]),
        }
        self._machine.mark_copied(reached)
        self._copied = reached
        return len(entries)


def _last(rows: Iterable[tuple[int, object]], before: int) -> int:
    return max((row_id for row_id, _ in rows), default=before)


def _entry(action: Action) -> Entry:
    return Entry(
        topic="actions",
        key=action.target or action.deployment,
        record=action,
        identity=f"action/{action.action_id}/{action.seq}",
        digest="",
    )


def _page(posted: Posted) -> Action:
    """Return a notice that ended as the action it is: one page to one channel."""
    notice = posted.notice
    return Action(
        action_id=derive_id("page", notice.notice_id, posted.channel),
        seq=1,
        deployment=notice.decision.deployment,
        release=notice.decision.release,
        decision_id=notice.decision.decision_id,
        kind="page",
        target=posted.channel,
        state=_STATES[posted.state],
        at_ms=posted.updated_at_ms,
        reason=posted.reason or notice.transition,
        detail={"attempts": posted.attempts, "transition": notice.transition},
    )
