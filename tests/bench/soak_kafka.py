"""Half load for half an hour: how late things are, and whether workers grow.

``make soak-kafka``; ``PLUMBLINE_SOAK_S`` seconds instead of 1,800. First a burst says what this machine can
do, from the first landed scorecard to the last: so long a one that the store merges meanwhile. Half of that
is then sent evenly. Exit code 1 if a bar is missed: produced -> landed p99 at most 2 s (interactions, and
their scorecards), unit closed -> signal p99 at most 0.5 s, both after the first minute, in which broker and
store still compile and merge what the burst left; no worker more than 2 % larger at the end than after five
minutes; and 99 % of that load was sent.
"""

import os
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Producer
from msgspec import Struct

from detectors.records import Signal, Tick
from streams.kafka.envelope import unseal
from streams.kafka.layout import SUBMISSIONS, topic_name
from streams.settings import KafkaSettings
from tests.chaos.kafka_chaos import wait_for_first
from tests.chaos.kafka_load import Load, Message
from tests.chaos.kafka_verdict import values_of
from tests.chaos.kafka_workers import Supervisor
from tests.chaos.kafka_world import World

COUNTS = dict.fromkeys(("admit", "score", "detect", "decide", "act", "land"), 1)
PARTITIONS = 1
"""As many as a stage has workers: each batch takes a transaction, and each insert a part of a core."""
FLUSH_S = 0.5
SOAK_S = float(os.environ.get("PLUMBLINE_SOAK_S", "1800"))
SETTLED_S = min(300.0, SOAK_S / 3)
"""After so long a worker has all that it needs; from then on it may not grow."""
BURST = int(os.environ.get("PLUMBLINE_SOAK_BURST", "200000"))
_WARM_S = min(60.0, SOAK_S / 4)
_UNIT_MS = 10_000
_CHUNK = 50
_PRODUCER = {
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 5,
    "partitioner": "murmur2_random",
    "compression.type": "lz4",
}
_LANDED_S, _SIGNAL_S, _GROWTH, _LOADED = 2.0, 0.5, 0.02, 0.99


class Soaked(Struct, frozen=True):
    """What was measured: seconds at the median and the 99th percentile, and growth by worker.

    ``rate`` is half of what the burst reached, and ``sent_per_s`` what the broker was sent. ``stolen_s``: the
    seconds of its cores that the machine's host gave to others meanwhile, which no worker can answer for.
    """

    rate: float
    sent_per_s: float
    landed_s: tuple[float, float]
    scored_s: tuple[float, float]
    signal_s: tuple[float, float]
    signals: int
    growth: dict[str, float]
    exits: int
    stolen_s: float

    @property
    def kept(self) -> bool:
        """Whether every bar is met, and no worker ended."""
        small = all(grown <= _GROWTH for grown in self.growth.values())
        in_time = max(self.landed_s[1], self.scored_s[1]) <= _LANDED_S and self.signal_s[1] <= _SIGNAL_S
        loaded = self.sent_per_s >= _LOADED * self.rate
        return loaded and small and in_time and self.signals > 0 and not self.exits

    def __str__(self) -> str:
        """Return the report."""
        grown = ", ".join(f"{name} {share:+.1%}" for name, share in sorted(self.growth.items()))
        return (
            f"half load: {self.rate:,.0f} submissions a second for {SOAK_S:.0f} s"
            f" ({self.sent_per_s:,.0f} were sent)\n"
            f"after the first {_WARM_S:.0f} s:\n"
            f"produced -> landed (interaction)  p50 {self.landed_s[0]:.2f} s, p99 {self.landed_s[1]:.2f} s\n"
            f"produced -> landed (scorecard)    p50 {self.scored_s[0]:.2f} s, p99 {self.scored_s[1]:.2f} s\n"
            f"unit closed -> signal             p50 {self.signal_s[0]:.3f} s, p99 {self.signal_s[1]:.3f} s"
            f" ({self.signals} signals)\n"
            f"memory since {SETTLED_S:.0f} s: {grown}\nworkers that ended: {self.exits}\n"
            f"the machine's host kept {self.stolen_s:.1f} s of the cores"
        )


