"""Three ways to read and decode a topic, each in a process of its own: ours, stock Faust, a plain loop.

As a program it takes KIND BOOTSTRAP TOPIC PARTITIONS COUNT and prints JSON.
Times begin with the first record, so that joining a group costs nobody anything.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import faust
import msgspec
from confluent_kafka import Consumer
from msgspec import Struct

from detectors.records import Interaction
from streams.kafka.envelope import RawMessage, unseal
from streams.kafka.faust_transport import ConsumerApp, Where
from streams.kafka.fetching import FetchSize
from streams.settings import KafkaSettings

_DECODER = msgspec.json.Decoder(Interaction)
_TIMEOUT_S = 300.0


class Taken(Struct, frozen=True):
    """What reading `count` records took, in seconds of the wall clock and of this process's CPU."""

    count: int
    wall_s: float
    cpu_s: float


class Watch:
    """Counts records, and keeps both clocks from the first on."""

    def __init__(self, count: int) -> None:
        self.left = self.count = count
        self._began: tuple[float, float] | None = None
        self._first = 0

    def note(self, records: int) -> bool:
        """Count `records`; return whether all have come."""
        self.left -= records
        if self._began is None:
            self._began, self._first = (time.perf_counter(), time.process_time()), records
        return self.left <= 0

    def taken(self) -> Taken:
        """Return what it took since the first batch, which only started the clocks."""
        assert self._began is not None
        wall_s, cpu_s = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        return Taken(self.count - self._first, wall_s, cpu_s)


def read_plain(bootstrap: str, topic: str, partitions: int, count: int) -> Taken:
    """Read with confluent-kafka, a thousand at a time."""
    watch = Watch(count)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"bench-plain-{os.getpid()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    done = False
    while not done:
        messages = consumer.consume(1_000, timeout=0.5)
        for message in messages:
            _DECODER.decode(message.value())
        done = bool(messages) and watch.note(len(messages))
    taken = watch.taken()
    consumer.close()
    return taken


def read_stock(bootstrap: str, topic: str, partitions: int, count: int) -> Taken:
    """Read with Faust as it comes, event by event."""
    watch = Watch(count)

    async def run(folder: str) -> None:
        app = faust.App(
            f"bench-stock-{os.getpid()}",
            datadir=folder,
            broker=f"kafka://{bootstrap}",
            store="memory://",
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            consumer_auto_offset_reset="earliest",
            value_serializer="raw",
        )
        done = asyncio.Event()

        @app.agent(app.topic(topic, value_serializer="raw", partitions=partitions))
        async def read(stream: Any) -> None:
            async for value in stream:
                _DECODER.decode(value)
                if watch.note(1):
                    done.set()

        await app.start()
        await asyncio.wait_for(done.wait(), _TIMEOUT_S)
        results.append(watch.taken())
        await app.stop()

    results: list[Taken] = []
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(folder))
    return results[0]


def read_ours(bootstrap: str, topic: str, partitions: int, count: int) -> Taken:
    """Read with our transport, a fetch at a time."""
    return _read_ours(bootstrap, topic, partitions, count, _decode_each)


def read_envelopes(bootstrap: str, topic: str, partitions: int, count: int) -> Taken:
    """Read with our transport what our stages write: many records in one."""
    return _read_ours(bootstrap, topic, partitions, count, _open_each)


def _decode_each(records: Sequence[RawMessage]) -> int:
    for record in records:
        _DECODER.decode(record.value or b"")
    return len(records)


def _open_each(records: Sequence[RawMessage]) -> int:
    return sum(len(unseal(record.value or b"", record.headers)[1]) for record in records)


def _read_ours(
    bootstrap: str, topic: str, partitions: int, count: int, work: Callable[[Sequence[RawMessage]], int]
) -> Taken:
    watch = Watch(count)
    results: list[Taken] = []

    async def run() -> None:
        done = asyncio.Event()

        async def on_batch(_topic: str, _partition: int, records: Sequence[RawMessage]) -> None:
            if watch.note(work(records)) and not done.is_set():
                results.append(watch.taken())
                done.set()

        async def on_moved(_where: set[Where]) -> None:
            return

        app = ConsumerApp(
            KafkaSettings(bootstrap=bootstrap, partitions=partitions, replication=1),
            group=f"bench-ours-{os.getpid()}",
            topics=[topic],
            instance_id="",
            session_s=30.0,
            fetch=FetchSize(4_194_304, 150),
            on_batch=on_batch,
            on_assigned=on_moved,
            on_revoked=on_moved,
        )
        await app.start()
        await asyncio.wait_for(done.wait(), _TIMEOUT_S)
        await app.stop()

    import uvloop  # noqa: PLC0415 - as workers have it

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return results[0]


READERS = {"plain": read_plain, "stock": read_stock, "ours": read_ours, "envelopes": read_envelopes}


def main(kind: str, bootstrap: str, topic: str, partitions: str, count: str) -> None:
    """Read and print what it took, as JSON."""
    taken = READERS[kind](bootstrap, topic, int(partitions), int(count))
    print(msgspec.json.encode(taken).decode(), flush=True)
    os._exit(0)  # clients' threads may outlive their use


if __name__ == "__main__":
    main(*sys.argv[1:])
