"""Sends the load through the producer client, never further ahead of admission than the lateness covers."""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError

from plumbline import KafkaClient
from plumbline.kafka_client import ClientError
from streams.kafka.layout import SUBMISSIONS, topic_name
from streams.settings import KafkaSettings
from tests.chaos.kafka_load import Message

_CHUNK = 100
_LOOK_S = 0.25
_AGAIN_S = 0.5
_DELIVERY_S = 4.0
_TRICKLE = 0.1


class Sender:
    """Sends messages from a thread of its own between ``with`` and its end.

    What is no record of ours goes out as raw bytes, by a producer that never sends one twice: a dead letter
    must then be there once. All else goes through :class:`KafkaClient`, which sends again when in doubt.

    Parameters
    ----------
    settings
        The brokers and the topics' prefix.
    spool_dir
        Where the client keeps what the broker does not take.
    rate
        Submissions a second, at most.
    window
        How many submissions may be sent and not admitted: event time must not run away from a partition
        whose worker is away, or its records would be late.

    Attributes
    ----------
    sent, spooled, refused, held_s
        How many were sent, how many of them by way of the disk, how often the client took none, and for how
        long the window held the sender back.
    """

    def __init__(self, settings: KafkaSettings, spool_dir: Path, *, rate: float, window: int) -> None:
        self._settings, self._rate, self._window = settings, rate, window
        self._topic = topic_name(SUBMISSIONS, settings.topic_prefix)
        self._spool_dir = spool_dir
        self.sent = self.spooled = self.refused = 0
        self.held_s = self._looked_s = 0.0
        self._seen = 0
        self._failures: list[BaseException] = []
        self._admin: KafkaAdminClient | None = None
        self._upto: int | None = None
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._client = KafkaClient(
            self._settings.bootstrap,
            spool_dir=self._spool_dir,
            prefix=self._settings.topic_prefix,
            delivery_timeout_s=_DELIVERY_S,
        )
        self._raw = KafkaProducer(
            bootstrap_servers=self._settings.bootstrap,
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=600_000,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        self._client.close(timeout_s=5.0)
        self._raw.close(timeout=5)
        self._forget_admin()

    def begin(self, messages: Iterable[Message]) -> threading.Thread:
        """Send `messages` in the background; the thread ends when the broker has them all."""
        thread = threading.Thread(target=self._run, args=(iter(messages),), name="sender")
        self._threads.append(thread)
        thread.start()
        return thread

    def slow_down_after(self, upto: int | None) -> None:
        """Send at a tenth of the rate once `upto` were sent; None for never."""
        self._upto = upto

    def check(self) -> None:
        """Raise what went wrong."""
        if self._failures:
            raise self._failures[0]

    def backlog(self) -> int | None:
        """Return how many submissions are sent and not admitted; None while nobody says."""
        kafka = self._settings
        places = [TopicPartition(self._topic, part) for part in range(kafka.partitions)]
        try:
            if self._admin is None:
                self._admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap, request_timeout_ms=5_000)
            group = f"{kafka.topic_prefix}.admit"
            found: dict[Any, Any] = self._admin.list_group_offsets({group: places})[group]
            ends = self._admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
        except (KafkaError, OSError, AssertionError, KeyError, ValueError):
            self._forget_admin()
            return None
        done = sum(max(0, one.offset) for one in found.values())
        return sum(one.offset for one in ends.values()) - done + self._client.spooled

    def _forget_admin(self) -> None:
        if self._admin is not None:
            with contextlib.suppress(Exception):
                self._admin.close()
            self._admin = None

    def _run(self, messages: Iterator[Message]) -> None:
        try:
            due_s = time.monotonic()
            while not self._stop.is_set() and (chunk := list(islice(messages, _CHUNK))):
                self._hold()
                for (kind, bad), run in groupby(chunk, key=lambda one: (one.kind, one.bad)):
                    (self._throw if bad else self._submit)(kind, list(run))
                full = self._upto is None or self.sent < self._upto
                due_s += len(chunk) / (self._rate if full else self._rate * _TRICKLE)
                if (early_s := due_s - time.monotonic()) > 0:
                    self._stop.wait(early_s)
            self._raw.flush()
            while self._client.spooled and not self._stop.is_set():
                self._stop.wait(_LOOK_S)
        except BaseException as error:  # noqa: BLE001 - carried to the test
            self._failures.append(error)

    def _hold(self) -> None:
        """Wait until the window has room."""
        began = time.monotonic()
        while self._behind() >= self._window and not self._stop.is_set():
            self._stop.wait(_LOOK_S)
        self.held_s += time.monotonic() - began

    def _behind(self) -> int:
        """Return the backlog of lately, and what was sent since."""
        if time.monotonic() - self._looked_s > _LOOK_S:
            backlog = self.backlog()
            if backlog is not None:
                self._seen = self.sent - backlog
            self._looked_s = time.monotonic()
        return self.sent - self._seen

    def _submit(self, kind: Any, messages: list[Message]) -> None:
        """Send records through the client, again and again until it takes them."""
        batch = [msgspec.json.decode(message.payload) for message in messages]
        while not self._stop.is_set():
            try:
                verdicts = self._client.submit(kind, batch)
            except ClientError:
                self.refused += 1
                self._stop.wait(_AGAIN_S)
                continue
            assert all(verdict.verdict == "accepted" for verdict in verdicts), verdicts
            self.spooled += sum(verdict.code == "spooled" for verdict in verdicts)
            self.sent += len(batch)
            return

    def _throw(self, kind: str, messages: list[Message]) -> None:
        """Send what nobody can use."""
        for message in messages:
            future = self._raw.send(
                self._topic,
                key=message.key.encode(),
                value=message.payload,
                headers=[("kind", kind.encode())],
            )
            future.add_errback(self._failures.append)
            self.sent += 1
