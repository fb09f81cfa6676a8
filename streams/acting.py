"""What every runner's act side does: take decisions in, act, tell, and copy what became of them.

Three tasks run side by side: *feed* (take decisions in, copy actions out), *advance* (rollbacks) and
*deliver* (pages). A pager that hangs delays no rollback, a gateway that hangs no page. What waits for a disk
runs in threads that nobody else may fill.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from msgspec import Struct

from detectors.records import Action, ActionState
from detectors.records.ids import derive_id
from streams.embedded.errors import log_failure
from streams.response.copies import CopiedTable
from streams.response.machine import ResponseMachine
from streams.response.outbox import Posted

T = TypeVar("T")
READ_LIMIT: Final = 100
"""How many decisions are taken, or copies made, at once."""
_FINISH_S: Final = 10.0
_STATES: Final[dict[str, ActionState]] = {"sent": "DELIVERED", "dead": "FAILED"}


class ActTasks:
    """Runs `feed` and the machine's own rounds until closed.

    Parameters
    ----------
    machine
        What decides and acts.
    feed
        Takes decisions in and copies actions out; returns how much it moved.
    step_s
        Seconds between two rounds that moved nothing.
    log
        Where a failure is traced.
    on_failure
        Called when a round raises; the process then exits.
    """

    def __init__(
        self,
        machine: ResponseMachine,
        feed: Callable[[], Awaitable[int]],
        *,
        step_s: float,
        log: logging.Logger,
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self._machine, self._feeding, self._step_s = machine, feed, step_s
        self._failure_log, self._on_failure = log, on_failure
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="plumbline-act")
        self._stopping = self._has_failed = False
        self._tasks: list[asyncio.Task[None]] = []
        self._ended_s: dict[str, float] = {}

    def start(self) -> None:
        """Begin to run in the current event loop."""
        rounds: dict[str, Callable[[], Awaitable[int]]] = {
            "feed": self._feeding,
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
                await self._run("feed", self._feeding)
        self._threads.shutdown()

    def round_ages(self) -> dict[str, float]:
        """Return the seconds since each task last ended a round."""
        return {f"act_{name}": time.monotonic() - ended for name, ended in self._ended_s.copy().items()}

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Return what `work` does in a thread of the act side's own."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

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
            log_failure(self._failure_log, f"act ({name})", error)
            self._on_failure("act", error)


class Copies(Struct, frozen=True):
    """What is new in the ledger, as actions, and per table the last row of it."""

    actions: tuple[Action, ...]
    reached: Mapping[CopiedTable, int]


def fresh_copies(machine: ResponseMachine, copied: Mapping[CopiedTable, int]) -> Copies:
    """Return the next transitions and ended pages after the rows of `copied`; it costs no more with age."""
    fresh = machine.transitions_after(copied["transitions"], limit=READ_LIMIT)
    ended = machine.settled_after(copied["settlements"], limit=READ_LIMIT)
    return Copies(
        actions=(*(action for _, action in fresh), *(page_action(posted) for _, posted in ended)),
        reached={
            "transitions": _last(fresh, copied["transitions"]),
            "settlements": _last(ended, copied["settlements"]),
        },
    )


def key_of_action(action: Action) -> str:
    """Return the key of `action` on its topic: the target, or else the deployment."""
    return action.target or action.deployment


def page_action(posted: Posted) -> Action:
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


def _last(rows: Iterable[tuple[int, object]], before: int) -> int:
    return max((row_id for row_id, _ in rows), default=before)
