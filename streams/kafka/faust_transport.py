"""One member of a consumer group, on Faust with batches: commits and positions are ours.

A position moves on only when the callback has returned. What does not join on to what was done is thrown away
and fetched again, whatever happened in between.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.structs import OffsetAndMetadata

from streams.kafka.connection import reach_broker
from streams.kafka.consumer_errors import explain
from streams.kafka.envelope import RawMessage
from streams.kafka.errors import BrokerError
from streams.kafka.faust_batches import CommitRefusedError, check_versions, make_app, thread_of
from streams.kafka.fetching import FetchSize, LostFetches, Pace, Where, consumer_options, raw_message
from streams.kafka.watchdog import unassigned_limit_s
from streams.settings import KafkaSettings

__all__ = ["BatchDroppedError", "CommitRefusedError", "ConsumerApp", "Where"]

T = TypeVar("T")
OnBatch = Callable[[str, int, Sequence[RawMessage]], Awaitable[None]]
OnMove = Callable[[set[Where]], Awaitable[None]]

_STOP_S: Final = 10.0
_LOOK_S: Final = 2.0


class BatchDroppedError(Exception):
    """Raised by a callback that gave its batch up, because the app is leaving; whoever is next reads it."""


class ConsumerApp:
    """One Faust app, one member of a group: hands batches of its partitions to `on_batch`, in order.

    Callbacks run in the loop that :meth:`start` ran in, one at a time. A partition goes on after a batch when
    `on_batch` has returned; an exception in a callback ends the app.

    Parameters
    ----------
    settings
        Where the brokers are and how to get in.
    group, instance_id
        The consumer group, and who this is in it: who comes back under its name within `session_s` gets its
        partitions back without anybody else noticing. Empty: a member without a name.
    topics
        What to read, by Kafka name; only committed records are.
    session_s
        How long the broker waits for a sign of life.
    fetch
        What is read at once; bytes are those of the log.
    on_batch
        Called with topic, partition and records. It may raise :class:`BatchDroppedError` while ``leaving`` is
        set: then the batch counts as not read.
    on_assigned, on_revoked
        Called when partitions have come, before any of their records (:meth:`seek` says where to begin; by
        default at the committed offset, else at the log's start), and before they go. No batch is at hand
        then. The group waits meanwhile, at most for `session_s`, and this member gives no sign of life: who
        needs longer calls :meth:`hold`, returns, and seeks when it is ready.

    Attributes
    ----------
    leaving
        Set while partitions are about to go, or the app to stop: who waits in `on_batch` should give up.
    placed
        Whether the group has said which partitions this member has, be it none: false from when the group
        begins to move until it has said so, however long that takes.
    pace
        How long the next fetch waits for more: who makes transactions of what it brings tells it of them.
    rebalances, refetches
        How often partitions were assigned, and how often a fetch that never came was made again.
    heard_s
        ``time.monotonic()`` of the last answer about the ends of the log.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        group: str,
        topics: Sequence[str],
        instance_id: str,
        session_s: float,
        fetch: FetchSize,
        on_batch: OnBatch,
        on_assigned: OnMove,
        on_revoked: OnMove,
    ) -> None:
        check_versions()
        self._settings, self._topics, self._group = settings, tuple(topics), group
        self._on_batch, self._on_assigned, self._on_revoked = on_batch, on_assigned, on_revoked
        self._session_s = session_s
        self._options = consumer_options(settings, group, instance_id, session_s, fetch)
        self.pace = Pace(fetch)
        self._next: dict[Where, int] = {}
        self._turn: dict[Where, int] = {}
        self._assigned: set[Where] = set()
        self._held: frozenset[Where] = frozenset()
        self._app: Any = None
        self._left = False
        self._generation = -1
        self._lock = asyncio.Lock()
        self._came = 0  # the number of the last fetch that came
        self._looker: asyncio.Task[None] | None = None
        self.leaving = asyncio.Event()
        self.placed = False
        self.rebalances = self.refetches = 0
        self.heard_s = time.monotonic()

    async def start(self) -> None:
        """Join the group; returns when partitions (or none) were assigned for the first time.

        Raises
        ------
        BrokerError
            If no broker answers, or it refuses; the text names the remedy.
        """
        await asyncio.to_thread(reach_broker, self._settings)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._app = make_app(self, self._group, self._topics, self._options)
        self._looker = self._loop.create_task(self._look_after_fetches())
        starting = self._loop.create_task(self._app.start())
        await self._wait_placed(starting)
        if starting.done() and (error := starting.exception()) is not None:
            self._fail_here(error)
        if self._ended.done():
            starting.cancel()
            with contextlib.suppress(TimeoutError):  # who hears nothing may not hear of this either
                async with asyncio.timeout(_STOP_S):
                    await self.stop()
            await self.ended()

    async def _wait_placed(self, starting: "asyncio.Task[Any]") -> None:
        """Wait until the app has started or failed; fail it if the group does not say what is its."""
        within_s = unassigned_limit_s(self._session_s)
        waits: set[asyncio.Future[Any]] = {starting, self._ended}
        done, _ = await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        if done:
            return
        if self.placed:  # what takes its time is the callback, which restores
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return
        self._fail_here(
            BrokerError(
                f"kafka: group {self._group} has not said for {within_s:.0f} s which partitions this member "
                "has: start it again; if it stays so, see the broker's log"
            )
        )

    async def deliver(self, message: Any) -> None:
        """Hand on one fetch, if it joins on: called by the agent."""
        fetched, where = message.value, (message.topic, message.partition)
        async with self._lock:
            self._came = fetched.number
            if self.leaving.is_set() or fetched.turn != self._turn.get(where):
                return
            if fetched.start != self._next[where]:
                self.refetches += 1
                await self.seek(where, self._next[where])
                return
            try:
                if fetched.records:
                    await self._on_batch(*where, [raw_message(record) for record in fetched.records])
            except BatchDroppedError:
                if not self.leaving.is_set():
                    await self.seek(where, self._next[where])
            except Exception as error:  # noqa: BLE001 - whatever it is, it ends the app
                self.fail(error)
            else:
                if fetched.turn == self._turn[where]:  # else the callback has sought
                    self._next[where] = fetched.end

    async def _look_after_fetches(self) -> None:
        lost = LostFetches()
        try:
            while True:
                await self._fetch_again(lost)
        except Exception as error:  # noqa: BLE001 - without these looks records may be missing for ever
            self.fail(error)

    async def _fetch_again(self, lost: LostFetches) -> None:
        await asyncio.sleep(_LOOK_S)
        if self.leaving.is_set() or not self.placed or self._lock.locked():
            lost.forget()
            return
        made, positions = await self._in_thread(thread_of(self._app).positions())
        fetched = {(tp.topic, tp.partition): position for tp, position in positions.items()}
        wanted = {where: offset for where, offset in self._next.items() if where not in self._held}
        for where, offset in lost.look(made, self._came, fetched, wanted).items():
            async with self._lock:
                if not self.leaving.is_set() and self._next.get(where) == offset:
                    self.refetches += 1
                    await self.seek(where, offset)

    async def ended(self) -> None:
        """Wait until the app has ended; returns after :meth:`stop`.

        Raises
        ------
        BrokerError
            If a broker, or a library, ended it.
        Exception
            What a callback raised.
        """
        await asyncio.shield(self._ended)

    def fail(self, error: BaseException) -> None:
        """End the app with `error`; nothing is handed on any more. May be called from any thread."""
        self._loop.call_soon_threadsafe(self._fail_here, error)

    def _fail_here(self, error: BaseException) -> None:
        self.leaving.set()
        if not self._ended.done():
            self._ended.set_exception(explain(error, self._settings, self._group))
            self._ended.exception()  # it may be that nobody waits

    async def leave(self) -> None:
        """End the batch at hand and hand nothing on any more, ever; the membership goes on until the stop."""
        self._left = True
        self.leaving.set()
        async with self._lock:
            pass

    async def stop(self) -> None:
        """End the batch at hand, then the membership; who comes back under its name finds its partitions."""
        await self.leave()
        if self._looker is None:  # it never came to a start
            return
        self._looker.cancel()
        async with self._lock:
            await self._app.stop()
        if not self._ended.done():
            self._ended.set_result(None)

    async def revoke(self, revoked: set[Any]) -> None:
        """Let go of all partitions: called by Faust when the group moves them."""
        self.placed = False
        self.leaving.set()
        async with self._lock:
            self._next.clear()
            self._turn.clear()
            self._held = frozenset()
            gone, self._assigned = self._assigned, set()
            if gone and not self._ended.done():
                await self._guarded(self._on_revoked(gone | {(tp.topic, tp.partition) for tp in revoked}))

    async def assign(self, assigned: set[Any], generation: int) -> None:
        """Take `assigned`: called by Faust when the group has moved."""
        self._generation, self._assigned = generation, {(tp.topic, tp.partition) for tp in assigned}
        self.placed = True
        self.rebalances += 1
        if self._left or self._ended.done():
            return
        if await self._guarded(self._on_assigned(set(self._assigned))) and not self._left:
            self.leaving.clear()

    async def _guarded(self, callback: Awaitable[None]) -> bool:
        try:
            await callback
        except Exception as error:  # noqa: BLE001 - aiokafka would log it and go on
            self.fail(error)
            return False
        return True

    async def seek_on(self) -> None:
        """Seek every partition to where its callback is: called by Faust before records flow."""
        unsaid = self._assigned - self._next.keys() - self._held
        committed = await self.committed(unsaid) if unsaid else {}
        for where in unsaid:
            at = committed[where]
            self._next[where] = at[0] if at is not None else (await self.bounds([where]))[where][0]
        for where in (self._assigned & self._next.keys()) - self._held:
            await self.seek(where, self._next[where])

    async def seek(self, where: Where, offset: int) -> None:
        """Go on with `where` at `offset`; if it was held, it is not any more."""
        tp = TopicPartition(*where)
        turns = await self._in_thread(thread_of(self._app).seek_all({tp: offset}))
        self._next[where], self._turn[where] = offset, turns[tp]
        self._held -= {where}

    def hold(self, places: Collection[Where]) -> None:
        """Hand on nothing of `places` until each was sought, or goes; for use in `on_assigned`."""
        self._held |= frozenset(places)

    def held(self) -> frozenset[Any]:
        """Return the partitions that are held, as aiokafka names them."""
        return frozenset(TopicPartition(*where) for where in self._held)

    async def commit(self, offsets: Mapping[Where, tuple[int, str]]) -> None:
        """Commit offset and metadata of partitions, as the member that was assigned them.

        Raises
        ------
        CommitRefusedError
            If this member is no longer in the generation that it was assigned them in.
        """
        packed = {TopicPartition(*where): OffsetAndMetadata(*at) for where, at in offsets.items()}
        await self._in_thread(thread_of(self._app).commit_as(self._generation, packed))

    async def committed(self, where: set[Where] | Sequence[Where]) -> dict[Where, tuple[int, str] | None]:
        """Return the committed offset and metadata of every partition, None where there is none."""
        tps = [TopicPartition(*one) for one in where]
        found = await self._in_thread(thread_of(self._app).committed_offsets(tps))
        held = {(tp.topic, tp.partition): (at.offset, at.metadata) for tp, at in found.items()}
        return {one: held[one] if held.get(one, (-1, ""))[0] >= 0 else None for one in where}

    async def bounds(self, places: Collection[Where]) -> dict[Where, tuple[int, int]]:
        """Return by partition the first offset that the log still has, and the end of what is committed.

        All are asked for at once, for a request waits behind a fetch.
        """
        tps = [TopicPartition(*where) for where in places]
        found = await self._in_thread(thread_of(self._app).bounds_of(tps)) if tps else {}
        self.heard_s = time.monotonic()
        return {(tp.topic, tp.partition): at for tp, at in found.items()}

    def assignment(self) -> set[Where]:
        """Return the partitions that this member has."""
        return set(self._assigned)

    def positions(self) -> dict[Where, int]:
        """Return the Kafka offset that comes next, by partition."""
        return dict(self._next)

    async def _in_thread(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the consumer's loop; the end of the app ends the wait as well."""
        done = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, thread_of(self._app).thread_loop))
        waits: set[asyncio.Future[Any]] = {done, self._ended}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            done.cancel()
            # Not what ended it: this may come up in Faust, which logs it, and it may hold anybody's text.
            raise BrokerError(f"kafka: group {self._group}: this member has ended")
        try:
            return done.result()
        except kafka_errors.KafkaError as error:
            raise explain(error, self._settings, self._group) from error
