"""Landing: copies of every record in the store, each exactly once.

The range of a batch is written to the journal *before* the insert and marked done *after* it. A process that
dies in between re-forms exactly that range and lets the store complete it: what is there is found by reading,
and only what is not is inserted. Tokens begin with the journal's own id: a new journal over an old store must
not be taken for a repetition.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from streams.embedded.journal import BATCH_BYTES, Journal
from streams.landing_rows import LANDED, rows_of
from streams.store import StoreError


class Landable(Protocol):
    """What landing needs of a store."""

    def insert(self, table: str, columns: Mapping[str, list[Any]], *, token: str) -> int:
        """Insert rows that nobody has tried to insert."""
        ...

    def complete(self, table: str, columns: Mapping[str, list[Any]], *, token: str) -> int:
        """Insert those of the rows that are not there; somebody has tried to insert them under `token`."""
        ...


class Lander:
    """Carries the journal's records to the store.

    Parameters
    ----------
    journal
        The log, which also keeps the ledger of ranges.
    store
        Where rows go. Its errors pass through; the range stays marked and is repeated as it was.
    batch
        Most records per insert; a batch also ends at 8 MiB of content.

    Attributes
    ----------
    filled
        Whether the last round met a bound for some topic, so that more may be waiting.
    """

    def __init__(self, journal: Journal, store: Landable, *, batch: int) -> None:
        self._journal, self._store, self._batch = journal, store, batch
        self.filled = False

    def land_once(self) -> int:
        """Land up to one batch of every topic; return how many records were carried.

        A topic that the store refuses does not hold up the others; its error is raised when they are done.
        """
        ledger, carried = self._ledger(), 0
        refused: StoreError | None = None
        self.filled = False
        for topic in LANDED:
            try:
                carried += self._land(topic, *ledger.get(topic, (0, 0, "after")))
            except StoreError as error:
                if error.code is None:  # the store is away: the next topic would fare no better
                    raise
                refused = refused or error
        if refused is not None:
            raise refused
        return carried

    def _land(self, topic: str, first_id: int, last_id: int, phase: str) -> int:
        if phase == "before":  # the outcome of this insert is unknown
            self._insert(topic, first_id, last_id, tried=True)
        rows = self._journal.read_topic(topic, last_id, self._batch, max_bytes=BATCH_BYTES)
        self.filled |= len(rows) >= self._batch or sum(row.size for row in rows) >= BATCH_BYTES
        if rows:
            self._mark(topic, rows[0].row_id, rows[-1].row_id, "before")
            self._insert(topic, rows[0].row_id, rows[-1].row_id, tried=False)
        return len(rows)

    def lag(self) -> dict[str, int]:
        """Return how many records of each topic are not landed yet."""
        landed = {topic: last_id for topic, (_, last_id, phase) in self._ledger().items() if phase == "after"}
        query = "SELECT count(*) FROM records WHERE topic = ? AND id > ?"
        return {topic: self._journal.select(query, (topic, landed.get(topic, 0)))[0][0] for topic in LANDED}

    def _insert(self, topic: str, first_id: int, last_id: int, *, tried: bool) -> None:
        store = self._store.complete if tried else self._store.insert
        rows = self._journal.read_topic(topic, first_id - 1, 2**31, last_id=last_id)
        kind = LANDED[topic]
        records = [(row.partition, row.offset, row.record) for row in rows if isinstance(row.record, kind)]
        for table, columns in rows_of(records).items():
            store(table, columns, token=f"{self._journal.journal_id}/{topic}/{first_id}-{last_id}/{table}")
        self._mark(topic, first_id, last_id, "after")

    def _mark(self, topic: str, first_id: int, last_id: int, phase: str) -> None:
        with self._journal.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO landings VALUES (?, ?, ?, ?)", (topic, first_id, last_id, phase)
            )

    def _ledger(self) -> dict[str, tuple[int, int, str]]:
        found = self._journal.select("SELECT topic, first_id, last_id, phase FROM landings")
        return {topic: (first_id, last_id, phase) for topic, first_id, last_id, phase in found}
