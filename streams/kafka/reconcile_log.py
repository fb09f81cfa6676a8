"""The cluster as a reconciliation sees it: bounds, commits, positions of stages, and the records."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import OffsetSpec
from msgspec import Struct

from streams.kafka.connection import client_options, reach_broker
from streams.kafka.envelope import RawMessage
from streams.kafka.errors import BrokerError
from streams.kafka.land_ledger import Where
from streams.kafka.state_records import Position
from streams.kafka.topics import told_by_broker
from streams.settings import KafkaSettings

_TIMEOUT_MS: Final = 15_000
_COMMITTED: Final = 1  # Kafka's number of the isolation level
_POLL_MS: Final = 500
_STALLED_S: Final = 30.0
_TAIL: Final = 512
_POSITION: Final = b"position"
_FETCH_BYTES: Final = 4_194_304
_READ: Final[Mapping[str, Any]] = {
    "group_id": None,
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",
    "max_partition_fetch_bytes": _FETCH_BYTES,
    "max_poll_records": 500,
}


class Bounds(Struct, frozen=True):
    """The first offset that a partition still has, and the one behind its last committed record."""

    start: int
    end: int


class ClusterReader:
    """Reads what is committed, and joins no group; a context manager.

    Parameters
    ----------
    settings
        Where the brokers are and how to get in.

    Raises
    ------
    BrokerError
        If no broker answers or it refuses; the text names the remedy.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        options = client_options(settings)
        reach_broker(settings)
        with told_by_broker(settings):
            self._admin = KafkaAdminClient(**options, request_timeout_ms=_TIMEOUT_MS)
            self._consumer = KafkaConsumer(**options, **_READ)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._consumer.close()
        self._admin.close()

    def bounds(self, places: Collection[Where]) -> dict[Where, Bounds]:
        """Return the bounds of partitions."""
        starts = self._offsets(places, int(OffsetSpec.EARLIEST))
        ends = self._offsets(places, int(OffsetSpec.LATEST))
        return {where: Bounds(starts[where], ends[where]) for where in places}

    def first_since(self, places: Collection[Where], at_ms: int) -> dict[Where, int | None]:
        """Return the first offset whose record is not older than `at_ms`, None where all are."""
        found = self._offsets(places, at_ms)
        return {where: None if offset < 0 else offset for where, offset in found.items()}

    def _offsets(self, places: Collection[Where], asked: int) -> dict[Where, int]:
        # The consumer has calls for these too; they may leave partitions out that it has not heard of yet.
        with told_by_broker(self._settings):
            found = self._admin.list_partition_offsets(
                {TopicPartition(*where): asked for where in places},
                isolation_level=_COMMITTED,
                timeout_ms=_TIMEOUT_MS,
            )
        return {(tp.topic, tp.partition): at.offset for tp, at in found.items()}

    def committed(self, groups: Sequence[str]) -> dict[str, dict[Where, tuple[int, str]]]:
        """Return offset and metadata of all that `groups` have committed."""
        found: dict[str, dict[Where, tuple[int, str]]] = {}
        for group in groups:
            with told_by_broker(self._settings):
                answer = self._admin.list_group_offsets({group: None})
            found[group] = {
                (tp.topic, tp.partition): (at.offset, at.metadata or "")
                for tp, at in answer.get(group, {}).items()
                if at.offset >= 0
            }
        return found

    def position(self, where: Where) -> Position | None:
        """Return the last position in a partition of a state topic; None if it has none.

        Every transaction ends with one, so that the tail of the log is enough.

        Raises
        ------
        BrokerError
            If it is of another format.
        """
        bounds = self.bounds([where])[where]
        first = bounds.end
        while first > bounds.start:
            first, last = max(bounds.start, first - _TAIL), first
            found = None
            for messages in self.read(where, first, last):
                values = [message.value for message in messages if message.key == _POSITION]
                found = values[-1] if values else found
            if found is not None:
                try:
                    return msgspec.json.decode(found, type=Position)
                except msgspec.DecodeError as error:
                    raise BrokerError(
                        f"kafka: the position in {where[0]}/{where[1]} is of another version"
                    ) from error
        return None

    def read(self, where: Where, first: int, end: int) -> Iterator[list[RawMessage]]:
        """Yield the records from offset `first` up to, not including, `end`, some at a time, in order.

        Raises
        ------
        BrokerError
            If nothing comes for half a minute.
        """
        if first >= end:
            return
        tp = TopicPartition(*where)
        with told_by_broker(self._settings):
            self._consumer.assign([tp])
            self._consumer.seek(tp, first)
            moved_s, at = time.monotonic(), first
            while at < end:
                records = self._consumer.poll(timeout_ms=_POLL_MS).get(tp, [])
                messages = [_raw(record) for record in records if record.offset < end]
                if messages:
                    yield messages
                reached = self._consumer.position(tp)
                if reached > at:
                    moved_s, at = time.monotonic(), reached
                elif time.monotonic() - moved_s > _STALLED_S:
                    raise BrokerError(f"kafka: {where[0]}/{where[1]} cannot be read on from offset {at}")


def _raw(record: Any) -> RawMessage:
    return RawMessage(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        tuple(record.headers),
    )
