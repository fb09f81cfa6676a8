"""The embedded monitor: one process that takes interactions in and does everything else with them."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from detectors.records import Action, Decision, Signal, SignalKind
from detectors.redaction import Redactor
from streams.assembly import assemble
from streams.door.counters import DoorCounters
from streams.door.http import door_routes, require_token
from streams.embedded.act import ActLoop
from streams.embedded.errors import told
from streams.embedded.follower import TopicFollower
from streams.embedded.inbox import JournalInbox
from streams.embedded.journal import Journal
from streams.embedded.landing import Lander
from streams.embedded.ledger_file import open_ledger
from streams.embedded.lock import lock_directory
from streams.embedded.pipeline import Pipeline
from streams.embedded.threads import LandThread, ThinkThread
from streams.embedded.ticker import Ticker
from streams.embedded.user_key import load_user_key
from streams.guard import TokenGuard, host_guards
from streams.health import health_routes
from streams.listener import Listener, bind
from streams.page import PAGE_QUERY_S, page_routes
from streams.response.machine import ResponseMachine
from streams.settings import Settings
from streams.store_front import Closer, StoreFront, open_landing_store
from streams.vitals import Vitals


class Monitor:
    """Runs the embedded monitor between ``async with`` and its end.

    Entering raises SettingsError, StorageError, StoreError or PortError when it cannot run; the text is one
    line with the remedy.

    Parameters
    ----------
    settings
        Every part they ask for is built and checked before anything is opened.

    Attributes
    ----------
    door_url, page_url, clickhouse_url
        Where it listens; the last is empty unless ``[clickhouse_door]`` is enabled.
    failed
        Set when a part has failed: the process should exit, and resume from its checkpoints when started
        again. :attr:`failure` says which part and why.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._parts = assemble(settings)
        self._token = require_token(settings.door)
        self._front = StoreFront(settings)
        self.counters = DoorCounters()
        self.failed = asyncio.Event()
        self.failure = ""
        self.door_url = self.page_url = self.clickhouse_url = ""
        self._closers: list[Closer] = []

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _open(self) -> None:
        settings, directory = self.settings, Path(self.settings.data_dir)
        self._loop = asyncio.get_running_loop()
        self._closers.append(lock_directory(directory).close)
        user_key = load_user_key(directory, settings.door.user_key_file)
        bound = bind(settings.door.host, settings.door.port)
        self._closers.append(bound.close)
        if (unbind := self._front.bind()) is not None:
            self._closers.append(unbind)
        self.journal = Journal(directory / "journal.db", partitions=settings.journal.partitions)
        self._closers.append(self.journal.close)
        self._decisions = TopicFollower(self.journal, "decisions")
        self._signals = TopicFollower(self.journal, "signals")
        self.store = await asyncio.to_thread(open_landing_store, settings)
        self._closers.append(self.store.close)
        ledger = open_ledger(directory / "ledger.db")
        self._closers.append(ledger.close)
        self.machine = ResponseMachine(
            ledger=ledger,
            notifiers=self._parts.notifiers,
            targets=self._parts.targets,
            settings=settings.act,
            clock=self._act_clock,
            bucket_s=max(settings.detect.status_s, settings.detect.unit_s),
        )
        self._start_threads()
        await self._start_listener(bound, user_key)
        self._closers += await self._front.serve(self.store)
        self.clickhouse_url = self._front.url

    def _start_threads(self) -> None:
        settings = self.settings
        self._act = ActLoop(self.journal, self.machine, on_failure=self._fail)
        self._pipeline = Pipeline(self.journal, self._parts.stages, batch=settings.journal.batch)
        self._ticker = Ticker(self.journal, self._pipeline.watermarks, live=settings.door.clamp)
        self._think = ThinkThread(
            self._pipeline, self._ticker, tick_s=settings.journal.tick_s, on_failure=self._fail
        )
        self._lander = Lander(self.journal, self.store, batch=settings.land.batch)
        self._land = LandThread(
            self._lander,
            self.journal,
            flush_s=settings.land.flush_s,
            retention_s=settings.journal.retention_s,
            act_positions=self._act.positions,
            on_failure=self._fail,
        )
        self._vitals = Vitals(
            settings.journal,
            journal=self.journal,
            pipeline=self._pipeline,
            stages=self._parts.stages,
            think=self._think,
            lander=self._lander,
            land=self._land,
            act=self._act,
            machine=self.machine,
            door=self.counters,
            failure=lambda: self.failure,
        )
        self._closers += [self._land.stop, self._act.close, self._think.stop]
        self._think.start()
        self._land.start()
        self._act.start()

    async def _start_listener(self, bound: socket.socket, user_key: bytes) -> None:
        inbox = JournalInbox(self.journal)
        self._closers.append(inbox.close)
        reader = await asyncio.to_thread(partial(self.store.reader, max_execution_s=PAGE_QUERY_S))
        routes = [
            *door_routes(
                inbox=inbox,
                settings=self.settings.door,
                redactor=Redactor(),
                user_key=user_key,
                now_ms=_wall_ms,
                counters=self.counters,
                token=self._token,
            ),
            *health_routes(alive=self._vitals.alive, ready=self._vitals.ready, read=self._vitals.read),
            *page_routes(lambda: reader.query, now_ms=self._page_clock),
        ]
        listener = Listener(self._guarded(routes), bound)
        self._closers.append(listener.close)
        await listener.start()
        self.door_url, self.page_url = listener.url, f"{listener.url}/"

    def _guarded(self, routes: list[BaseRoute]) -> Starlette:
        """Return the application behind its token, or else open to this machine's names only."""
        if self._token:
            guards = [Middleware(TokenGuard, token=self._token)]
        else:
            guards = host_guards(self.settings.door.host, self.settings.door.allowed_hosts)
        return Starlette(routes=routes, middleware=guards)

    async def _close(self) -> None:
        """Close in reverse order: the door first, the store and the journal last."""
        while self._closers:
            closed = self._closers.pop()
            result = await asyncio.to_thread(closed) if closed in self._threaded() else closed()
            if isinstance(result, Awaitable):
                await result

    def _threaded(self) -> tuple[Callable[[], object], ...]:
        think, land = getattr(self, "_think", None), getattr(self, "_land", None)
        return tuple(thread.stop for thread in (think, land) if thread is not None)

    def _fail(self, part: str, error: BaseException) -> None:
        self.failure = self.failure or f"{part} failed: {told(error)}"
        self._loop.call_soon_threadsafe(self.failed.set)

    def _act_clock(self) -> int:
        if self.settings.act.clock == "wall":
            return _wall_ms()
        return max(self._pipeline.watermarks().values(), default=0)

    def _page_clock(self) -> int:
        """Return the time the page calls now: the event time reached, where act lives in event time too."""
        return self._act_clock() or _wall_ms()

    async def wait_idle(self) -> None:
        """Wait until everything that was admitted has been scored, detected, decided and acted on."""
        await self._wait_while(lambda: any(self._vitals.lags().values()))

    async def wait_landed(self) -> None:
        """Wait until everything in the journal is in the store as well."""
        await self._wait_while(lambda: any(self._lander.lag().values()))

    async def _wait_while(self, busy: Callable[[], bool]) -> None:
        while not self.failed.is_set() and await asyncio.to_thread(busy):
            await asyncio.sleep(0.02)

    def acts(self) -> list[Action]:
        """Return the latest state of every act."""
        return self.machine.acts()

    def decisions(self) -> list[Decision]:
        """Return every decision in the journal, oldest first."""
        return [record for record in self._decisions.read() if isinstance(record, Decision)]

    def signals(self, kind: SignalKind) -> list[Signal]:
        """Return every signal of `kind` in the journal, oldest first."""
        return [s for s in self._signals.read() if isinstance(s, Signal) and s.kind == kind]


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
