"""A log, a group that fences, and a store that knows tokens: what landing meets, with faults on demand."""

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from detectors.records import Feedback, Label, Score, Scorecard, Tick
from detectors.records.codec import Record
from streams.kafka.dead_letters import RawOutput
from streams.kafka.envelope import Origin, RawMessage, place_of, seal
from streams.kafka.errors import BrokerError
from streams.kafka.land_fence import Fence
from streams.kafka.land_ledger import Where
from streams.kafka.land_ports import Group, Topic
from streams.kafka.landing import Lander
from streams.store import StoreError

CARDS, LABELS = "p.scorecards.v1", "p.labels.v1"
TOPICS = {CARDS: Topic("scorecards", "id-c", 2), LABELS: Topic("labels", "id-l", 2)}
FAR_MS = 3_786_912_000_000  # retention of a real store must not eat the rows


class CrashError(Exception):
    """The process is gone."""


def card(name: str, scores: int = 2) -> Scorecard:
    return Scorecard(
        deployment="d", interaction_id=name, release="r", event_time_ms=FAR_MS, received_at_ms=FAR_MS,
        unit="u", scores=tuple(Score(name=f"m{index}", value=0.5) for index in range(scores)),
    )  # fmt: skip


def label(name: str) -> Label:
    return Label(
        deployment="d", label_id=name, interaction_id="i", metric="m", value=0.5, rater="r",
        event_time_ms=FAR_MS, received_at_ms=FAR_MS,
    )  # fmt: skip


def feedback(name: str) -> Feedback:
    return Feedback(
        deployment="d", feedback_id=name, interaction_id="i", kind="thumb", value=1.0,
        event_time_ms=FAR_MS, received_at_ms=FAR_MS,
    )  # fmt: skip


@dataclass
class FakeStore:
    """Keeps physical rows. `faults` says what comes of the next inserts; what was tried must be completed."""

    faults: Iterator[str] = field(default_factory=lambda: iter(()))
    rows: list[tuple[str, str, int, int]] = field(default_factory=list)
    tokens: dict[str, int] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    away: bool = False
    refuses: str = ""
    gate: threading.Event | None = None
    inside: threading.Event = field(default_factory=threading.Event)

    def answers(self) -> bool:
        return not self.away

    def insert(self, table: str, columns: Mapping[str, Sequence[Any]], *, token: str) -> int:
        assert token not in self.tried, "what was tried must be completed"
        return self.complete(table, columns, token=token)

    def complete(self, table: str, columns: Mapping[str, Sequence[Any]], *, token: str) -> int:
        self.tried.add(token)
        fault = next(self.faults, "ok")
        if self.gate is not None:
            self.inside.set()
            self.gate.wait(20)
        if self.away or fault == "unsent":
            raise StoreError("cannot insert: nobody there", unsent=True)
        if table == self.refuses or fault == "refused":
            raise StoreError("cannot insert: error 252", code=252)
        if fault == "die_before":
            raise CrashError
        if fault == "unknown_before":
            raise StoreError("cannot insert: timed out")
        rows = len(columns["src_offset"])
        if token not in self.tokens:
            topic = token.split("/")[1]
            places = zip(columns["src_partition"], columns["src_offset"], strict=True)
            self.rows += [(table, topic, partition, place) for partition, place in places]
        assert self.tokens.setdefault(token, rows) == rows, "a token named two batches"
        if fault == "die_after":
            raise CrashError
        if fault == "unknown_after":
            raise StoreError("cannot insert: the answer was lost")
        return rows


@dataclass
class World:
    """What outlives a process."""

    logs: dict[Where, list[RawMessage]] = field(default_factory=dict)
    committed: dict[Where, tuple[int, str]] = field(default_factory=dict)
    starts: dict[Where, int] = field(default_factory=dict)
    stored: dict[Where, int] = field(default_factory=dict)
    topic_ids: dict[str, str] = field(default_factory=lambda: {CARDS: "id-c", LABELS: "id-l"})
    generation: int = 0
    store: FakeStore = field(default_factory=FakeStore)
    buried: list[RawOutput] = field(default_factory=list)

    def write(self, where: Where, records: Sequence[Record], *, gap: int = 0, limit: int = 600) -> None:
        """Append envelopes; `gap` offsets stay empty before each, as where transactions end."""
        log = self.logs.setdefault(where, [])
        for envelope in seal(records, Origin("test", "t", 0, len(log)), limit=limit):
            offset = (log[-1].offset + 1 if log else 0) + gap
            log.append(RawMessage(*where, offset, 0, None, envelope.value, envelope.headers))

    def write_raw(self, where: Where, value: bytes) -> None:
        log = self.logs.setdefault(where, [])
        offset = log[-1].offset + 1 if log else 0
        log.append(RawMessage(*where, offset, 0, b"k", value, ()))

    def end(self, where: Where) -> int:
        log = self.logs[where]
        return log[-1].offset + 1 if log else 0

    def is_landed(self) -> bool:
        return all(self.has_landed(where) for where in self.logs)

    def has_landed(self, where: Where) -> bool:
        offset, metadata = self.committed.get(where, (0, ""))
        return offset == self.end(where) and " before " not in metadata

    def expected(self) -> list[tuple[str, str, int, int]]:
        """Return a row for each of what must be in the store, once."""
        found = []
        for where, log in self.logs.items():
            for message in log:
                lines = (message.value or b"").split(b"\n")
                if not message.headers:
                    continue
                rows = [
                    (kind, row)
                    for kind, run in zip(lines[::2], lines[1::2], strict=True)
                    for row in msgspec.json.decode(run)
                ]
                for index, (kind, row) in enumerate(rows):
                    place = (where[0], where[1], place_of(message.offset, index))
                    if kind == b"Scorecard":
                        found += [("scorecards", *place), *[("scores", *place)] * len(row["scores"])]
                    if kind == b"Label":
                        found.append(("labels", *place))
        return sorted(found)


