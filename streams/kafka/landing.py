"""Landing from Kafka: copies of every record in the store, each exactly once.

The consumer group's own commits are the ledger (:mod:`streams.kafka.land_ledger`): a range is committed as
begun, inserted under a token that names it, and committed as done. Whoever owns the partition after a crash
forms exactly that range again and lets the store complete it: what is there is found by reading, and only
what is not is inserted, under the same token. A store that is away, or refuses, is asked again with the
identical range; an insert whose outcome nobody knows ends the process, and what was begun is completed by the
next.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from streams.kafka.dead_letters import RawOutput, bury, dead_letter_record
from streams.kafka.envelope import RawMessage
from streams.kafka.land_fence import Fence
from streams.kafka.land_lane import Batch, Lane, read_message
from streams.kafka.land_ledger import (
    LedgerError,
    Mark,
    Range,
    Where,
    after,
    before,
    check_topic,
    forgotten,
    read_mark,
    token_of,
)
from streams.kafka.land_ports import Group, Landable, LandCounts, Topic
from streams.landing_rows import LANDED
from streams.store_connection import StoreError

HELD_BYTES: Final = 67_108_864
"""That all partitions together may have waiting, counted as for one."""
_ORDER: Final = tuple(LANDED)
_LOOK_S: Final = 0.1
"""At least so often :meth:`Lander.run` looks around, in seconds."""
_READ_BY_STAGES: Final = frozenset({"interactions", "scorecards", "signals", "decisions"})
"""Whose unreadable records a stage sends to the dead letters; landing passes them by."""


class Lander:
    """Carries the records of the partitions that its group gives it to the store.

    Its ``on_...`` methods are the callbacks of the group's consumer; :meth:`run` does the work.

    Parameters
    ----------
    group
        The consumer.
    store
        Where rows go; called in threads.
    topics
        What lands, by Kafka's name.
    topic_ids
        Returns the ids that the cluster gave the topics that it has now; called in a thread at every
        assignment.
    batch
        Most records per insert; the Kafka record that reaches it is taken whole.
    flush_s
        How long records wait for more, in seconds; what comes seldom (feedback, labels, releases and
        references) waits up to four times as long.
    fence
        Asked before every insert.
    bury
        Writes dead letters, durably; repeated when the process dies after it.
    last_landed
        Returns the last offset that is stored of each partition of the topics it is given; called in a
        thread, where the group has committed nothing.
    accept_loss
        Whether to go on where records were lost: their retention was over before they landed.
    clock
        Seconds that never jump.

    Attributes
    ----------
    counts
        What was done.
    problem
        Why the store does not take something, empty if it takes all.
    progress_s
        When it was last known what to do next; of `clock`. A store that is away is known.
    """

    def __init__(
        self,
        group: Group,
        store: Landable,
        topics: Mapping[str, Topic],
        *,
        topic_ids: Callable[[], Mapping[str, str]],
        batch: int,
        flush_s: float,
        fence: Fence,
        bury: Callable[[Sequence[RawOutput]], Awaitable[None]],
        last_landed: Callable[[Mapping[str, Topic]], Mapping[Where, int]],
        accept_loss: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group, self._store, self._topics, self._fence = group, store, topics, fence
        self._batch, self._flush_s, self._clock = batch, flush_s, clock
        self._bury, self._last_landed, self._accept_loss = bury, last_landed, accept_loss
        self._topic_ids = topic_ids
        self._lanes: dict[Where, Lane] = {}
        self._turn = asyncio.Lock()  # held while a flush runs: partitions do not leave in the middle of one
        self._wake, self._room = asyncio.Event(), asyncio.Event()
        self._stop_s: float | None = None
        self.counts = LandCounts()
        self.problem = ""
        self.progress_s = clock()

    async def on_assigned(self, assigned: set[Where]) -> None:
        """Begin with partitions: where the ledger says.

        Raises
        ------
        LedgerError
            If records were lost, a topic was made anew, somebody else committed for this group, or its
            commits are gone and the store has rows.
        """
        await self._check_topics(assigned)
        committed = await self._group.committed(assigned)
        bounds = await self._group.bounds(assigned)
        unknown = {where[0] for where in assigned if committed.get(where) is None}
        if unknown:
            topics = {name: self._topics[name] for name in unknown}
            stored = await asyncio.to_thread(self._last_landed, topics)
            for where in sorted(assigned & stored.keys()):
                if committed.get(where) is None:
                    raise forgotten(where, stored[where], bounds[where][1])
        marks = {}
        for where, (start, end) in bounds.items():
            mark = Mark(start) if (at := committed.get(where)) is None else read_mark(where, at)
            check_topic(where, mark, self._topics[where[0]].topic_id)
            marks[where] = self._without_lost(where, mark, start, end)
        await asyncio.gather(*[self._group.seek(where, mark.offset) for where, mark in marks.items()])
        for where, mark in marks.items():
            self._lanes[where] = Lane(where, self._topics[where[0]].name, mark)

    async def on_revoked(self, revoked: set[Where]) -> None:
        """Finish the flush at hand, if it takes any of them, and forget the rest of them."""
        async with self._turn:
            for where in revoked:
                self._lanes.pop(where, None)
        self._room.set()

    async def on_batch(self, topic: str, partition: int, records: Sequence[RawMessage]) -> None:
        """Queue `records`; returns when there is room for more, or the group is leaving."""
        lane = self._lanes.get((topic, partition))
        if lane is None or self._stop_s is not None:
            return  # not ours any more, or not for long: whoever has the partition next reads them
        turn = lane.turn
        arrivals = await asyncio.to_thread(lambda: [read_message(record) for record in records])
        if self._lanes.get(lane.where) is not lane or lane.turn != turn:
            return  # what the reader went back for meanwhile is from before these
        if not lane.take(arrivals, self._clock()):
            return
        self._wake.set()
        while self._lanes.get(lane.where) is lane and self._is_full(lane):
            self._room.clear()
            await self._first_of(self._room, self._group.leaving)
            if self._group.leaving.is_set():
                return

    async def run(self) -> None:
        """Land until :meth:`stop`; raises what should end the process."""
        while not self._is_over():
            self._fence.check()
            now_s = self.progress_s = self._clock()
            if self._due(now_s) and not self._group.leaving.is_set():
                async with self._turn:
                    await self._flush(self._due(self._clock()))
                self._room.set()
                continue
            self._wake.clear()
            pause_s = min([_LOOK_S, *(lane.due_s(self._flush_s) - now_s for lane in self._lanes.values())])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(pause_s, 0.01)):
                    await self._wake.wait()

    def stop(self, within_s: float) -> None:
        """Let :meth:`run` end when all that arrived has landed, or after `within_s` seconds."""
        self._stop_s = self._clock() + within_s
        self._wake.set()

    def landed(self) -> dict[Where, int]:
        """Return the offset of each partition below which everything has landed."""
        lanes = self._lanes.copy()
        turns = {where: lane.turn for where, lane in lanes.items()}
        # Then: what was read until now is in the lanes, or has landed, if the reader does not go back.
        positions = self._group.positions()
        return {
            where: max(lane.next_offset, positions.get(where, 0))
            if lane.is_idle() and lane.turn == turns[where]
            else lane.next_offset
            for where, lane in lanes.items()
        }

    async def _check_topics(self, assigned: set[Where]) -> None:
        """Complain if a topic is another than when this process began: its tokens would be the old one's."""
        ids = await asyncio.to_thread(self._topic_ids)
        for name in sorted({where[0] for where in assigned}):
            if ids.get(name) != self._topics[name].topic_id:
                raise LedgerError(
                    f"landing: topic {name} was deleted or made anew while this process landed it: start it "
                    "again; it says what is to be done with what had landed"
                )

    def _without_lost(self, where: Where, mark: Mark, start: int, end: int) -> Mark:
        """Return `mark`, moved behind what is lost if that is accepted."""
        if start <= mark.offset <= end and (mark.unfinished is None or mark.unfinished.last < end):
            return mark
        topic = self._topics[where[0]].name
        if mark.offset > end or (mark.unfinished is not None and mark.unfinished.last >= end):
            raise LedgerError(
                f"landing: {where[0]}/{where[1]} ends at {end} and landing was further, at {mark.offset}: "
                "the log lost its end or was made again; reset the offsets of the landing group for it"
            )
        if not self._accept_loss:
            raise LedgerError(
                f"landing: offsets {mark.offset} to {start - 1} of {where[0]}/{where[1]} were deleted by "
                "retention before they landed: they are lost; --accept-loss goes on without them"
            )
        self.counts.lost[topic] = self.counts.lost.get(topic, 0) + start - mark.offset
        # What is left of a range that was begun keeps its token: if it had landed, all of it is there.
        keeps = mark.unfinished if mark.unfinished is not None and mark.unfinished.last >= start else None
        return Mark(start, keeps)

    def _due(self, now_s: float) -> list[Lane]:
        """Return what to insert now, in order; with what waited long enough goes what waited half as long."""
        lanes = sorted(self._lanes.values(), key=lambda lane: (_ORDER.index(lane.topic), lane.where))
        flush_s = 0.0 if self._stop_s is not None else self._flush_s
        if not any(lane.is_due(now_s, batch=self._batch, flush_s=flush_s) for lane in lanes):
            return []
        return [lane for lane in lanes if lane.is_due(now_s, batch=self._batch, flush_s=flush_s / 2)]

    def _is_over(self) -> bool:
        if self._stop_s is None:
            return False
        return all(lane.is_idle() for lane in self._lanes.values()) or self._clock() >= self._stop_s

    def _is_full(self, lane: Lane) -> bool:
        """Return whether `lane` must wait, and with it all: the group hands on one batch at a time.

        What the store refuses is not waited for, or one bad topic would hold up the others.
        """
        if lane.refused or lane.is_incomplete():
            return False
        held = sum(other.size for other in self._lanes.values() if not other.refused)
        return lane.is_full() or held >= HELD_BYTES

    async def _first_of(self, *events: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _flush(self, lanes: Sequence[Lane]) -> None:
        """Form what is not formed, commit it as begun, insert one by one, and commit what landed as done."""
        if not lanes or not await asyncio.to_thread(self._reach, lanes):
            return
        fresh = [(lane, lane.form(self._batch, self._clock())) for lane in lanes if lane.batch is None]
        begun = {
            lane.where: before(batch.range, self._id_of(lane))
            for lane, batch in fresh
            if batch.lands and lane.unfinished is None
        }
        if begun:
            await self._group.commit(begun)
        landed: list[tuple[Lane, Range]] = []
        for lane in lanes:
            if lane.batch is not None and await self._insert(lane, lane.batch):
                landed.append((lane, lane.batch.range))  # noqa: PERF401 - each insert is awaited in turn
        if landed:
            done = {lane.where: after(chosen, self._id_of(lane)) for lane, chosen in landed}
            await self._group.commit(done)
        for lane, _ in landed:
            self.counts.ranges += 1
            self.counts.repeated += lane.unfinished is not None
            lane.landed()
            if (offset := lane.gap()) is not None and not self._group.leaving.is_set():
                await self._group.seek(lane.where, offset)
                lane.resume()
        if not any(lane.failures for lane in self._lanes.values()):
            self.problem = ""

    def _id_of(self, lane: Lane) -> str:
        return self._topics[lane.where[0]].topic_id

    def _reach(self, lanes: Sequence[Lane]) -> bool:
        """Return whether the store answers; if not, nothing is begun."""
        if self._store.answers():
            return True
        self.problem = "the store does not answer"
        for lane in lanes:
            lane.failed(self._clock(), refused=False)
        return False

    async def _insert(self, lane: Lane, batch: Batch) -> bool:
        """Return whether all of `batch` is stored; if not, it must be repeated as it is."""
        try:
            tried = lane.failures > 0 or lane.unfinished is not None
            await asyncio.to_thread(partial(self._store_tables, batch, tried=tried))
        except StoreError as error:
            if error.outcome == "unknown":
                raise
            self.problem = str(error)
            lane.failed(self._clock(), refused=error.outcome == "refused")
            return False
        await self._bury_unreadable(lane, batch)
        return True

    def _store_tables(self, batch: Batch, *, tried: bool) -> None:
        """Insert what is left of `batch`; if it was `tried` before, parts of it may be there.

        Its rows are made now, and not before: what comes first in a flush need not wait for the others'.
        """
        batch.build()
        store = self._store.complete if tried else self._store.insert
        topic = self._topics[batch.where[0]]
        for table in tuple(batch.tables):
            token = token_of(topic.topic_id, batch.where, batch.range, table)
            self._fence.check()
            rows = store(table, batch.tables[table], token=token)
            self.counts.rows[table] = self.counts.rows.get(table, 0) + rows
            del batch.tables[table]  # so that a refusal of the next table does not repeat this one

    async def _bury_unreadable(self, lane: Lane, batch: Batch) -> None:
        if not batch.unreadable:
            return
        count = self.counts.unreadable.get(lane.topic, 0)
        self.counts.unreadable[lane.topic] = count + len(batch.unreadable)
        if lane.topic in _READ_BY_STAGES:
            return
        partitions = self._topics[lane.where[0]].partitions
        letters = [
            bury(message, stage="land", reason="not_an_envelope").letter for message in batch.unreadable
        ]
        await self._bury([dead_letter_record(letter, partitions) for letter in letters])
