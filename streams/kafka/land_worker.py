"""The worker of landing: its group, the store, and, where it owns that, the page and the ClickHouse door."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware

from streams.door.http import require_token
from streams.embedded.lock import lock_directory
from streams.guard import TokenGuard, host_guards
from streams.kafka.dead_letters import RawOutput
from streams.kafka.envelope import RawMessage
from streams.kafka.faust_transport import ConsumerApp
from streams.kafka.land_copy import CopiedGroup, LedgerTopic
from streams.kafka.land_fence import Fence
from streams.kafka.land_ledger import Where
from streams.kafka.land_ports import Topic, last_landed
from streams.kafka.landing import Lander
from streams.kafka.layout import topic_name
from streams.kafka.precedence import fetch_size
from streams.kafka.topics import TopicAdmin
from streams.kafka.transactions import Outgoing, PlainWriter
from streams.kafka.vitals import Reading
from streams.kafka.vitals_of import EndMeter, read_land
from streams.landing_rows import LANDED
from streams.listener import Listener, bind
from streams.page import PAGE_QUERY_S, page_routes
from streams.settings import KafkaSettings, Settings
from streams.store import Store, StoreError
from streams.store_front import Closer, StoreFront, open_landing_store

_log = logging.getLogger("plumbline.land")
_ASK_AGAIN_S: Final = 2.0


def read_topics(settings: KafkaSettings) -> dict[str, Topic]:
    """Return what lands, by Kafka's name, with the ids that the cluster gave; raises BrokerError."""
    with TopicAdmin(settings) as admin:
        admin.check()
        ids = admin.ids()
    names = {topic_name(topic, settings.topic_prefix): topic for topic in LANDED}
    return {name: Topic(topic, ids[name], settings.partitions) for name, topic in names.items()}


def read_topic_ids(settings: KafkaSettings) -> dict[str, str]:
    """Return the ids of the topics that the cluster has now, by Kafka's name; raises BrokerError."""
    with TopicAdmin(settings) as admin:
        return admin.ids()


