"""Desks: partitions take turns at stepping, and nobody waits with what is found until all have stepped."""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from detectors.stages import Delivery
from streams.kafka.desk import Desk
from streams.kafka.envelope import RawMessage
from streams.kafka.port import Lane, PortSettings
from streams.kafka.state_records import StateRecords
from streams.settings import KafkaSettings, WorkerSettings

ABOUT = PortSettings(kafka=KafkaSettings(), stage="admit", source="source", group="admit", raw=True)
LONG_S = 10.0


class Queue:
    """A lock that goes to who has waited longest: the order in which waiting for a second turn costs most."""

    def __init__(self) -> None:
        self._guard, self._waiting, self._held = threading.Condition(), deque[object](), False

    def __enter__(self) -> None:
        ticket = object()
        with self._guard:
            self._waiting.append(ticket)
            self._guard.notify_all()
            self._guard.wait_for(lambda: not self._held and self._waiting[0] is ticket)
            self._waiting.popleft()
            self._held = True

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._held = False
            self._guard.notify_all()

    def is_wanted(self) -> bool:
        """Wait until somebody waits for it."""
        with self._guard:
            return self._guard.wait_for(lambda: bool(self._waiting), LONG_S)


class Slow:
    """A stage whose second partition steps for as long as the first has not committed."""

    name, source, raw = "admit", "source", True

    def __init__(self) -> None:
        self.turn, self.began, self.committed = Queue(), threading.Event(), threading.Event()
        self.in_time: dict[int, bool] = {}

    def restore(self, partition: int, _: Any) -> int:
        return partition

    def step(self, state: int, _: Sequence[Delivery]) -> tuple[int, list[Any]]:
        self.began.set()
        self.in_time[state] = self.committed.wait(LONG_S) if state else self.turn.is_wanted()
        return state, []

    def changes(self, state: int) -> dict[str, bytes | None]:
        return {"of": f"partition {state}".encode()}


class Writer:
    """Keeps what a partition writes."""

    def __init__(self, stage: Slow) -> None:
        self._stage, self.written = stage, b""

    async def write(self, records: Sequence[Any], *_: Any) -> None:
        self.written += b"".join(one.value for one in records)
        self._stage.committed.set()


def desk_of(stage: Slow, partition: int, writer: Any) -> Desk:
    turn: Any = stage.turn
    desk = Desk(
        stage,
        Lane(ABOUT, partition, StateRecords({}), writer),
        asyncio.get_running_loop(),
        WorkerSettings(),
        turn=turn,
        on_flood=lambda *_: None,
        on_commit=lambda: None,
    )
    desk.restore()
    return desk


def test_a_partition_commits_while_the_next_one_steps() -> None:
    async def check() -> None:
        stage = Slow()
        writers = [Writer(stage), Writer(stage)]
        desks = [desk_of(stage, partition, writer) for partition, writer in enumerate(writers)]
        record = RawMessage("source", 0, 0, 0, None, b"", ())
        first = asyncio.create_task(asyncio.to_thread(desks[0].advance, [record]))
        await asyncio.to_thread(stage.began.wait, LONG_S)
        await asyncio.gather(first, asyncio.to_thread(desks[1].advance, [record]))
        assert stage.in_time == {0: True, 1: True}
        for partition, writer in enumerate(writers):
            assert f"partition {partition}".encode() in writer.written

    asyncio.run(check())
