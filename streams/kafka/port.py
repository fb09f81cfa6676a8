"""The stage port of Kafka: one transaction per checkpoint holds outputs, state, position and offset."""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice, repeat, takewhile
from operator import attrgetter
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from detectors.records.codec import Record
from detectors.records.ids import partition_of
from detectors.stages import Delivery, Output
from streams.kafka.dead_letters import DeadLetter, DeadLetterOutput, RawOutput, bury, dead_letter_record
from streams.kafka.envelope import (
    EnvelopeError,
    Origin,
    RawMessage,
    place_of,
    seal,
    split_place,
    unseal,
)
from streams.kafka.errors import BrokerError
from streams.kafka.flood import OURSELVES
from streams.kafka.layout import dead_letter_name, largest_record_bytes, state_place, topic_name
from streams.kafka.state_records import Position, StateRecords, position_row
from streams.kafka.transactions import Outgoing, TransactionalWriter, Where
from streams.settings import KafkaSettings

_COMMIT_S: Final = 120.0
"""How long a checkpoint may take; the client gives up a request well before."""
_OFFSET: Final = attrgetter("offset")
_partition_of = lru_cache(maxsize=65_536)(partition_of)


class PortSettings(Struct, frozen=True, kw_only=True):
    """Whose port it is: the stage, its source (Kafka's name), its group, and whether it reads raw records."""

    kafka: KafkaSettings
    stage: str
    source: str
    group: str
    raw: bool = False


class _Whole(Struct, frozen=True):
    """One Kafka record that brought something: its last record's place, the one behind it, its origin."""

    last: int
    end: int
    origin: Origin | None


class Lane:
    """One partition of a source: its writer, its state as it was read, and what has come and was not taken.

    Parameters
    ----------
    about
        Whose it is.
    partition
        Of the source.
    records
        What its state topic holds.
    writer
        Started; nobody else writes under its name.
    start
        The log's first offset: where a stage without a position begins.
    """

    def __init__(
        self,
        about: PortSettings,
        partition: int,
        records: StateRecords,
        writer: TransactionalWriter,
        *,
        start: int = 0,
    ) -> None:
        self.partition, self.records, self.writer = partition, records, writer
        self._about = about
        self._state_topic, self._state_partition, self._state_prefix = state_place(
            about.stage, about.source, partition, about.kafka
        )
        self.position = records.position or Position(place=place_of(start))
        self._fences = dict(self.position.fences)  # of what has come, ahead of those that are committed
        self._committed_fences = dict(self.position.fences)
        self._arrived: deque[Delivery] = deque()
        self._wholes: deque[_Whole] = deque()
        # Kafka records that bring nothing: where each ends, and its dead letter, or None for a repetition.
        self._barren: deque[tuple[int, Outgoing | None]] = deque()
        self._passed = self.position.place  # everything below has come
        self.emitted: list[Any] = []
        self.flood: list[Any] = self.position.flood

    @property
    def offset(self) -> int:
        """The Kafka offset from which records are wanted."""
        return split_place(self.position.place)[0]

    def feed(self, messages: Sequence[RawMessage]) -> None:
        """Take in Kafka records, in order; those below the position are passed by."""
        for message in messages:
            if place_of(message.offset + 1) <= self._passed:
                continue
            if self._about.raw:
                self._arrive(message.offset, [cast(Record, message)], None)
            else:
                self._feed_envelope(message)
            self._passed = place_of(message.offset + 1)

    def _feed_envelope(self, message: RawMessage) -> None:
        end = place_of(message.offset + 1)
        try:
            origin, records = unseal(message.value or b"", message.headers)
        except EnvelopeError:
            letter = bury(message, stage=self._about.stage, reason="not_an_envelope").letter
            self._barren.append((end, _buried(letter, self._about.kafka)))
            return
        if origin is not None:
            key, at = _fence_key(origin), (origin.place, origin.part)
            if at <= self._fences.get(key, (-1, -1)):
                self._barren.append((end, None))
                return
            self._fences[key] = at
        self._arrive(message.offset, records, origin)

    def _arrive(self, offset: int, records: Sequence[Record], origin: Origin | None) -> None:
        first, partition = place_of(offset), self.partition
        skipped = max(0, self.position.place - first)  # the position may stand within an envelope
        places = range(first + skipped, first + len(records))
        self._arrived.extend(map(Delivery, repeat(partition), places, records[skipped:]))
        self._wholes.append(_Whole(first + len(records) - 1, place_of(offset + 1), origin))

    def waiting(self) -> int:
        """Return how many records have come and were not taken."""
        return len(self._arrived)

    def read(self, limit: int) -> list[Delivery]:
        """Return up to `limit` records from the position on; forget what was emitted and not committed."""
        self.emitted.clear()
        return list(islice(self._arrived, limit))

    def behind(self) -> bool:
        """Return whether the position could move on without a record: all that came was passed by."""
        return not self._arrived and self._passed > self.position.place

    async def commit(self, next_place: int, changes: Mapping[str, bytes | None]) -> None:
        """Write the transaction that moves the position to `next_place`."""
        taken = bisect_left(self._arrived, next_place, key=_OFFSET)
        wholes = list(takewhile(lambda one: one.last < next_place, self._wholes))
        fences = self._fences_after(wholes)
        if taken == len(self._arrived):
            next_place = max(next_place, self._passed)
        elif wholes and wholes[-1].last == next_place - 1:
            next_place = wholes[-1].end
        barren = [letter for end, letter in self._barren if end <= next_place]
        letters = [letter for letter in barren if letter is not None]
        before = self.position
        position = Position(
            place=next_place,
            fences=fences,
            flood=self.flood,
            topic_id=before.topic_id,
            taken=before.taken + taken,
            repeated=before.repeated + len(barren) - len(letters),
            buried=before.buried + len(letters) + _count_letters(self.emitted),
        )
        rows = [
            Outgoing(self._state_topic, self._state_partition, value, key)
            for key, value in self.records.rows(changes, position)
        ]
        origin = Origin(self._about.stage, self._about.source, self.partition, next_place - 1)
        outputs = outgoing_of(self.emitted, origin, self._about.kafka)
        offsets: dict[Where, int] = {(self._about.source, self.partition): split_place(next_place)[0]}
        await self.writer.write([*outputs, *letters, *rows], offsets, self._about.group)
        self._forget(taken, len(wholes), len(barren))
        self.position, self._committed_fences = position, fences

    async def page(self, page: Record) -> None:
        """Write `page` to decisions, once for the position at which the lane stands; nothing else moves."""
        if self.position.paged == self.position.place:
            return
        kafka = self._about.kafka
        self.position = msgspec.structs.replace(self.position, paged=self.position.place)
        key, value = position_row(self.position, self._state_prefix)
        (envelope,) = outgoing_of([Output(topic="decisions", key=OURSELVES, record=page)], None, kafka)
        await self.writer.write([envelope, Outgoing(self._state_topic, self._state_partition, value, key)])

    def _fences_after(self, wholes: Sequence[_Whole]) -> dict[str, tuple[int, int]]:
        fences = dict(self._committed_fences)
        for origin in (whole.origin for whole in wholes):
            if origin is not None:
                fences[_fence_key(origin)] = (origin.place, origin.part)
        return fences

    def _forget(self, taken: int, wholes: int, barren: int) -> None:
        for _ in range(taken):
            self._arrived.popleft()
        for _ in range(wholes):
            self._wholes.popleft()
        for _ in range(barren):
            self._barren.popleft()
        self.emitted.clear()