class Sizes:
    """Notes how large every worker is, in a thread of its own: the median of a minute's looks counts."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor, self._ending = supervisor, threading.Event()
        self.seen: dict[str, list[tuple[float, int]]] = {}
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ending.wait(1.0):
            for name, pid in self._supervisor.pids().items():
                try:
                    size = psutil.Process(pid).memory_info().rss
                except psutil.Error:
                    continue
                self.seen.setdefault(name, []).append((time.monotonic(), size))

    def growth(self, settled_s: float) -> dict[str, float]:
        """Stop, and return by how much each worker is larger at the end than at `settled_s`."""
        self._ending.set()
        self._thread.join()
        span_s = min(60.0, SOAK_S / 6)
        found = {}
        for name, looks in self.seen.items():
            last_s = looks[-1][0]
            early = [size for at_s, size in looks if settled_s <= at_s < settled_s + span_s]
            late = [size for at_s, size in looks if at_s > last_s - span_s]
            found[name] = _middle(late) / _middle(early) - 1.0 if early else 0.0
        return found


def _middle(values: list[int]) -> float:
    return float(sorted(values)[len(values) // 2])


class Sender:
    """Sends messages by librdkafka in a thread: the producer client would take a tenth of this machine.

    Attributes
    ----------
    sent
        How many the broker has.
    """

    def __init__(self, kafka: KafkaSettings, messages: Iterable[Message], *, rate: float) -> None:
        self._topic, self._messages, self._rate = topic_name(SUBMISSIONS, kafka.topic_prefix), messages, rate
        self._producer = Producer({**_PRODUCER, "bootstrap.servers": kafka.bootstrap})
        self.sent = 0
        self._failures: list[Exception] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Return when the broker has everything; raise what went wrong."""
        self._thread.join()
        if self._failures:
            raise self._failures[0]

    def _run(self) -> None:
        try:
            due_s = time.monotonic()
            for chunk in _batched(self._messages, _CHUNK):
                for message in chunk:
                    self._send(message)
                due_s += len(chunk) / self._rate
                while (early_s := due_s - time.monotonic()) > 0:
                    self._producer.poll(early_s)
                self._producer.poll(0)
            left = self._producer.flush(60.0)
            self._failures += [RuntimeError(f"{left} messages were not sent")] if left else []
        except Exception as error:  # noqa: BLE001 - join raises it; a daemon, unlike a pool's, ends with us
            self._failures.append(error)

    def _send(self, message: Message) -> None:
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    message.payload,
                    message.key,
                    headers=[("kind", message.kind.encode())],
                    on_delivery=self._note,
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _note(self, error: Any, _: Any) -> None:
        if error is None:
            self.sent += 1
        else:
            self._failures.append(RuntimeError(str(error)))


def _batched(messages: Iterable[Message], size: int) -> Iterator[list[Message]]:
    """Yield lists of up to `size` messages."""
    rest = iter(messages)
    while chunk := list(islice(rest, size)):
        yield chunk


