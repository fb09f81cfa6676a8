"""A member of a group that keeps what it is given, for tests."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from streams.kafka.envelope import RawMessage
from streams.kafka.faust_transport import ConsumerApp, Where
from streams.kafka.fetching import FetchSize
from streams.kafka.layout import topic_name
from streams.kafka.topics import TopicAdmin
from streams.settings import KafkaSettings

PARTITIONS = 4


def with_topics(bootstrap: str, prefix: str) -> KafkaSettings:
    """Make all topics, and return where they are."""
    found = KafkaSettings(bootstrap=bootstrap, topic_prefix=prefix, partitions=PARTITIONS, replication=1)
    with TopicAdmin(found) as admin:
        admin.create()
    return found


class Reader:
    """A member that keeps what it was given; `on_batch` may be replaced."""

    def __init__(self, settings: KafkaSettings, name: str, *, session_s: float = 6.0) -> None:
        self.topic = topic_name("feedback", settings.topic_prefix)
        self.values: list[int] = []
        self.sizes: list[int] = []
        self.offsets: dict[int, list[int]] = {}
        self.moves: list[tuple[str, set[Where]]] = []
        self.on_batch: Callable[[Sequence[RawMessage]], Awaitable[None]] = self.keep
        self.begin: dict[Where, int] = {}
        self.app = ConsumerApp(
            settings,
            group=f"{settings.topic_prefix}.readers",
            topics=[self.topic],
            instance_id=name,
            session_s=session_s,
            fetch=FetchSize(1 << 20, 150),
            on_batch=self._batch,
            on_assigned=self._assigned,
            on_revoked=self._revoked,
        )

    async def _batch(self, topic: str, partition: int, records: Sequence[RawMessage]) -> None:
        assert {(record.topic, record.partition) for record in records} == {(topic, partition)}
        await self.on_batch(records)
        self.offsets.setdefault(partition, []).extend(record.offset for record in records)

    async def keep(self, records: Sequence[RawMessage]) -> None:
        self.values += [int(record.value or b"") for record in records]
        self.sizes.append(len(records))

    async def _assigned(self, where: set[Where]) -> None:
        self.moves.append(("assigned", where))
        for one in where & self.begin.keys():
            await self.app.seek(one, self.begin[one])

    async def _revoked(self, where: set[Where]) -> None:
        self.moves.append(("revoked", where))

    async def commit(self) -> None:
        done = {(self.topic, part): (offsets[-1] + 1, "") for part, offsets in self.offsets.items()}
        await self.app.commit(done)


async def until(done: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not done():
            await asyncio.sleep(0.02)
