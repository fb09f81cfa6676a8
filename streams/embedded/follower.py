"""A topic read from its beginning, once, and then followed."""

import threading

from detectors.records.codec import Record
from streams.embedded.journal import Journal

_PIECE = 2_000


class TopicFollower:
    """Keeps every record of one topic, reading only what is new.

    Parameters
    ----------
    journal
        The log.
    topic
        A topic that is small: decisions, signals.
    """

    def __init__(self, journal: Journal, topic: str) -> None:
        self._journal, self._topic = journal, topic
        self._records: list[Record] = []
        self._last_id = 0
        self._lock = threading.Lock()

    def read(self) -> list[Record]:
        """Return all records so far, in commit order."""
        with self._lock:
            while rows := self._journal.read_topic(self._topic, self._last_id, _PIECE):
                self._records += [row.record for row in rows]
                self._last_id = rows[-1].row_id
            return list(self._records)