def soak(world: World) -> Soaked:
    """Find the rate, send at half of it, and measure."""
    supervisor = world.supervise()
    kafka = world.settings.kafka
    burst = Load(interactions=BURST, seed=1)
    sender = Sender(kafka, burst.messages(), rate=1e6)
    wait_for_first(world, supervisor)
    began_s, first = time.monotonic(), world.landed()["scorecards"]
    sender.join()
    _wait_landed(world, BURST)
    rate = (BURST - first) / (time.monotonic() - began_s) / 2
    sizes = Sizes(supervisor)
    stolen_s = psutil.cpu_times().steal
    begun_s, warm_ms = time.monotonic(), time.time_ns() // 1_000_000 + round(_WARM_S * 1000)
    # As live: event time passes as time does, from where the burst ended.
    start_ms = burst.event_time_ms(BURST) + _UNIT_MS
    load = Load(interactions=10_000_000, seed=2, rate_per_s=rate, start_ms=start_ms)
    sender = Sender(kafka, _as_long(load, SOAK_S), rate=rate)
    sender.join()
    sent_per_s, stolen_s = sender.sent / SOAK_S, psutil.cpu_times().steal - stolen_s
    growth = sizes.growth(begun_s + SETTLED_S)
    time.sleep(5.0)
    landed = _latency(world, "interactions", warm_ms)
    scored = _latency(world, "scorecards", warm_ms)
    waits = sorted(signal_waits(world, warm_ms))
    exits = len(supervisor.exits)
    signal_s = (_quantile(waits, 0.5), _quantile(waits, 0.99))
    return Soaked(rate, sent_per_s, landed, scored, signal_s, len(waits), growth, exits, stolen_s)


def _as_long(load: Load, seconds: float) -> Iterator[Message]:
    """Yield messages for so many seconds."""
    until_s = time.monotonic() + seconds
    for message in load.messages():
        if time.monotonic() > until_s:
            return
        yield message


def _wait_landed(world: World, count: int) -> None:
    deadline = time.monotonic() + 600
    while world.landed()["scorecards"] < count:
        assert time.monotonic() < deadline, "the burst did not land"
        time.sleep(0.2)


def _latency(world: World, table: str, since_ms: int) -> tuple[float, float]:
    """Return how long records took from the broker's stamp to their row, in seconds."""
    wait = "dateDiff('millisecond', received_at, landed_at)"
    sql = (
        f"SELECT quantileExact(0.5)({wait}) AS p50, quantileExact(0.99)({wait}) AS p99 FROM {table} "  # noqa: S608
        f"WHERE received_at > fromUnixTimestamp64Milli({since_ms})"
    )
    (row,) = world.store.rows(sql)
    return row["p50"] / 1000, row["p99"] / 1000


def signal_waits(world: World, since_ms: int) -> Iterator[float]:
    """Yield for every signal how long after the tick that closed its bucket it was written, in seconds."""
    kafka, lateness_ms = world.settings.kafka, round(world.settings.detect.lateness_s * 1000)
    marks: dict[int, dict[int, int]] = {}
    closed: dict[int, list[tuple[int, int]]] = {}
    for message in values_of(kafka, topic_name("scorecards", kafka.topic_prefix)):
        part, at_ms = message.partition(), message.timestamp()[1]
        known = marks.setdefault(part, {})
        for record in unseal(message.value(), message.headers() or [])[1]:
            if isinstance(record, Tick):
                known[record.source_partition] = max(
                    known.get(record.source_partition, -1), record.watermark_ms
                )
        if len(known) == kafka.partitions:
            until = (min(known.values()) - lateness_ms) // _UNIT_MS * _UNIT_MS
            history = closed.setdefault(part, [])
            if not history or until > history[-1][0]:
                history.append((until, at_ms))
    for message in values_of(kafka, topic_name("signals", kafka.topic_prefix)):
        for record in unseal(message.value(), message.headers() or [])[1]:
            if not isinstance(record, Signal) or message.timestamp()[1] < since_ms:
                continue
            history = closed[message.partition()]
            at = bisect_left(history, (record.at_ms, 0))
            if at < len(history):
                yield (message.timestamp()[1] - history[at][1]) / 1000


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")


def main() -> int:
    """Run once; exit code 1 if a bar is missed."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        World(
            Path(folder),
            Load(interactions=BURST, seed=1),
            counts=COUNTS,
            lateness_share=0.0,
            partitions=PARTITIONS,
            flush_s=FLUSH_S,
            lasting=True,
        ) as world,
    ):
        soaked = soak(world)
    print(soaked)
    print(f"verdict: {'every bar met' if soaked.kept else 'MISSED'}")
    return 0 if soaked.kept else 1


if __name__ == "__main__":
    sys.exit(main())
