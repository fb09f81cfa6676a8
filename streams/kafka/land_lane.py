"""What one partition has waiting for the store, and the range that is on its way there. Pure."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from detectors.records.codec import Record
from streams.kafka.desk import held_bytes
from streams.kafka.envelope import EnvelopeError, RawMessage, place_of, unseal
from streams.kafka.land_ledger import LedgerError, Mark, Range, Where
from streams.landing_rows import LANDED, rows_of

LANE_BYTES: Final = 4_194_304
"""That one partition may have waiting, as :func:`held_bytes` counts; a Kafka record more ends it."""
_SELDOM: Final = frozenset({"releases", "references", "feedback", "labels"})
_SELDOM_FLUSHES: Final = 4
"""What comes seldom waits longer: an insert of five rows takes the store as long as one of five hundred."""

Columns = Mapping[str, list[Any]]


class Arrival(Struct, frozen=True):
    """One Kafka record, read: what it costs to keep, in bytes, and what it holds.

    ``unreadable`` is it again where it holds no records of ours.
    """

    offset: int
    size: int
    records: Sequence[Record]
    unreadable: RawMessage | None = None


def read_message(message: RawMessage) -> Arrival:
    """Return what `message` holds, and costs.

    Examples
    --------
    >>> read_message(RawMessage("t", 0, 4, 0, None, b"no", ())).unreadable
    RawMessage(t/0@4)
    """
    size = held_bytes(message)
    try:
        _, records = unseal(message.value or b"", message.headers)
    except EnvelopeError:
        return Arrival(message.offset, size, (), message)
    return Arrival(message.offset, size, records)


def tables_of(topic: str, partition: int, arrivals: Sequence[Arrival]) -> dict[str, Columns]:
    """Return what lands from `arrivals` of `topic` (ours), as columns by table; control records do not."""
    kind = LANDED[topic]
    placed = [
        (partition, place_of(arrival.offset, index), record)
        for arrival in arrivals
        for index, record in enumerate(arrival.records)
        if isinstance(record, kind)
    ]
    return dict(rows_of(placed))


class Batch:
    """A range on its way; it is repeated as it is until it has landed.

    Parameters
    ----------
    where, chosen
        Its partition and range.
    arrivals
        All Kafka records of the range.
    topic
        Ours, which says which records land.

    Attributes
    ----------
    tables
        Columns by table, of those that are not stored yet; :meth:`build` makes them.
    lands
        Whether there will be any.
    unreadable
        The Kafka records without records of ours.
    """

    def __init__(self, where: Where, chosen: Range, arrivals: Sequence[Arrival], topic: str) -> None:
        self.where, self.range = where, chosen
        self._topic, self._arrivals = topic, arrivals
        self.tables: dict[str, Columns] = {}
        self.lands = any(isinstance(record, LANDED[topic]) for found in arrivals for record in found.records)
        self.unreadable = [found.unreadable for found in arrivals if found.unreadable is not None]

    def build(self) -> None:
        """Make the rows, if they were not made before; from any thread."""
        if self._arrivals:
            self.tables = tables_of(self._topic, self.where[1], self._arrivals)
            self._arrivals = ()


class Lane:
    """One partition of this worker.

    Parameters
    ----------
    where
        The partition.
    topic
        The name of its topic among ours.
    mark
        What the ledger says of it.

    Attributes
    ----------
    next_offset
        Below it everything has landed.
    size, records
        What waits: bytes, and records.
    since_s
        When the oldest that waits came, None if nothing does.
    batch
        The range on its way, None while there is none.
    failures, retry_s
        How often the store did not take it, and when to try again.
    refused
        Whether the store refused it, while it may take others.
    turn
        How often the reader went back: what was fetched in an earlier turn must not be taken any more.
    """

    def __init__(self, where: Where, topic: str, mark: Mark) -> None:
        self.where, self.topic = where, topic
        self._flushes = _SELDOM_FLUSHES if topic in _SELDOM else 1
        self.next_offset = mark.offset
        self.unfinished = mark.unfinished
        self.size = self.records = self.failures = self.turn = 0
        self.since_s: float | None = None
        self.retry_s = 0.0
        self.refused = False
        self.batch: Batch | None = None
        self._waiting: deque[Arrival] = deque()
        self._taken = mark.offset
        self._skipping = False

    def take(self, arrivals: Sequence[Arrival], now_s: float) -> bool:
        """Queue `arrivals` and return True; what came before is passed by.

        While the store refuses what is on its way, a full lane takes nothing and returns False: the reader
        must go back to :meth:`gap` later.
        """
        self._skipping |= self.refused and self.is_full()
        if self._skipping:
            return False
        for arrival in arrivals:
            if arrival.offset < self._taken:
                continue
            self._taken = arrival.offset + 1
            self._waiting.append(arrival)
            self.size += arrival.size
            self.records += len(arrival.records)
        if self._waiting and self.since_s is None:
            self.since_s = now_s
        return True

    def gap(self) -> int | None:
        """Return the offset to go back to when records were not taken and there is room again."""
        return self._taken if self._skipping and not self.refused and not self.is_full() else None

    def resume(self) -> None:
        """Take records again; call it when the reader has gone back to the :meth:`gap`, and not before.

        Until then what comes is from behind the gap: it would hide what is in it.
        """
        self._skipping = False
        self.turn += 1

    def is_full(self) -> bool:
        """Return whether no more should be taken now; a range that must be formed again is taken whole."""
        return self.size >= LANE_BYTES and not self.is_incomplete()

    def is_due(self, now_s: float, *, batch: int, flush_s: float) -> bool:
        """Return whether something should be inserted now."""
        if now_s < self.retry_s:
            return False
        if self.batch is not None:
            return True
        if self.since_s is None or self.is_incomplete():
            return False
        waited = now_s - self.since_s >= flush_s * self._flushes
        return bool(waited or self.unfinished or self.records >= batch or self.size >= LANE_BYTES)

    def due_s(self, flush_s: float) -> float:
        """Return when something will be due if nothing more comes."""
        if self.batch is not None:
            return self.retry_s
        if self.since_s is None or self.is_incomplete():
            return float("inf")
        return max(self.retry_s, self.since_s if self.unfinished else self.since_s + flush_s * self._flushes)

    def form(self, limit: int, now_s: float) -> Batch:
        """Put a range on its way: the one the ledger names, or else up to `limit` records and some.

        A range ends with the Kafka record that reaches the limit, or :data:`LANE_BYTES`.

        Raises
        ------
        LedgerError
            If the range that the ledger names does not begin where it began.
        """
        arrivals, records, size = [], 0, 0
        last = None if self.unfinished is None else self.unfinished.last
        while self._waiting:
            if last is None and (records >= limit or size >= LANE_BYTES):
                break
            if last is not None and self._waiting[0].offset > last:
                break
            arrival = self._waiting.popleft()
            arrivals.append(arrival)
            records, size = records + len(arrival.records), size + arrival.size
        self.size, self.records = self.size - size, self.records - records
        self.since_s = now_s if self._waiting else None
        self._check_begin((arrivals or self._waiting)[0].offset)
        chosen = self.unfinished or Range(arrivals[0].offset, arrivals[-1].offset)
        self.batch = Batch(self.where, chosen, arrivals, self.topic)
        return self.batch

    def _check_begin(self, first: int) -> None:
        """Complain if the range that was begun lost its first record, and nobody accepted that."""
        begun = self.unfinished
        if begun is not None and first != begun.first == self.next_offset:
            raise LedgerError(
                f"landing: {self.where[0]}/{self.where[1]} begins at {first} and the range to repeat at "
                f"{begun.first}: retention took its begin meanwhile; start again with --accept-loss"
            )

    def landed(self) -> None:
        """Note that the range on its way has landed."""
        if self.batch is None:
            raise LedgerError(f"landing: nothing of {self.where[0]}/{self.where[1]} is on its way")
        self.next_offset = self.batch.range.last + 1
        self.batch = self.unfinished = None
        self.failures, self.refused, self.retry_s = 0, False, 0.0

    def failed(self, now_s: float, *, refused: bool) -> None:
        """Note that the store did not take the range now: it is repeated as it is, ever more rarely."""
        self.failures += 1
        self.refused = refused
        self.retry_s = now_s + min(30.0, 0.25 * 2.0 ** min(self.failures, 7))

    def is_idle(self) -> bool:
        """Return whether all that was taken has landed."""
        return self.batch is None and self.since_s is None and not self._skipping

    def is_incomplete(self) -> bool:
        """Return whether the range that must be formed again has not arrived in full."""
        return self.unfinished is not None and self.batch is None and self._taken <= self.unfinished.last
