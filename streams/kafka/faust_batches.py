"""Faust, bent to carry batches: one message per partition and fetch.

Stock Faust costs some 60 us per event, and its acknowledgements lose events after exceptions, gaps and
rebalances. Here a message holds all records that one fetch brought of one partition, nothing is acknowledged
to Faust, and Faust's memory of what it has read is off. Every batch says at which offset its fetch began, so
that the reader knows whether it joins on to what was done, whatever happened in between.

The module leans on private parts of three libraries, and so on their exact versions.
"""
# ruff: noqa: SLF001 - see above; everything private that Plumbline touches of these libraries is touched here

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final, Protocol

import faust
import faust.app.base
from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import ConsumerMessage
from mode.supervisors import CrashingSupervisor
from msgspec import Struct
from yarl import URL

from streams.kafka.errors import BrokerError
from streams.kafka.fetching import Pace
from streams.kafka.membership import watch_group

PINNED: Final = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0", "mode-streaming": "0.7.1"}
_BUFFERED: Final = 4  # messages between fetching and the agent; each holds a whole fetch
_NEVER_S: Final = 7 * 86_400.0
_RETRY_S: Final = 0.2
_LOG = logging.getLogger("plumbline.kafka")

# What they report is raised here; without a handler it would go to stderr.
for _name in ("faust", "mode", "aiokafka"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class CommitRefusedError(BrokerError):
    """Who commits is no longer of the generation it was assigned in; another may have its partitions."""


class Fetched(Struct, frozen=True):
    """What one fetch brought of one partition.

    ``start`` and ``end`` are positions, ``turn`` counts seeks, and ``number`` the fetches of the consumer.
    """

    records: Sequence[Any]
    start: int
    end: int
    turn: int
    number: int

    def __repr__(self) -> str:
        return f"Fetched({self.start}..{self.end})"


def check_versions() -> None:
    """Return if the installed libraries are those this module was tested with.

    Raises
    ------
    BrokerError
        If not; the text names the first that differs.
    """
    for name, wanted in PINNED.items():
        if (found := version(name)) != wanted:
            raise BrokerError(f"kafka: {name} is {found} and must be {wanted}: pip install {name}=={wanted}")


class _Thread(driver.AIOKafkaConsumerThread):
    """The consumer's thread: remembers where every fetch began."""

    app: Any
    turns: dict[Any, int]
    began: dict[Any, tuple[int, int]]
    fetches: int

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:  # noqa: ARG002 - Faust's signature
        self.turns, self.began, self.fetches = {}, {}, 0
        return AIOKafkaConsumer(**self.app.consumer_options)

    async def on_start(self) -> None:
        """Connect; from then on whatever ends the membership ends the app, where aiokafka would wait."""
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator
        watch_group(coordinator, self.app.consumer_options, self.app.owner.fail)
        push = coordinator._push_error_to_user

        def tell(error: BaseException) -> Any:
            self.app.owner.fail(error)
            return push(error)

        coordinator._push_error_to_user = tell
        coordinator._coordination_task.add_done_callback(self._coordination_ended)

    def _coordination_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.app.owner.fail(error)

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:  # Faust prints to stderr
        _LOG.debug(msg, *fmt, **kwargs)

    async def _fetch_records(self, consumer: AIOKafkaConsumer, active: Any, **limits: Any) -> Any:  # type: ignore[override]
        positions = _positions_of(consumer)
        if held := self.app.owner.held():
            active = active - held
        if positions is None or not active:
            await asyncio.sleep(_RETRY_S)
            return {}
        self.began = {tp: (position, self.turns.get(tp, 0)) for tp, position in positions.items()}
        consumer._fetcher._fetch_max_wait_ms = self.app.owner.pace.wait_ms
        try:
            records = await super()._fetch_records(consumer, active, **limits)
        except (kafka_errors.NoOffsetForPartitionError, kafka_errors.OffsetOutOfRangeError):
            if self.consumer.flow_active and not self.app.owner.held():
                raise
            return {}  # of a partition that was just assigned: where to begin is about to be said
        positions = _positions_of(consumer) or {}
        self.fetches += 1
        return {
            tp: Fetched(records.get(tp, ()), start, positions[tp], turn, self.fetches)
            for tp, (start, turn) in self.began.items()
            if positions.get(tp, start) != start  # markers alone move it as well
        }

    async def seek_all(self, offsets: Mapping[Any, int]) -> dict[Any, int]:
        """Seek, and return the turns of the fetches that begin there."""
        consumer = self._ensure_consumer()
        for tp, offset in offsets.items():
            self.turns[tp] = self.turns.get(tp, 0) + 1
            self.began[tp] = offset, self.turns[tp]  # the fetch that is under way begins there, too
            consumer.seek(tp, offset)
        return {tp: self.turns[tp] for tp in offsets}

    async def positions(self) -> tuple[int, Mapping[Any, int]]:
        """Return how many fetches there were, and what every partition is to be fetched from next."""
        return self.fetches, _positions_of(self._ensure_consumer()) or {}

    async def committed_offsets(self, tps: Sequence[Any]) -> Mapping[Any, OffsetAndMetadata]:
        """Return what the group has committed; -1 stands for nothing."""
        found: Mapping[Any, OffsetAndMetadata]
        found = await self._ensure_consumer()._coordinator.fetch_committed_offsets(tps)
        return found

    async def bounds_of(self, tps: Sequence[Any]) -> dict[Any, tuple[int, int]]:
        """Return the log's first offset and its last stable end, by partition."""
        consumer = self._ensure_consumer()
        starts, ends = await asyncio.gather(consumer.beginning_offsets(tps), consumer.end_offsets(tps))
        return {tp: (starts[tp], ends[tp]) for tp in tps}

    async def commit_as(self, generation: int, offsets: Mapping[Any, OffsetAndMetadata]) -> None:
        """Commit as a member of `generation`, or not at all."""
        consumer = self._ensure_consumer()
        coordinator, subscription = consumer._coordinator, consumer._subscription.subscription
        while True:
            await coordinator.ensure_coordinator_known()
            assignment = subscription.assignment if subscription is not None else None
            try:
                async with coordinator._commit_lock:
                    # Who was thrown out has no generation: such a commit passes as an administrator's.
                    if assignment is None or coordinator.generation != generation or generation < 0:
                        raise CommitRefusedError("kafka: the group has gone on without this member")
                    await asyncio.shield(coordinator._do_commit_offsets(assignment, offsets))
                return
            except kafka_errors.KafkaError as error:
                if isinstance(error, _REFUSALS):
                    raise CommitRefusedError("kafka: the group has gone on without this member") from error
                if not error.retriable:
                    raise
                await asyncio.sleep(_RETRY_S)


_REFUSALS: Final = (
    kafka_errors.UnknownMemberIdError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalStateError,
)


def _positions_of(consumer: AIOKafkaConsumer) -> dict[Any, int] | None:
    """Return what every partition is to be fetched from; None while the group moves."""
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription is not None else None
    if assignment is None or not assignment.active:
        return None
    states = {tp: assignment.state_value(tp) for tp in assignment.tps}
    return {tp: state.position for tp, state in states.items() if state.has_valid_position}


class _Unread(dict[Any, Any]):
    """In place of Faust's memory of what it has read: it would drop what is fetched again."""

    def __getitem__(self, key: Any) -> None:
        return None

    def __setitem__(self, key: Any, value: Any) -> None:
        return None


class _Consumer(driver.Consumer):
    """Hands on batches; seeks to where the callbacks are, not to what is committed."""

    app: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = _Unread()

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    def on_buffer_full(self, tp: Any) -> None:
        """Do nothing: the queue is bounded, and Faust sleeps a second when no partition is left to fetch."""

    def on_buffer_drop(self, tp: Any) -> None:
        """Do nothing."""

    async def perform_seek(self) -> None:
        await self.app.owner.seek_on()

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        await self.app.owner.revoke(revoked)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[Any], generation_id: int = 0) -> None:
        await self.app.owner.assign(assigned, generation_id)
        await super().on_partitions_assigned(assigned, generation_id)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, Any]]:
        """Yield one message for every partition that the next fetch brought something of."""
        records: Any
        records, _ = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id  # not before: the wait may have lasted a rebalance
        for tp, fetched in (records or {}).items():
            if self.should_stop or not self.flow_active or self.app.consumer_generation_id != generation:
                return
            message = ConsumerMessage(
                tp.topic, tp.partition, fetched.end, 0.0, 0, None, None, fetched, None, tp=tp
            )
            message.generation_id = generation
            yield tp, message


