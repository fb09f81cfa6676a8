"""What ticking reads and writes on a broker: how far scoring is, what waits behind it, and ticks."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors

from detectors.records import Tick
from detectors.stages.contract import StageState
from detectors.stages.score import WATERMARK
from streams.kafka.connection import client_options
from streams.kafka.envelope import seal, split_place
from streams.kafka.errors import BrokerError
from streams.kafka.layout import SUBMISSIONS, state_name, topic_name
from streams.kafka.state_records import blob_key, is_position, read_blob, read_position
from streams.kafka.ticker import Reached
from streams.settings import KafkaSettings

_TIMEOUT_S: Final = 15.0
_REQUEST_MS: Final = 10_000
_LOOK_S: Final = 2.0
_POLL_MS: Final = 100
_PIECE_BYTES: Final = 65_536
_TAIL: Final = 4
"""Records from the end of a state, the first time; a transaction ends with the position and a marker."""

_WATERMARK_KEY: Final = blob_key(WATERMARK)


class KafkaTickLog:
    """The :class:`~streams.kafka.ticker.TickLog` of a broker.

    Parameters
    ----------
    settings
        Where the brokers are.

    Raises
    ------
    BrokerError
        If the broker does not answer.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        prefix, partitions = settings.topic_prefix, settings.partitions
        self._topic, self._sent = topic_name("interactions", prefix), topic_name(SUBMISSIONS, prefix)
        self._doors = state_name("admit", prefix)
        self._reached: dict[int, Reached] = {}
        self._admitted: dict[int, int] = {}
        self._seen_to: dict[Any, int] = {}
        self._clear: dict[Any, int] = defaultdict(int)
        self._waiting: dict[Any, int] = {}
        options = client_options(settings)
        with _told("open a connection"):
            self._state = _consumer(options, [state_name("score", prefix)], partitions)
            self._ahead = _consumer(options, [self._topic, self._sent, self._doors], partitions)
            self._producer = KafkaProducer(
                **options, acks="all", request_timeout_ms=_REQUEST_MS, delivery_timeout_ms=_REQUEST_MS + 1_000
            )

    def reached(self) -> Mapping[int, Reached]:
        """Return how far scoring has come, by partition that it has ever read."""
        with _told("read the state of scoring"):
            ends = self._state.end_offsets(list(self._state.assignment()))
            until_s = time.monotonic() + _TIMEOUT_S
            while any(self._state.position(where) < end for where, end in ends.items()):
                if time.monotonic() > until_s:
                    raise BrokerError("kafka: the state of scoring cannot be read to its end in time")
                for where, rows in self._state.poll(_POLL_MS).items():
                    known = self._reached.get(where.partition, Reached())
                    for row in rows:
                        known = read_score_state(known, row.key, row.value)
                    self._reached[where.partition] = known
        return self._reached

    def admitted(self, partitions: Sequence[int]) -> Sequence[int]:
        """Return those of the partitions into which admit has brought every submission that was there.

        Where admit is stands in its own state, which moves in one transaction with what it writes: the
        offsets of its group may have expired.
        """
        with _told("look at the ends of submissions"):
            done = self._empty_from(self._sent, {part: self._admitted.get(part, 0) for part in partitions})
            moved = self._follow_admit([part for part in partitions if part not in done])
            return sorted([*done, *self._empty_from(self._sent, moved)])

    def _follow_admit(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return where admit is in those of the partitions in which it went on since the last look.

        The position is in the last records of every transaction: the end of the state is read, and more of it
        only if it is not there.
        """
        places = [TopicPartition(self._doors, part) for part in partitions]
        ends, begins = self._ahead.end_offsets(places), self._ahead.beginning_offsets(places)
        floors = {where: max(begins[where], self._seen_to.get(where, 0)) for where in places}
        wanting, moved, back = {one for one in places if floors[one] < ends[one]}, {}, _TAIL
        while wanting:
            starts = {where: max(floors[where], ends[where] - back) for where in wanting}
            for where, offset in self._read_admit(starts, ends).items():
                moved[where.partition] = self._admitted[where.partition] = offset
                self._seen_to[where] = ends[where]
                wanting.discard(where)
            wanting = {where for where in wanting if starts[where] > floors[where]}
            back *= _TAIL
        return moved

    def _read_admit(self, starts: Mapping[Any, int], ends: Mapping[Any, int]) -> dict[Any, int]:
        """Return the offset in the last position between `starts` and `ends`, where there is one."""
        self._begin_at(starts)
        found: dict[Any, int] = {}
        until_s = time.monotonic() + _TIMEOUT_S
        while any(self._ahead.position(where) < ends[where] for where in starts):
            if time.monotonic() > until_s:
                raise BrokerError("kafka: the state of admit cannot be read to its end in time")
            for where, rows in self._ahead.poll(_POLL_MS).items():
                positions = [row.value for row in rows if is_position(row.key) and row.value is not None]
                if positions:
                    found[where] = split_place(read_position(positions[-1]).place)[0]
        return found

    def drained(self, positions: Mapping[int, int]) -> Sequence[int]:
        """Return those of the partitions in which no record waits at or after the given offset."""
        with _told("look at the ends of interactions"):
            return self._empty_from(self._topic, positions)

    def _empty_from(self, topic: str, positions: Mapping[int, int]) -> list[int]:
        """Return the partitions of `topic` that hold no record from the given offsets on.

        Transactions leave markers that are offsets and no records, so the end of the log does not tell: what
        is between position and end is looked at, once.
        """
        places = {TopicPartition(topic, part): offset for part, offset in positions.items()}
        ends = self._ahead.end_offsets(list(places))
        begins = self._ahead.beginning_offsets(list(places))
        found, wanting = [], {}
        for where, offset in places.items():
            start = max(offset, begins[where], self._clear[where])
            if self._waiting.get(where, -1) >= max(offset, begins[where]):
                continue
            if start >= ends[where]:
                found.append(where.partition)
            else:
                wanting[where] = start
        return found + self._look(wanting, ends)

    def _look(self, wanting: Mapping[Any, int], ends: Mapping[Any, int]) -> list[int]:
        """Return the partitions that hold no record from the given offsets on; remember what was seen."""
        self._begin_at(wanting)
        undecided, found = set(wanting), []
        until_s = time.monotonic() + _LOOK_S
        while undecided and time.monotonic() < until_s:
            for where, rows in self._ahead.poll(_POLL_MS).items():
                if rows and where in undecided:
                    self._waiting[where] = rows[-1].offset
                    self._ahead.pause(where)
                    undecided.discard(where)
            for where in [one for one in undecided if self._ahead.position(one) >= ends[one]]:
                self._clear[where] = self._ahead.position(where)
                self._ahead.pause(where)
                undecided.discard(where)
                found.append(where.partition)
        return found

    def _begin_at(self, starts: Mapping[Any, int]) -> None:
        """Let the next polls read these partitions, from these offsets on, and no others."""
        self._ahead.pause(*self._ahead.assignment())
        for where, start in starts.items():
            self._ahead.seek(where, start)
            self._ahead.resume(where)

    def append(self, ticks: Sequence[Tick]) -> None:
        """Append each tick to its own partition; on return all are stored."""
        with _told("write ticks"):
            sent = []
            for tick in ticks:
                (envelope,) = seal([tick], None)
                sent.append(
                    self._producer.send(
                        self._topic,
                        value=envelope.value,
                        headers=list(envelope.headers),
                        partition=tick.source_partition,
                    )
                )
            for future in sent:
                future.get(timeout=_TIMEOUT_S)

    def close(self) -> None:
        """Let go of the connections."""
        self._producer.close(timeout=1.0)
        self._ahead.close()
        self._state.close()


def _consumer(options: Mapping[str, Any], topics: Sequence[str], partitions: int) -> Any:
    """Return a consumer without a group, at the beginning of every partition of `topics`."""
    consumer = KafkaConsumer(
        **options,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=_PIECE_BYTES,
        fetch_max_wait_ms=_POLL_MS,
        metrics_enabled=False,
    )
    where = [TopicPartition(topic, partition) for topic in topics for partition in range(partitions)]
    consumer.assign(where)
    consumer.seek_to_beginning(*where)
    return consumer


def read_score_state(known: Reached, key: bytes, value: bytes | None) -> Reached:
    """Return what is known of scoring in a partition after one more record of its state topic.

    Examples
    --------
    >>> from streams.kafka.state_records import Position, position_row
    >>> read_score_state(Reached(5), *position_row(Position(place=7 * 65_536)))
    Reached(watermark_ms=5, next_offset=7)
    """
    if value is None:
        return known
    if is_position(key):
        return Reached(known.watermark_ms, split_place(read_position(value).place)[0])
    if key == _WATERMARK_KEY:
        return Reached(StageState({WATERMARK: read_blob(value)}).get(WATERMARK), known.next_offset)
    return known


@contextmanager
def _told(doing: str) -> Iterator[None]:
    """Turn the errors of kafka-python into one line."""
    try:
        yield
    except kafka_errors.AuthorizationError as error:
        raise PermissionError(
            f"kafka: not allowed to {doing}: allow this user to read state.score, interactions, state.admit "
            "and submissions, and to write interactions"
        ) from error
    except kafka_errors.KafkaError as error:
        raise BrokerError(f"kafka: cannot {doing} ({type(error).__name__})") from error
