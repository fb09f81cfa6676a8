"""The act side of the embedded runner: decisions from the journal into the response machine, actions back."""

import asyncio
import logging
from collections.abc import Callable

from detectors.records import Action, ActionState
from detectors.records.ids import derive_id
from streams.embedded.journal import Journal
from streams.inbox import Entry
from streams.response.machine import ResponseMachine
from streams.response.outbox import Posted

_log = logging.getLogger("plumbline.embedded")
_READ_LIMIT = 500


class ActLoop:
    """Feeds the machine and copies its transitions, and the pages that ended, to the topic ``actions``.

    Parameters
    ----------
    journal
        The log.
    machine
        What decides and acts; it keeps its own position in the log.
    step_s
        Seconds between two rounds.
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
        self._copied = 0
        self._paged: set[str] = set()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run in the current event loop."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End after the round at hand."""
        self._stopping = True
        if self._task is not None:
            await self._task

    async def run_once(self) -> int:
        """Ingest, step and copy once; return how much moved."""
        moved = await asyncio.to_thread(self._ingest)
        moved += await self._machine.step()
        return moved + await asyncio.to_thread(self._copy)

    async def _run(self) -> None:
        try:
            while not self._stopping:
                if not await self.run_once():
                    await asyncio.sleep(self._step_s)
        except Exception as error:  # noqa: BLE001 - reported; the process exits and resumes from the ledger
            self._on_failure("act", error)

    def positions(self) -> dict[int, int]:
        """Return the next offset that the machine will take of every partition of ``decisions``."""
        return {partition: self._machine.position(partition) for partition in range(self._journal.partitions)}

    def _ingest(self) -> int:
        moved = 0
        for partition, position in self.positions().items():
            rows = self._journal.read("decisions", partition, position, _READ_LIMIT)
            if rows:
                moved += self._machine.ingest(
                    partition, rows[0].offset, [(row.offset, row.record) for row in rows]
                )
        return moved

    def _copy(self) -> int:
        fresh = self._machine.transitions_after(self._copied)
        pages = [page for page in map(_page, self._machine.notices()) if page.action_id not in self._paged]
        ended = [page for page in pages if page.state in {"DELIVERED", "FAILED"}]
        actions = [action for _, action in fresh] + ended
        if actions:
            self._journal.admit([_entry(action) for action in actions])
            self._copied = fresh[-1][0] if fresh else self._copied
            self._paged.update(page.action_id for page in ended)
        return len(actions)


def _entry(action: Action) -> Entry:
    return Entry(
        topic="actions",
        key=action.target or action.deployment,
        record=action,
        identity=f"action/{action.action_id}/{action.seq}",
        digest="",
    )


def _page(posted: Posted) -> Action:
    """Return a notice as the action it is: one page to one channel."""
    states: dict[str, ActionState] = {"sent": "DELIVERED", "dead": "FAILED", "pending": "DECIDED"}
    notice = posted.notice
    return Action(
        action_id=derive_id("page", notice.notice_id, posted.channel),
        seq=1,
        deployment=notice.decision.deployment,
        release=notice.decision.release,
        decision_id=notice.decision.decision_id,
        kind="page",
        target=posted.channel,
        state=states[posted.state],
        at_ms=posted.updated_at_ms,
        reason=posted.reason or notice.transition,
        detail={"attempts": posted.attempts, "transition": notice.transition},
    )
