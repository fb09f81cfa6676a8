"""One partition at work: what has come and waits, the stage and its state, and the gauge of bad records."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from detectors.stages import Delivery
from streams.kafka.dead_letters import DeadLetterOutput
from streams.kafka.envelope import RawMessage
from streams.kafka.flood import FloodGauge
from streams.kafka.port import KafkaPort, Lane
from streams.settings import WorkerSettings
from streams.stage_loop import StageLoop

_RECORD_BYTES: Final = 500
"""What a waiting record takes beside its content."""
_HEADER_BYTES: Final = 150
"""What a header takes beside its content: a tuple, a text and bytes."""


def held_bytes(record: RawMessage) -> int:
    """Return about how many bytes of memory `record` takes while it waits.

    Most of an empty record is what holds it: a fetch of 4 MB may hold a million of them.

    Examples
    --------
    >>> held_bytes(RawMessage("t", 0, 0, 0, b"key", None, (("kind", b"label"),)))
    662
    """
    content = len(record.key or b"") + len(record.value or b"")
    content += sum(_HEADER_BYTES + len(name) + len(held or b"") for name, held in record.headers)
    return _RECORD_BYTES + content


class Desk:
    """A partition of a stage: the loop puts records on it, a thread takes them off.

    Parameters
    ----------
    stage
        Shared by all partitions of the process.
    lane
        Where the partition's transactions are made.
    loop
        Where the lane's writer lives.
    worker
        Most records per step, and what a flood is.
    turn
        Held while the stage steps.
    on_flood
        Called, in the thread, instead of committing a batch that is part of a flood; it raises.
    on_commit
        Called after every transaction.
    accepts_flood
        Whether somebody has looked at a flood that stopped this partition, and lets it go on.

    Attributes
    ----------
    room
        Set when what waited was taken.
    task
        What takes it, once it runs.
    """

    def __init__(
        self,
        stage: Any,
        lane: Lane,
        loop: asyncio.AbstractEventLoop,
        worker: WorkerSettings,
        *,
        turn: threading.Lock,
        on_flood: Callable[[Lane, FloodGauge, int], None],
        on_commit: Callable[[], None],
        accepts_flood: bool = False,
    ) -> None:
        self.lane, self._on_commit = lane, on_commit
        gauge = FloodGauge.from_state(
            lane.position.flood, share=worker.flood_share, records=worker.flood_records
        )
        if accepts_flood:
            gauge.clear()
        self._port = KafkaPort(loop, [lane])
        self._loop = StageLoop(_Turns(stage, lane, gauge, turn, on_flood), self._port, batch=worker.batch)
        self._batch = worker.batch
        self._waiting: list[RawMessage] = []
        self._wake = asyncio.Event()
        self._busy = False
        self.room = asyncio.Event()
        self.closing = False
        self.size = 0
        self.task: asyncio.Task[None] | None = None

    @property
    def state(self) -> Any:
        """The live state of the stage; only while no step runs is it whole."""
        return self._loop.states.get(self.lane.partition)

    def restore(self) -> None:
        """Restore the stage's state; in a thread.

        Raises
        ------
        UnusableStateError
            If another version wrote it, or it is damaged.
        """
        self._loop.take(self.lane.partition)

    def put(self, records: Sequence[RawMessage]) -> None:
        """Let `records` wait for their turn."""
        self._waiting += records
        self.size += sum(map(held_bytes, records))
        self._wake.set()

    async def take(self) -> list[RawMessage]:
        """Wait for records, or the end, and return what waits."""
        await self._wake.wait()
        self._wake.clear()
        records, self._waiting, self.size = self._waiting, [], 0
        self._busy = bool(records)
        self.room.set()
        return records

    def advance(self, records: Sequence[RawMessage]) -> None:
        """Carry the partition through `records`; in a thread.

        Raises
        ------
        BrokerError
            If a transaction failed, or its outcome is not known.
        """
        lane = self.lane
        for record in records:
            if self.closing:
                break
            # Opened when its turn comes: thousands of records that wait would fall out of the cache.
            lane.feed([record])
            self._advance_while(self._batch)
        self._advance_while(1)
        if lane.behind() and not self.closing:
            self._port.checkpoint(lane.partition, lane.position.place, {})
            self._on_commit()
        self._busy = False

    def _advance_while(self, waiting: int) -> None:
        """Carry the partition on while at least so many records wait."""
        while self.lane.waiting() >= waiting and not self.closing:
            self._loop.advance(self.lane.partition)
            self._on_commit()

    def is_idle(self) -> bool:
        """Return whether everything that was put here is committed."""
        return not self._waiting and not self._busy

    def close(self) -> None:
        """Let the task end after the transaction at hand."""
        self.closing = True
        self._waiting, self.size = [], 0
        self._wake.set()
        self.room.set()


class _Turns:
    """A stage for one partition, which steps when it is its turn, and counts good and bad records."""

    def __init__(
        self,
        stage: Any,
        lane: Lane,
        gauge: FloodGauge,
        turn: threading.Lock,
        on_flood: Callable[[Lane, FloodGauge, int], None],
    ) -> None:
        self.name, self.source = stage.name, stage.source
        self._stage, self._lane, self._gauge = stage, lane, gauge
        self._turn, self._on_flood = turn, on_flood
        self._raw = bool(getattr(stage, "raw", False))
        self._changes: dict[str, bytes | None] = {}

    def restore(self, partition: int, stored: Mapping[str, bytes]) -> Any:
        return self._stage.restore(partition, stored)

    def changes(self, state: Any) -> dict[str, bytes | None]:  # noqa: ARG002 - a stage's signature
        """Return what the last step changed, once."""
        changes, self._changes = self._changes, {}
        return changes

    def step(self, state: Any, batch: Sequence[Delivery]) -> tuple[Any, list[Any]]:
        with self._turn:
            state, outputs = self._stage.step(state, batch)
            # In the same turn: partitions that close the same bucket wait for theirs, and what this one
            # found would wait until all have stepped.
            self._changes = self._stage.changes(state)
        if self._raw:
            bad = sum(isinstance(output, DeadLetterOutput) for output in outputs)
            last: Any = batch[-1].record
            if self._gauge.add(last.timestamp_ms, len(batch) - bad, bad):
                self._on_flood(self._lane, self._gauge, last.timestamp_ms)
            self._lane.flood = self._gauge.to_state()
        return state, outputs
