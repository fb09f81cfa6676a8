"""A consumer with fetches ahead and seeks that take their time: what comes when is said by the test."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from streams.kafka.envelope import RawMessage
from streams.kafka.land_ledger import Where
from streams.kafka.landing import Lander
from tests.streams.landing_world import Member, World


@dataclass
class Fetched:
    records: list[RawMessage]
    start: int
    end: int
    turn: int


class Reader(Member):
    """A member of one partition that reads as the transport does.

    Fetches wait in a queue; what does not join on to what was done, or was fetched before the last seek, is
    thrown away. `ticks` says how many turns of the event loop each step takes.
    """

    def __init__(self, world: World, where: Where, ticks: Iterator[int]) -> None:
        super().__init__(world)
        self.where, self.ticks = where, ticks
        self.fetching, self.fetch_turn, self.turn = 0, 0, 0
        self.queue: deque[Fetched] = deque()
        self.seeks = 0

    async def wait(self) -> None:
        for _ in range(next(self.ticks)):
            await asyncio.sleep(0)

    async def in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Stand for asyncio.to_thread."""
        await self.wait()
        result = work(*arguments)
        await self.wait()
        return result

    async def seek(self, where: Where, offset: int) -> None:
        await self.wait()
        self.fetch_turn, self.fetching = self.fetch_turn + 1, offset
        turn = self.fetch_turn
        await self.wait()
        self.at[where], self.turn = offset, turn
        self.seeks += 1

    def fetch(self, chunk: int) -> None:
        records = [one for one in self.world.logs[self.where] if one.offset >= self.fetching][:chunk]
        if records:
            end = records[-1].offset + 1
            self.queue.append(Fetched(records, self.fetching, end, self.fetch_turn))
            self.fetching = end

    async def deliver(self, lander: Lander) -> None:
        fetched = self.queue.popleft()
        if fetched.turn != self.turn:
            return
        if fetched.start != self.at[self.where]:
            await self.seek(self.where, self.at[self.where])
            return
        await lander.on_batch(*self.where, fetched.records)
        if fetched.turn == self.turn:
            self.at[self.where] = fetched.end

    async def read(self, lander: Lander) -> None:
        """Read for ever."""
        while True:
            for _ in range(1 + next(self.ticks) % 3):
                if len(self.queue) < 3:
                    self.fetch(1 + next(self.ticks) % 4)
            if self.queue:
                await self.deliver(lander)
            await self.wait()
            await asyncio.sleep(0)
