"""One stage over one member of its consumer group: batches in, transactions out, partition by partition."""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from streams.health import Gauge
from streams.kafka.desk import Desk
from streams.kafka.envelope import RawMessage
from streams.kafka.errors import BrokerError
from streams.kafka.faust_transport import ConsumerApp, Where
from streams.kafka.flood import FloodGauge, flood_error, flood_page
from streams.kafka.layout import state_place, topic_name
from streams.kafka.opening import LaneOpener, stop_writers, unusable_state
from streams.kafka.port import Lane, PortSettings
from streams.kafka.precedence import fetch_size
from streams.kafka.state_records import Position
from streams.kafka.vitals import Reading
from streams.kafka.watchdog import Look, is_behind
from streams.settings import KafkaSettings, Settings
from streams.stage_loop import UnusableStateError

_THREADS: Final = 8
_ENDS_EVERY_S: Final = 2.0
_GIVE_UP_S: Final = 10.0


class StageRunner:
    """Runs a stage over the partitions that its group gives it; an exception anywhere ends it.

    Steps run in threads, one at a time, while the transactions of other partitions are on their way.

    Parameters
    ----------
    settings
        All of them; ``kafka`` and ``worker`` are read here.
    stage
        What thinks. With ``raw = True`` it is given Kafka records as they came.
    instance_id
        Who this is in the group; who comes back under its name gets its partitions back at once.
    accept_loss
        Whether to go on where records were lost by retention.
    accept_floods
        Partitions, by Kafka's topic name, that go on although too many of their records were bad.
    on_moved
        Told the partitions of the stage whenever they change.

    Attributes
    ----------
    progress_s
        ``time.monotonic()`` of the last commit, or of the start.
    stage
        Its name.
    commits
        How many transactions were committed.
    """

    def __init__(
        self,
        settings: Settings,
        stage: Any,
        *,
        instance_id: str,
        accept_loss: bool = False,
        accept_floods: Collection[Where] = (),
        on_moved: Callable[[set[int]], None] = lambda _: None,
    ) -> None:
        kafka, worker = settings.kafka, settings.worker
        self._settings, self._stage = settings, stage
        self.stage: str = stage.name
        self._accept_floods, self._on_moved = frozenset(accept_floods), on_moved
        self.about = port_settings(kafka, stage)
        self.app = ConsumerApp(
            kafka,
            group=self.about.group,
            topics=[self.about.source],
            instance_id=instance_id,
            session_s=worker.session_s,
            fetch=fetch_size(self.stage, worker.batch_bytes),
            on_batch=self._on_batch,
            on_assigned=self._on_assigned,
            on_revoked=self._on_revoked,
        )
        self._opener = LaneOpener(settings, self.about, self.app, accept_loss=accept_loss)
        self._restoring: asyncio.Task[None] | None = None
        self._restored = asyncio.Event()
        self._desks: dict[int, Desk] = {}
        self._turn = threading.Lock()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"plumbline-{stage.name}")
        self._ends: dict[Where, int] = {}
        self._measuring: asyncio.Task[None] | None = None
        self.progress_s = time.monotonic()
        self.commits = 0
        self._closed = (0, 0.0)  # what writers of partitions that went have counted

    async def start(self) -> None:
        """Join the group and begin; returns when partitions (or none) were assigned and restored.

        Raises
        ------
        BrokerError
            If no broker answers, it refuses, or records were lost; the text names the remedy.
        UnusableStateError
            If state was written by another version, or does not fit the log.
        """
        try:
            await self.app.start()
            await self._wait_restored()
        except BaseException:
            with suppress(Exception):  # what ended it is known, and is what is told
                async with asyncio.timeout(_GIVE_UP_S):
                    await self.stop()
            raise
        self._measuring = asyncio.create_task(self._measure())

    async def _wait_restored(self) -> None:
        ended = asyncio.ensure_future(self.app.ended())
        restored = asyncio.ensure_future(self._restored.wait())
        try:
            await asyncio.wait({ended, restored}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                ended.result()
        finally:
            ended.cancel()
            restored.cancel()

    async def ended(self) -> None:
        """Wait until the runner has ended; raises what ended it, and returns after :meth:`stop`."""
        await self.app.ended()

    async def stop(self) -> None:
        """Finish the batches at hand and leave; what was not committed is read again by whoever is next."""
        if self._measuring is not None:
            self._measuring.cancel()
        await self.app.leave()
        await self._end_restoring()
        await self._close(self._desks)  # before others are given the partitions, who would fence it
        await self.app.stop()
        self._pool.shutdown(wait=False)

    @property
    def lost(self) -> int:
        """How many offsets were passed by because they were gone."""
        return self._opener.lost

    @property
    def states(self) -> dict[int, Any]:
        """The live state of the stage, by partition."""
        return {part: desk.state for part, desk in self._desks.copy().items()}

    @property
    def positions(self) -> dict[int, Position]:
        """How far each partition is, as committed."""
        return {part: desk.lane.position for part, desk in self._desks.copy().items()}

    def read(self) -> Reading:
        """Return how the runner is, for its watchdog and for metrics; called from any thread."""
        positions = self.app.positions()
        reached = {}
        for part, desk in self._desks.copy().items():
            where = (self.about.source, part)
            # Where nothing waits, what follows the position up to the end are markers, which bring nothing.
            reached[where] = positions.get(where, desk.lane.offset) if desk.is_idle() else desk.lane.offset
        ends = self._ends.copy()
        behind = is_behind(ends, reached, heard_s=self.app.heard_s)
        return Reading(
            look=Look(
                assigned=bool(reached),
                behind=behind,
                waiting=False,
                moved=self.commits,
                placed=self.app.placed,
            ),
            progress_age_s=time.monotonic() - self.progress_s,
            ends=ends,
            reached=reached,
            rebalances=self.app.rebalances,
            refetches=self.app.refetches,
            more=self._counts(),
        )

    def _counts(self) -> tuple[Gauge, ...]:
        def by_partition(of: Callable[[Position], int]) -> dict[tuple[str, ...], float]:
            return {(self.stage, str(part)): float(of(one)) for part, one in positions.items()}

        positions, names = self.positions, ("stage", "partition")
        taken = by_partition(lambda one: one.taken)
        repeated = by_partition(lambda one: one.repeated)
        buried = by_partition(lambda one: one.buried)
        lost: dict[tuple[str, ...], float] = {(self.stage,): float(self.lost)}
        count, seconds = _sum_writes(self._closed, self._desks.copy().values())
        writes: dict[tuple[str, ...], float] = {(self.stage,): float(count)}
        write_s: dict[tuple[str, ...], float] = {(self.stage,): seconds}
        wait_s: dict[tuple[str, ...], float] = {(self.stage,): self.app.pace.wait_ms / 1000}
        return (
            Gauge("stage_records", "Records taken, ever.", names, taken, True),
            Gauge("stage_repeated_envelopes", "Envelopes a fence kept out.", names, repeated, True),
            Gauge("stage_dead_letters", "Dead letters written, ever.", names, buried, True),
            Gauge("stage_lost_offsets", "Offsets gone before they were read.", ("stage",), lost, True),
            Gauge("stage_writes", "Transactions that were timed.", ("stage",), writes, True),
            Gauge("stage_write_seconds", "How long these took together.", ("stage",), write_s, True),
            Gauge("stage_fetch_wait_seconds", "How long a fetch waits for more.", ("stage",), wait_s),
        )

    async def _measure(self) -> None:
        """Keep the ends of the log in sight, and the pace; a broker that is away shows as no progress."""
        while True:
            count, seconds = _sum_writes(self._closed, self._desks.values())
            self.app.pace.look(count, seconds, partitions=len(self._desks))
            with suppress(BrokerError):
                bounds = await self.app.bounds(self.app.assignment())
                self._ends = {where: end for where, (_, end) in bounds.items()}
            await asyncio.sleep(_ENDS_EVERY_S)

    async def _on_assigned(self, assigned: set[Where]) -> None:
        """Begin to restore, and return: a member that waits here gives its group no sign of life."""
        await self._end_restoring()
        self._loop = asyncio.get_running_loop()
        self._restored.clear()
        self.app.hold(assigned)
        self._restoring = self._loop.create_task(self._restore(sorted(assigned)))

    async def _restore(self, assigned: Sequence[Where]) -> None:
        lanes: list[Lane] = []
        try:
            lanes = await self._opener.open(assigned)
            while lanes:
                desk = await self._restored_desk(lanes[0])
                self._desks[desk.lane.partition] = desk
                lanes.pop(0)
                desk.task = self._loop.create_task(self._work(desk))
                await self.app.seek((self.about.source, desk.lane.partition), desk.lane.offset)
            self.progress_s = time.monotonic()
            self._on_moved(set(self._desks))
            self._restored.set()
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the runner
            self.app.fail(error)
        finally:
            await stop_writers(lane.writer for lane in lanes)

    async def _restored_desk(self, lane: Lane) -> Desk:
        where = (self.about.source, lane.partition)
        try:
            desk = Desk(
                self._stage,
                lane,
                self._loop,
                self._settings.worker,
                turn=self._turn,
                on_flood=self._page_flood,
                on_commit=self._progressed,
                accepts_flood=where in self._accept_floods,
            )
            await self._loop.run_in_executor(self._pool, desk.restore)
        except (UnusableStateError, ValueError) as error:
            topic, part, _ = state_place(self.stage, *where, self._settings.kafka)
            raise unusable_state(topic, part, error.__cause__ or error) from error
        return desk

    async def _end_restoring(self) -> None:
        """Give up what is being restored; none of its writers lives on."""
        task, self._restoring = self._restoring, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _on_revoked(self, revoked: set[Where]) -> None:
        await self._end_restoring()
        await self._close([part for topic, part in revoked if topic == self.about.source])
        self._on_moved(set(self._desks))

    async def _close(self, partitions: Collection[int]) -> None:
        desks = [self._desks.pop(part) for part in tuple(partitions) if part in self._desks]
        for desk in desks:
            desk.close()
        await asyncio.gather(*[desk.task for desk in desks if desk.task is not None])
        await stop_writers(desk.lane.writer for desk in desks)
        self._closed = _sum_writes(self._closed, desks)

    async def _on_batch(self, _topic: str, partition: int, records: Sequence[RawMessage]) -> None:
        desk = self._desks[partition]
        desk.put(records)
        limit = self._settings.worker.batch_bytes
        while desk.size > limit and not self.app.leaving.is_set():
            desk.room.clear()
            await _first_of(desk.room, self.app.leaving)

    async def _work(self, desk: Desk) -> None:
        try:
            while not desk.closing:
                records = await desk.take()
                await self._loop.run_in_executor(self._pool, desk.advance, records)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the runner
            self.app.fail(error)

    def _progressed(self) -> None:
        self.progress_s = time.monotonic()
        self.commits += 1

    def _page_flood(self, lane: Lane, gauge: FloodGauge, at_ms: int) -> None:
        """Page about bad records, and raise; in a thread."""
        where = (self.about.source, lane.partition)
        good, bad = gauge.counts()
        page = flood_page(*where, lane.position.place, at_ms=at_ms, good=good, bad=bad)
        asyncio.run_coroutine_threadsafe(lane.page(page), self._loop).result()
        raise flood_error(*where, good=good, bad=bad)


def _sum_writes(before: tuple[int, float], desks: Iterable[Desk]) -> tuple[int, float]:
    """Return count and seconds of the transactions of `desks`, and of those `before`."""
    writers = [desk.lane.writer for desk in desks]
    return before[0] + sum(one.count for one in writers), before[1] + sum(one.seconds for one in writers)


async def _first_of(*events: asyncio.Event) -> None:
    """Wait until one of `events` is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def port_settings(kafka: KafkaSettings, stage: Any) -> PortSettings:
    """Return whose port a stage's is: its source by Kafka's name, and its group.

    A foreign topic has a group of its own, for the members of a group must all read the same.
    """
    foreign = stage.name == "normalise"
    group = f"{kafka.topic_prefix}.{stage.name}"
    return PortSettings(
        kafka=kafka,
        stage=stage.name,
        source=stage.source if foreign else topic_name(stage.source, kafka.topic_prefix),
        group=f"{group}.{stage.source}" if foreign else group,
        raw=bool(getattr(stage, "raw", False)),
    )
