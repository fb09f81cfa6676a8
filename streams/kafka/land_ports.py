"""What landing needs of others, and what it tells of itself."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from msgspec import Struct

from streams.kafka.envelope import split_place
from streams.kafka.land_lane import Columns
from streams.kafka.land_ledger import Where
from streams.kafka.reconcile_places import sources_of


class Landable(Protocol):
    """What landing needs of a store."""

    def insert(self, table: str, columns: Columns, *, token: str) -> int:
        """Insert rows that nobody has tried to insert."""
        ...

    def complete(self, table: str, columns: Columns, *, token: str) -> int:
        """Insert those of the rows that are not there; somebody has tried to insert them under `token`."""
        ...

    def answers(self) -> bool:
        """Return whether an insert would reach the store now."""
        ...


class Readable(Protocol):
    """What is needed of a store to know what has landed."""

    def query(self, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of `sql`."""
        ...


class Group(Protocol):
    """What landing needs of its consumer group; ``leaving`` is set while partitions are about to go."""

    leaving: asyncio.Event

    async def commit(self, offsets: Mapping[Where, tuple[int, str]]) -> None:
        """Commit offset and metadata of all partitions named, or raise if they are no longer ours."""
        ...

    async def committed(self, where: set[Where]) -> Mapping[Where, tuple[int, str] | None]:
        """Return what is committed, None where nothing is."""
        ...

    async def seek(self, where: Where, offset: int) -> None:
        """Go on reading at `offset`."""
        ...

    def positions(self) -> dict[Where, int]:
        """Return the offset that comes next, of the partitions that have been read from."""
        ...

    async def bounds(self, places: Collection[Where]) -> Mapping[Where, tuple[int, int]]:
        """Return by partition the first offset that is there and the one behind the last."""
        ...


class Topic(Struct, frozen=True):
    """A topic that lands: its name among ours, its id in the cluster, and its partitions."""

    name: str
    topic_id: str
    partitions: int


class LandCounts:
    """What landing did since it began; read from any thread.

    Attributes
    ----------
    rows
        Stored, by table.
    ranges, repeated
        Ranges that landed, and how many of these the ledger had named as begun.
    unreadable
        Kafka records without records of ours, by topic.
    lost
        Offsets that were gone before they could land, by topic; only with ``accept_loss``.
    """

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.unreadable: dict[str, int] = {}
        self.lost: dict[str, int] = {}
        self.ranges = self.repeated = 0


def last_landed(store: Readable, topics: Mapping[str, Topic]) -> dict[Where, int]:
    """Return the last offset of which `store` has rows, by partition of `topics` (by Kafka's name).

    Partitions of which it has none are left out.
    """
    found: dict[Where, int] = {}
    for name, topic in topics.items():
        for source in sources_of(topic.name):
            sql = (
                f"SELECT {source.partition} AS part, max({source.place}) AS place FROM {source.table} "  # noqa: S608 - ours
                f"WHERE {source.where} GROUP BY part"
            )
            for row in store.query(sql, {}):
                where = name, int(row["part"])
                found[where] = max(found.get(where, 0), split_place(int(row["place"]))[0])
    return found