class _Transport(driver.Transport):
    Consumer = _Consumer


class _Schema(faust.Schema[Any, Any]):
    """Leaves messages as they are."""

    def compile(self, app: Any, **_: Any) -> Any:
        make = app.create_event

        async def decode(message: Any, **_: Any) -> Any:
            return make(None, message.value, {}, message)

        return decode


class _App(faust.App):
    """A Faust app without files, producer, tables and web, which tells its owner when it crashes."""

    class BootStrategy(faust.app.base.BootStrategy):
        enable_kafka_producer = False
        enable_web = False

    owner: "Owner"
    consumer_options: Mapping[str, Any]

    def _create_directories(self) -> None:
        pass

    def _crash(self, reason: BaseException) -> None:
        super()._crash(reason)
        self.owner.fail(reason)


class Owner(Protocol):
    """Whom a batch app tells what happens; its ``pace`` says how long the next fetch waits."""

    pace: Pace

    async def deliver(self, message: Any) -> None:
        """Take a message whose value is a :class:`Fetched`."""

    async def revoke(self, revoked: set[Any]) -> None:
        """Let go of all partitions."""

    async def assign(self, assigned: set[Any], generation: int) -> None:
        """Take partitions."""

    async def seek_on(self) -> None:
        """Seek every partition to where it goes on."""

    def held(self) -> frozenset[Any]:
        """Return the partitions of which nothing is to be handed on yet; called from any thread."""
        ...

    def fail(self, error: BaseException) -> None:
        """Know that the app cannot go on; called from any thread."""


def thread_of(app: Any) -> _Thread:
    """Return the consumer thread of a started app."""
    thread: _Thread = app.consumer._thread
    return thread


def make_app(
    owner: Owner,
    name: str,
    topics: Sequence[str],
    options: Mapping[str, Any],
) -> Any:
    """Return a Faust app with one agent, whose consumer is made with `options` and serves `owner`."""
    app = _App(
        name,
        broker="kafka://",
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_buffer_maxsize=_BUFFERED,
        broker_commit_interval=_NEVER_S,
        broker_session_timeout=options["session_timeout_ms"] / 1000,
        broker_request_timeout=options["request_timeout_ms"] / 1000,
        agent_supervisor=CrashingSupervisor,
    )
    app.owner, app.consumer_options = owner, options
    app.transport = _Transport([URL("kafka://")], app)
    source = app.topic(*topics, schema=_Schema())

    async def carry(stream: Any) -> None:
        async for event in stream.noack().events():
            await owner.deliver(event.message)

    app.agent(source, name=name, concurrency=1)(carry)
    return app
