"""The stage port of the journal: one SQLite transaction per checkpoint."""

from collections.abc import Mapping, Sequence

from detectors.records.codec import Record
from detectors.records.ids import partition_of
from detectors.stages import Delivery, Output
from streams.embedded.journal import BATCH_BYTES, Journal


class JournalPort:
    """The :class:`StagePort` of the SQLite journal: one transaction per checkpoint.

    Parameters
    ----------
    journal
        The log.
    stage, source
        Name of the stage and the topic it reads.
    """

    def __init__(self, journal: Journal, stage: str, source: str) -> None:
        self._journal, self._stage, self._source = journal, stage, source
        self._positions = journal.positions(stage, source)
        self._emitted: list[tuple[str, int, Record]] = []

    def stored_state(self, partition: int) -> Mapping[str, bytes]:
        """Return the blobs of the last checkpoint of `partition`."""
        query = "SELECT name, value FROM states WHERE stage = ? AND part = ?"
        return dict(self._journal.select(query, (self._stage, partition)))

    def read_batch(self, partition: int, limit: int) -> Sequence[Delivery]:
        """Return up to `limit` records from the position of `partition`; forget what was not checkpointed."""
        self._emitted.clear()
        position = self._positions[partition]
        rows = self._journal.read(self._source, partition, position, limit, max_bytes=BATCH_BYTES)
        return [Delivery(row.partition, row.offset, row.record) for row in rows]

    def emit(self, outputs: Sequence[Output]) -> None:
        """Keep `outputs` for the next checkpoint, each with its partition."""
        for output in outputs:
            partition = output.partition
            if partition is None:
                partition = partition_of(output.key, self._journal.partitions)
            self._emitted.append((output.topic, partition, output.record))

    def checkpoint(self, partition: int, next_offset: int, changes: Mapping[str, bytes | None]) -> None:
        """Commit outputs, changes and position in one transaction."""
        with self._journal.transaction() as db:
            self._journal.append(db, self._emitted)
            db.executemany(
                "DELETE FROM states WHERE stage = ? AND part = ? AND name = ?",
                [(self._stage, partition, name) for name, value in changes.items() if value is None],
            )
            db.executemany(
                "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)",
                [
                    (self._stage, partition, name, value)
                    for name, value in changes.items()
                    if value is not None
                ],
            )
            db.execute(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)",
                (self._stage, self._source, partition, next_offset),
            )
        self._emitted.clear()
        self._positions[partition] = next_offset