class Member:
    """One life of a worker in the group."""

    def __init__(self, world: World, faults: Iterator[str] | None = None) -> None:
        world.generation += 1
        self.world, self.generation = world, world.generation
        self.faults = faults or iter(())
        self.leaving = asyncio.Event()
        self.at: dict[Where, int] = {}
        self.commits: list[Mapping[Where, tuple[int, str]]] = []

    async def commit(self, offsets: Mapping[Where, tuple[int, str]]) -> None:
        fault = next(self.faults, "ok")
        if fault == "die_before":
            raise CrashError
        if self.generation != self.world.generation:
            raise BrokerError("the group has gone on without this member")
        self.world.committed.update(offsets)
        self.commits.append(dict(offsets))
        if fault == "die_after":
            raise CrashError

    async def committed(self, where: set[Where]) -> Mapping[Where, tuple[int, str] | None]:
        return {one: self.world.committed.get(one) for one in where}

    async def seek(self, where: Where, offset: int) -> None:
        self.at[where] = offset

    def positions(self) -> dict[Where, int]:
        return dict(self.at)

    async def bounds(self, places: Collection[Where]) -> dict[Where, tuple[int, int]]:
        return {where: (self.world.starts.get(where, 0), self.world.end(where)) for where in places}


def make_lander(
    world: World,
    member: Member,
    *,
    topics: Mapping[str, Topic] | None = None,
    group: Callable[[Member], Group] = lambda member: member,
    **more: Any,
) -> Lander:
    async def bury(letters: Sequence[RawOutput]) -> None:
        world.buried += letters

    loop = asyncio.get_running_loop()
    clock = {"clock": lambda: loop.time() * 100.0}  # pauses of seconds take milliseconds
    memory = {"last_landed": lambda _topics: world.stored, "topic_ids": lambda: world.topic_ids}
    topics = topics or TOPICS
    chosen: dict[str, Any] = {
        **clock,
        **memory,
        "batch": 5,
        "flush_s": 0.2,
        "fence": Fence(1e9),
        "bury": bury,
        **more,
    }
    return Lander(group(member), world.store, topics, **chosen)


async def feed(world: World, member: Member, lander: Lander, *, chunk: int = 3) -> None:
    """Hand on what the log has, one batch at a time, for ever, as the consumer does."""
    while True:
        for where, log in world.logs.items():
            ahead = [message for message in log if message.offset >= member.at[where]][:chunk]
            if ahead:
                before = member.at[where]
                await lander.on_batch(*where, ahead)
                if member.at[where] == before:
                    member.at[where] = ahead[-1].offset + 1
        await asyncio.sleep(0.0005)


async def live(world: World, faults: Iterator[str] | None = None, **more: Any) -> Lander:
    """Run one life until all has landed; raises what ended it."""
    member = Member(world, faults)
    lander = make_lander(world, member, **more)
    await lander.on_assigned(set(world.logs))
    feeding = asyncio.create_task(feed(world, member, lander))
    running = asyncio.create_task(lander.run())
    try:
        async with asyncio.timeout(20):
            while not (world.is_landed() or running.done() or feeding.done()):
                await asyncio.sleep(0.0005)
        lander.stop(0.0)
        await running
        if feeding.done():
            await feeding
    finally:
        feeding.cancel()
        running.cancel()
        await asyncio.gather(feeding, running, return_exceptions=True)
    return lander


def mixed(count: int, name: str) -> list[Record]:
    """Return scorecards with a tick after every third."""
    records: list[Record] = []
    for index in range(count):
        records.append(card(f"{name}{index}", index % 4))
        if index % 3 == 2:
            records.append(Tick(source_partition=0, watermark_ms=index))
    return records