class LandWorker:
    """One process of the group ``<prefix>.land``.

    Parameters
    ----------
    settings
        Where the brokers and the store are. Without ``[land] dsn`` this process owns the embedded store in
        the data directory, and serves its page at ``[door]`` and, if asked, the ClickHouse door.
    instance_id
        Who this is in the group.
    accept_loss
        Whether to go on where retention took records before they landed.

    Attributes
    ----------
    lander, app, store
        Its parts, once started.
    page_url, clickhouse_url
        Where it serves; empty where it does not.
    stage
        What it is called beside the stages.

    Raises
    ------
    SettingsError
        If the settings cannot be used.
    """

    stage = "land"

    def __init__(self, settings: Settings, *, instance_id: str, accept_loss: bool = False) -> None:
        self._settings, self._instance_id, self._accept_loss = settings, instance_id, accept_loss
        self._session_s = settings.worker.session_s
        self._front = StoreFront(settings)
        self._token = "" if settings.land.dsn else require_token(settings.door)
        self._closers: list[Closer] = []
        self._working: asyncio.Task[None] | None = None
        self.page_url = self.clickhouse_url = ""

    async def start(self) -> None:
        """Open the store and join the group; a server that is away is waited for.

        Raises
        ------
        BrokerError, StoreError, StorageError, PortError, LedgerError
            If that is not possible; one line with the remedy.
        """
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise

    async def ended(self) -> None:
        """Wait until it has ended: returns after :meth:`stop`, else raises why the process must exit."""
        if self._working is not None:
            await asyncio.shield(self._working)

    async def stop(self) -> None:
        """Land what has arrived, for ``drain_s`` at most, and leave the group."""
        if self._working is not None and not self._working.done():
            self.lander.stop(self._settings.worker.drain_s / 2)
            await asyncio.wait({self._working})
        await self._close()

    def read(self) -> Reading:
        """Return how it is, for its watchdog and for metrics; called from any thread."""
        return read_land(self.lander, self.app, self._meter.ends)

    async def _open(self) -> None:
        settings = self._settings
        topics = await asyncio.to_thread(read_topics, settings.kafka)
        self.store = await self._open_store()
        writer = await self._entered(PlainWriter(settings.kafka))
        self.app = ConsumerApp(
            settings.kafka,
            group=f"{settings.kafka.topic_prefix}.land",
            topics=tuple(topics),
            instance_id=self._instance_id,
            session_s=self._session_s,
            fetch=fetch_size("land", settings.worker.batch_bytes),
            on_batch=self._on_batch,
            on_assigned=self._on_assigned,
            on_revoked=self._on_revoked,
        )
        self._fence = Fence(self._session_s / 2)
        copy = LedgerTopic(settings.kafka, writer)
        self.lander = Lander(
            CopiedGroup(self.app, read=copy.read, write=copy.write),
            self.store,
            topics,
            topic_ids=partial(read_topic_ids, settings.kafka),
            batch=settings.land.batch,
            flush_s=settings.land.flush_s,
            fence=self._fence,
            bury=partial(_bury, writer),
            last_landed=self._last_landed,
            accept_loss=self._accept_loss,
        )
        self._closers.append(self.app.stop)
        await self.app.start()
        self._meter = EndMeter(self.app)
        self._closers.append(self._meter.stop)
        self._working = asyncio.create_task(self._work())

    def _last_landed(self, topics: Mapping[str, Topic]) -> dict[Where, int]:
        with contextlib.closing(self.store.reader()) as reader:
            return last_landed(reader, topics)

    async def _open_store(self) -> Store:
        settings = self._settings
        if settings.land.dsn:
            store = await self._reach_server()
            self._closers.append(lambda: asyncio.to_thread(store.close))
            return store
        self._closers.append(lock_directory(Path(settings.data_dir)).close)
        bound = bind(settings.door.host, settings.door.port)
        self._closers.append(bound.close)
        if (unbind := self._front.bind()) is not None:
            self._closers.append(unbind)
        store = await asyncio.to_thread(open_landing_store, settings)
        self._closers.append(lambda: asyncio.to_thread(store.close))
        reader = await asyncio.to_thread(partial(store.reader, max_execution_s=PAGE_QUERY_S))
        routes = page_routes(lambda: reader.query, now_ms=lambda: time.time_ns() // 1_000_000)
        guards = [Middleware(TokenGuard, token=self._token)] if self._token else None
        guards = guards or host_guards(settings.door.host, settings.door.allowed_hosts)
        listener = Listener(Starlette(routes=routes, middleware=guards), bound)
        await listener.start()
        self._closers.append(listener.close)
        self.page_url = f"{listener.url}/"
        self._closers += await self._front.serve(store)
        self.clickhouse_url = self._front.url
        return store

    async def _reach_server(self) -> Store:
        """Return the server's store; as long as nothing answers there, ask again."""
        while True:
            try:
                # An insert must be over before the group can have given its partition away.
                return await asyncio.to_thread(
                    open_landing_store, self._settings, timeout_s=self._session_s / 3
                )
            except StoreError as error:
                if error.outcome != "unsent":
                    raise
                _log.warning("landing waits: %s", error)
                await asyncio.sleep(_ASK_AGAIN_S)

    async def _entered(self, writer: PlainWriter) -> PlainWriter:
        await writer.__aenter__()
        self._closers.append(lambda: writer.__aexit__(None, None, None))
        return writer

    async def _work(self) -> None:
        """Land, beat, and watch the group, until the first of them ends."""
        parts: list[Awaitable[None]] = [self.lander.run(), self._fence.keep_beating(), self.app.ended()]
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self) -> None:
        while self._closers:
            result = self._closers.pop()()
            if isinstance(result, Awaitable):
                with contextlib.suppress(Exception):  # what ended it is known; the rest must still be closed
                    await result

    async def _on_batch(self, topic: str, partition: int, records: Sequence[RawMessage]) -> None:
        await self.lander.on_batch(topic, partition, records)

    async def _on_assigned(self, assigned: set[Where]) -> None:
        await self.lander.on_assigned(assigned)

    async def _on_revoked(self, revoked: set[Where]) -> None:
        await self.lander.on_revoked(revoked)


async def _bury(writer: PlainWriter, letters: Sequence[RawOutput]) -> None:
    await writer.write(
        [
            Outgoing(letter.topic, letter.partition, letter.value, letter.key, letter.headers)
            for letter in letters
        ]
    )
