"""The journal as the door's inbox: requests that wait together share one sync to disk."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from streams.embedded.errors import told
from streams.embedded.journal import Journal
from streams.inbox import Entry, Outcome

_log = logging.getLogger("plumbline.embedded")
_Waiting = tuple[Sequence[Entry], asyncio.Future[Sequence[Outcome]]]


class JournalInbox:
    """Admits entries with group commit: while one transaction is being synced, the next one gathers.

    Parameters
    ----------
    journal
        Where entries go.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: list[_Waiting] = []
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="plumbline-inbox")
        self._flushing: asyncio.Task[None] | None = None
        self._closed = False
        self._is_failing = False

    async def admit(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        """Return the outcome of each entry once all accepted ones are on disk.

        Raises
        ------
        OSError
            If nothing of this call was written.
        """
        if self._closed:
            raise OSError("the door is shutting down")
        future: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, future))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return await asyncio.shield(future)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            merged = [entry for entries, _ in group for entry in entries]
            try:
                outcomes = await loop.run_in_executor(self._writer, self._journal.admit, merged)
            except Exception as error:  # noqa: BLE001 - told to those who wait; the door stays open for others
                self._say_once(error)
                _fail(group, error)
                continue
            if self._is_failing:
                self._is_failing = False
                _log.warning("the door writes again")
            start = 0
            for entries, future in group:
                if not future.done():
                    future.set_result(outcomes[start : start + len(entries)])
                start += len(entries)
        self._flushing = None

    def _say_once(self, error: Exception) -> None:
        """Log the first failure in a row: one line, with the remedy."""
        if not self._is_failing:
            _log.error("the door cannot write what it is sent, and answers 503: %s", told(error))
        self._is_failing = True

    async def close(self) -> None:
        """Refuse newcomers, wait for what is being written, and stop the writer."""
        self._closed = True
        if self._flushing is not None:
            await self._flushing
        await asyncio.to_thread(self._writer.shutdown)


def _fail(group: Sequence[_Waiting], error: Exception) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(OSError(f"the journal cannot be written: {type(error).__name__}"))
