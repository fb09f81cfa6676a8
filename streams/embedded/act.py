"""The act side of the embedded runner: decisions from the journal into the response machine, actions back."""

import logging
from collections.abc import Callable

from detectors.records import Action
from streams.acting import READ_LIMIT, ActTasks, fresh_copies, key_of_action
from streams.embedded.journal import BATCH_BYTES, Journal
from streams.inbox import Entry
from streams.response.machine import ResponseMachine

_log = logging.getLogger("plumbline.embedded")


class ActLoop(ActTasks):
    """Feeds the machine, and copies its transitions and the pages that ended to the topic ``actions``.

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
        super().__init__(machine, self._feed, step_s=step_s, log=_log, on_failure=on_failure)
        self._journal = journal
        self._copied = machine.copied()

    async def _feed(self) -> int:
        return await self.in_thread(self._ingest) + await self.in_thread(self.copy)

    def positions(self) -> dict[int, int]:
        """Return the next offset that the machine will take of every partition of ``decisions``."""
        return {partition: self._machine.position(partition) for partition in range(self._journal.partitions)}

    def _ingest(self) -> int:
        moved = 0
        for partition, position in self.positions().items():
            rows = self._journal.read("decisions", partition, position, READ_LIMIT, max_bytes=BATCH_BYTES)
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
        copies = fresh_copies(self._machine, self._copied)
        if not copies.actions:
            return 0
        self._journal.admit([_entry(action) for action in copies.actions])
        self._machine.mark_copied(copies.reached)
        self._copied = dict(copies.reached)
        return len(copies.actions)


def _entry(action: Action) -> Entry:
    return Entry(
        topic="actions",
        key=key_of_action(action),
        record=action,
        identity=f"action/{action.action_id}/{action.seq}",
        digest="",
    )