def _fence_key(origin: Origin) -> str:
    return f"{origin.stage}/{origin.topic}/{origin.partition}"


class KafkaPort:
    """The :class:`~streams.stage_port.StagePort` of Kafka, for use in threads beside the loop of its writers.

    Parameters
    ----------
    loop
        Where the writers live; it must be running while :meth:`checkpoint` waits.
    lanes
        The partitions it serves.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lanes: Sequence[Lane]) -> None:
        self._loop = loop
        self.lanes = {lane.partition: lane for lane in lanes}
        self._reading: Lane | None = None

    def stored_state(self, partition: int) -> Mapping[str, bytes]:
        """Return the blobs of the last checkpoint of `partition`; they are handed out once."""
        records = self.lanes[partition].records
        blobs, records.blobs = records.blobs, {}
        return blobs

    def read_batch(self, partition: int, limit: int) -> Sequence[Delivery]:
        """Return up to `limit` records that have come; forget what was emitted and not checkpointed."""
        self._reading = self.lanes[partition]
        return self._reading.read(limit)

    def emit(self, outputs: Sequence[Output]) -> None:
        """Keep `outputs` of the batch that was read for its checkpoint."""
        if self._reading is None:
            raise RuntimeError("emit before read_batch")
        self._reading.emitted.extend(outputs)

    def checkpoint(self, partition: int, next_offset: int, changes: Mapping[str, bytes | None]) -> None:
        """Commit outputs, changes, position and offset in one transaction.

        Raises
        ------
        BrokerError
            If it failed or its outcome is not known: the process must end; the next goes on from the log.
        """
        work = self.lanes[partition].commit(next_offset, changes)
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop).result(_COMMIT_S)
        except TimeoutError as error:
            raise BrokerError(
                f"kafka: a transaction did not end within {_COMMIT_S:g} s: see to the broker"
            ) from error


def outgoing_of(outputs: Sequence[Any], origin: Origin | None, settings: KafkaSettings) -> list[Outgoing]:
    """Return the Kafka records of what a batch brought forth: few envelopes, and raw records as they are."""
    grouped: dict[tuple[str, int], list[Record]] = {}
    raw: list[Outgoing] = []
    for output in outputs:
        if isinstance(output, Output):
            partition = output.partition
            if partition is None:
                partition = _partition_of(output.key, settings.partitions)
            grouped.setdefault((output.topic, partition), []).append(output.record)
        elif isinstance(output, DeadLetterOutput):
            raw.append(_buried(output.letter, settings))
        else:
            raw.append(_outgoing(output))
    sealed = [
        Outgoing(topic_name(topic, settings.topic_prefix), partition, one.value, None, one.headers)
        for (topic, partition), records in grouped.items()
        for one in seal(records, origin)
    ]
    return sealed + raw


def _outgoing(raw: RawOutput) -> Outgoing:
    return Outgoing(raw.topic, raw.partition, raw.value, raw.key, raw.headers)


def _buried(letter: DeadLetter, settings: KafkaSettings) -> Outgoing:
    limit_bytes = largest_record_bytes(dead_letter_name(letter.topic), settings)
    return _outgoing(dead_letter_record(letter, settings.partitions, limit_bytes=limit_bytes))


def _count_letters(outputs: Sequence[Any]) -> int:
    return sum(isinstance(output, DeadLetterOutput) for output in outputs)
