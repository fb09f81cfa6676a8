"""The act worker on Kafka: decisions into the response machine, what became of them back to ``actions``.

The ledger is the truth: it keeps the place that it will take next of every partition, in one transaction with
what it took. The group's commits say for others how far that is.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Protocol

from detectors.records.codec import Record
from streams.acting import ActTasks
from streams.assembly import assemble
from streams.embedded.ledger_file import open_ledger
from streams.embedded.lock import lock_directory
from streams.kafka.act_copies import ActionCopies
from streams.kafka.dead_letters import DeadLetter, bury
from streams.kafka.envelope import EnvelopeError, RawMessage, place_of, split_place, unseal
from streams.kafka.errors import BrokerError
from streams.kafka.faust_transport import ConsumerApp
from streams.kafka.layout import topic_name
from streams.kafka.precedence import fetch_size
from streams.kafka.vitals import Reading
from streams.kafka.vitals_of import EndMeter, read_act
from streams.response.machine import ResponseMachine
from streams.settings import Settings, SettingsError

_log = logging.getLogger("plumbline.kafka")
_STEP_S: Final = 0.1
Where = tuple[str, int]


class Group(Protocol):
    """What taking decisions in needs of its consumer group."""

    async def commit(self, offsets: Mapping[Where, tuple[int, str]]) -> None:
        """Commit offsets, or raise if the partitions are no longer ours."""
        ...

    async def seek(self, where: Where, offset: int) -> None:
        """Go on reading at `offset`."""
        ...

    async def bounds(self, places: Collection[Where]) -> Mapping[Where, tuple[int, int]]:
        """Return by partition the first offset that is there and the one behind the last."""
        ...


class DecisionIntake:
    """Takes ``decisions`` into the machine; its ``on_...`` methods are the callbacks of the consumer.

    Parameters
    ----------
    machine
        Keeps its place in every partition.
    copies
        Writes dead letters.
    in_thread
        Runs what waits for the disk.
    accept_loss
        Whether to go on where decisions were lost: their retention was over before they were taken.

    Attributes
    ----------
    group
        The consumer; set before it starts.
    places
        What will be taken next, by partition.
    """

    group: Group

    def __init__(
        self,
        machine: ResponseMachine,
        copies: ActionCopies,
        *,
        in_thread: Callable[[Callable[[], int]], Awaitable[int]],
        accept_loss: bool = False,
    ) -> None:
        self._machine, self._copies, self._in_thread = machine, copies, in_thread
        self._accept_loss = accept_loss
        self.places: dict[int, int] = {}
        self.taken = 0
        self.progress_s = time.monotonic()

    async def on_assigned(self, where: set[Where]) -> None:
        """Go on in every partition where the ledger is."""
        bounds = await self.group.bounds(where)
        for topic, partition in sorted(where):
            place = await self._in_thread(lambda part=partition: self._machine.position(part))  # type: ignore[misc]
            first, end = bounds[topic, partition]
            offset, index = split_place(place)
            offset += index > 0  # envelopes are taken whole
            if offset > end:
                raise BrokerError(
                    f"act: the ledger has taken {topic}/{partition} up to {offset - 1}, and it ends at "
                    f"{end - 1}: it belongs to another cluster or prefix; start it with its own"
                )
            if place > 0 and offset < first:
                self._lose(topic, partition, offset, first)
            self.places[partition] = max(place, place_of(first))
            await self.group.seek((topic, partition), max(offset, first))

    def _lose(self, topic: str, partition: int, offset: int, first: int) -> None:
        lost = f"{topic}/{partition} has lost offsets {offset} to {first - 1}: retention was over"
        if not self._accept_loss:
            raise BrokerError(
                f"act: {lost} before they were acted on; look at what they were, then use --accept-loss"
            )
        _log.error("act goes on: %s", lost)

    async def on_revoked(self, where: set[Where]) -> None:
        """Forget the partitions; what was taken is in the ledger."""
        for _, partition in where:
            self.places.pop(partition, None)

    async def on_batch(self, topic: str, partition: int, messages: Sequence[RawMessage]) -> None:
        """Take the records of `messages` into the ledger, in one transaction of it."""
        records: list[tuple[int, Record]] = []
        letters: list[DeadLetter] = []
        for message in messages:
            try:
                found = unseal(message.value or b"", message.headers)[1]
            except EnvelopeError:
                letters.append(bury(message, stage="act", reason="not_an_envelope").letter)
            else:
                records += [(place_of(message.offset, index), one) for index, one in enumerate(found)]
        next_offset = messages[-1].offset + 1
        if letters:
            await self._copies.bury(partition, place_of(next_offset), letters)
        if records:
            self.taken += await self._in_thread(
                lambda: self._machine.ingest(partition, records[0][0], records)
            )
            self.places[partition] = records[-1][0] + 1
        await self.group.commit({(topic, partition): (next_offset, "")})
        self.progress_s = time.monotonic()


class ActRunner:
    """The act worker: one per installation.

    Two are kept apart twice: the ledger's folder has a lock, and who starts later under the same
    transactional name ends the one before. A worker whose ledger is not the one that was copied from does not
    start.

    Parameters
    ----------
    settings
        Everything; ``act.clock`` must be *wall*.
    instance_id
        Who this worker is in its group.
    accept_loss
        Whether to go on behind decisions that retention took.
    clock
        Wall clock, Unix milliseconds.

    Raises
    ------
    SettingsError
        If the settings ask for something that is not there, or for event time.

    Attributes
    ----------
    app, machine, intake, copies, tasks
        The parts, once started.
    counts
        Notices, and acts that are no dry runs, by state; some seconds old.
    """

    stage = "act"
    app: ConsumerApp
    machine: ResponseMachine
    intake: DecisionIntake
    copies: ActionCopies
    tasks: ActTasks

    def __init__(
        self,
        settings: Settings,
        *,
        instance_id: str = "",
        accept_loss: bool = False,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        if settings.act.clock != "wall":
            raise SettingsError(
                'act.clock: on Kafka acting follows the wall clock: set clock = "wall", or simulate with the '
                "embedded runner"
            )
        self._settings, self._instance_id, self._accept_loss = settings, instance_id, accept_loss
        self._clock = clock
        self._topic = topic_name("decisions", settings.kafka.topic_prefix)
        self._parts = assemble(settings)
        self._opened = AsyncExitStack()
        self.counts: tuple[dict[str, int], dict[str, int]] = ({}, {})

    async def start(self) -> None:
        """Open the ledger, take over, and begin.

        Raises
        ------
        StorageError, BrokerError
            If ledger or broker cannot be used; the text is one line with the remedy.
        """
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with AsyncExitStack() as opening:
            await self._open(opening)
            self._opened = opening.pop_all()

    async def _open(self, opening: AsyncExitStack) -> None:
        settings, directory = self._settings, Path(self._settings.data_dir) / "act"
        opening.callback(lock_directory(directory).close)
        ledger = open_ledger(directory / "ledger.db")
        opening.callback(ledger.close)
        self.machine = ResponseMachine(
            ledger=ledger,
            notifiers=self._parts.notifiers,
            targets=self._parts.targets,
            settings=settings.act,
            clock=self._clock,
            bucket_s=max(settings.detect.status_s, settings.detect.unit_s),
        )
        self.copies = ActionCopies(settings.kafka, self.machine)
        opening.push_async_callback(self.copies.stop)
        await self.copies.start()
        self.tasks = ActTasks(self.machine, self._copy, step_s=_STEP_S, log=_log, on_failure=self._fail)
        opening.push_async_callback(self.tasks.close)
        self.intake = DecisionIntake(
            self.machine, self.copies, in_thread=self.tasks.in_thread, accept_loss=self._accept_loss
        )
        self.app = self.intake.group = self._make_app()
        opening.push_async_callback(self.app.stop)
        await self.app.start()
        self._meter = EndMeter(self.app, also=self._count)
        opening.callback(self._meter.stop)
        self.tasks.start()

    def _make_app(self) -> ConsumerApp:
        kafka, worker = self._settings.kafka, self._settings.worker
        return ConsumerApp(
            kafka,
            group=f"{kafka.topic_prefix}.act",
            topics=[self._topic],
            instance_id=self._instance_id,
            session_s=worker.session_s,
            fetch=fetch_size("act", worker.batch_bytes),
            on_batch=self.intake.on_batch,
            on_assigned=self.intake.on_assigned,
            on_revoked=self.intake.on_revoked,
        )

    async def _count(self) -> None:
        self.counts = await self.tasks.in_thread(self.machine.count_states)

    async def _copy(self) -> int:
        return await self.copies.copy(await self.tasks.in_thread(self.copies.fresh))

    def _fail(self, part: str, error: BaseException) -> None:  # noqa: ARG002 - the tasks' signature
        if not self._failed.done():
            self._failed.set_exception(error)

    def read(self) -> Reading:
        """Return what the worker tells of itself; from any thread."""
        return read_act(self, self._topic, self._meter.ends)

    async def ended(self) -> None:
        """Wait until the worker has ended; raises what ended it, and returns after :meth:`stop`."""
        app = asyncio.ensure_future(self.app.ended())
        done, waiting = await asyncio.wait({app, self._failed}, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
        for one in done:
            one.result()

    async def stop(self) -> None:
        """End after the rounds at hand: no more decisions, then what became of them is copied."""
        await self._opened.aclose()
