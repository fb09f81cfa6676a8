"""How a member fetches: what it asks of the broker, and which of its fetches never came."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from streams.kafka.connection import client_options
from streams.kafka.envelope import RawMessage
from streams.kafka.membership import Assignor
from streams.settings import KafkaSettings

Where = tuple[str, int]
"""A topic (its Kafka name) and a partition."""

_WAITS_PER_WRITE: Final = 8
_NEVER_S: Final = 7 * 86_400.0  # who waits for a store may wait long; the watchdog looks after the rest


class FetchSize(Struct, frozen=True):
    """What is fetched at once: `min_bytes`, or what `wait_ms` bring; of a partition at most `batch_bytes`.

    Most of what a small batch costs is its transaction, and most of that is the broker's work: at 600
    interactions a second, fetching whatever was there kept two cores busy; waiting halves what stages take.
    ``least_wait_ms``: how short :class:`Pace` may make the wait where cores are idle; 0: not at all.
    """

    batch_bytes: int
    wait_ms: int
    min_bytes: int = 1_048_576
    least_wait_ms: int = 0


class Pace:
    """How long a fetch waits for more: eight times as long as the transactions that follow take.

    While cores are idle a transaction is over soon, and a record need not wait long for the next; where they
    are short it takes longer, and fewer are made.

    Parameters
    ----------
    size
        Between what the wait stays; it begins with the longer.

    Attributes
    ----------
    wait_ms
        How long the next fetch waits.

    Examples
    --------
    >>> pace = Pace(FetchSize(1_048_576, 250, least_wait_ms=50))
    >>> pace.look(10, 0.2, partitions=1)
    >>> pace.wait_ms
    160
    >>> pace.look(20, 1.2, partitions=1)
    >>> pace.wait_ms
    250
    """

    def __init__(self, size: FetchSize) -> None:
        self.wait_ms, self._most_ms = size.wait_ms, size.wait_ms
        self._least_ms = size.least_wait_ms or size.wait_ms
        self._count, self._seconds = 0, 0.0

    def look(self, count: int, seconds: float, *, partitions: int) -> None:
        """Set the wait by what transactions took since the last look.

        Parameters
        ----------
        count, seconds
            How many were made ever, and how long they took together.
        partitions
            How many have one each for what a fetch brings.
        """
        if count <= self._count:
            return
        one_s = (seconds - self._seconds) / (count - self._count)
        wanted_ms = round(1000 * one_s * partitions * _WAITS_PER_WRITE)
        self.wait_ms = min(max(wanted_ms, self._least_ms), self._most_ms)
        self._count, self._seconds = count, seconds


def consumer_options(
    settings: KafkaSettings, group: str, instance_id: str, session_s: float, size: FetchSize
) -> dict[str, Any]:
    """Return what aiokafka's consumer is made with: it commits nothing, and decides nothing, by itself."""
    return client_options(settings) | {
        "group_id": group,
        "group_instance_id": instance_id or None,
        "partition_assignment_strategy": [Assignor],
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "max_partition_fetch_bytes": size.batch_bytes,
        "fetch_max_wait_ms": size.wait_ms,
        "fetch_min_bytes": min(size.batch_bytes, size.min_bytes),
        "session_timeout_ms": round(session_s * 1000),
        "rebalance_timeout_ms": round(session_s * 1000),
        "heartbeat_interval_ms": round(min(3.0, session_s / 6) * 1000),
        "request_timeout_ms": round(max(40.0, session_s + 10.0) * 1000),  # a join waits for a session
        "max_poll_interval_ms": round(_NEVER_S * 1000),
    }


class LostFetches:
    """Finds what was fetched and never came.

    Faust throws away what it holds while the group moves, wherever that is: in its queues, or in a fetch that
    lasted from before the move until after it. When more comes of the partition, the gap shows; when nothing
    more comes, nobody else would notice.

    Examples
    --------
    >>> lost = LostFetches()
    >>> lost.look(7, 6, {("t", 0): 90}, {("t", 0): 40})
    {}
    >>> lost.look(8, 8, {("t", 0): 90}, {("t", 0): 40})
    {('t', 0): 40}
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: the group moves, or a callback is at work and the rest waits behind it."""
        self._made = self._came = -1
        self._ahead: dict[Where, int] = {}

    def look(
        self, made: int, came: int, fetched: Mapping[Where, int], wanted: Mapping[Where, int]
    ) -> dict[Where, int]:
        """Return the partitions to fetch again, and from where.

        Parameters
        ----------
        made, came
            The numbers of the last fetch that was made, and of the last that came.
        fetched, wanted
            What the consumer fetches next of every partition, and what is to come next.
        """
        ahead = {where: offset for where, offset in wanted.items() if fetched.get(where, offset) != offset}
        # Fetches come in order: what a later one has overtaken will not come; when none comes, none will.
        over = came > self._made or came == self._came
        lost = dict(self._ahead.items() & ahead.items()) if over else {}
        self._made, self._came, self._ahead = made, came, ahead
        return lost


def raw_message(record: Any) -> RawMessage:
    """Return a record of aiokafka as ours."""
    at = (record.topic, record.partition, record.offset, record.timestamp)
    return RawMessage(*at, record.key, record.value, tuple(record.headers))
