"""Send interactions, releases, feedback and labels over Kafka, and lose none of them.

What a broker does not acknowledge in time waits on disk (:mod:`plumbline.spool`) and is sent again, in order,
by this process or by the next one. A record may then arrive twice; the monitor knows it by its id.
"""

import contextlib
import logging
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from kafka import KafkaProducer
from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient

from plumbline.delivery import ClientError, Refused, Verdict
from plumbline.kafka_delivery import Outcome, SpooledDelivery
from plumbline.recorder import EventTime, Recorder
from plumbline.spool import SpoolError, SpoolFullError, Waiting, take_spools

__all__ = [
    "ClientError",
    "EventTime",
    "KafkaClient",
    "Refused",
    "SpoolError",
    "SpoolFullError",
    "Verdict",
]

_log = logging.getLogger("plumbline.kafka")
# kafka-python warns of every attempt; without a handler that would go to stderr.
logging.getLogger("kafka").addHandler(logging.NullHandler())

_ROOM_BYTES: Final = 65_536
_RECONNECT_MS: Final = 500
_BOOTSTRAP_S: Final = 5.0
_AGAIN_S: Final = 0.2
_NEVER: Final = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
)
Mechanism = Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class KafkaClient(Recorder):
    """The client of :mod:`plumbline.client` over Kafka: the same calls, to the topic of submissions.

    A verdict says ``accepted`` once the broker has the record on all replicas it asks for or, with the code
    ``spooled``, once it is on this disk. What the monitor's door thinks of it is not known here: what it
    refuses becomes a dead letter. Safe to use from several threads; make one per process, after a fork.

    Parameters
    ----------
    bootstrap
        Brokers as host:port with commas between.
    spool_dir
        Where records wait when the broker is away; several processes may share it. It then holds what was
        sent, unredacted, readable by its owner.
    prefix
        Of the monitor's topics.
    strict
        Raise :class:`Refused` when a record is too large, instead of only returning its verdict.
    delivery_timeout_s
        How long a call waits for the broker before its records are spooled; at least 1.
    spool_max_bytes
        The bound on the spool of this process; at it, calls raise.
    max_record_bytes
        Of the largest record the monitor takes.
    tls
        How to speak TLS; None for plain text.
    sasl_mechanism, username, password
        PLAIN (with TLS only) or SCRAM; empty for none.
    producer
        For tests: what makes the producer.

    Raises
    ------
    ValueError
        For no broker, a password that would go out in plain text, or one without its name.
    SpoolError
        If the spool cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> client = KafkaClient("127.0.0.1:1", spool_dir=folder.name, delivery_timeout_s=1)
    >>> client.record(deployment="support", release="2.3", prompt="Hi", response="Hello!", id="42").code
    'spooled'
    >>> client.close(timeout_s=0)
    1
    >>> folder.cleanup()
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        spool_dir: Path | str,
        prefix: str = "plumbline",
        strict: bool = False,
        delivery_timeout_s: float = 10.0,
        spool_max_bytes: int = 1_073_741_824,
        max_record_bytes: int = 1_048_576,
        tls: ssl.SSLContext | None = None,
        sasl_mechanism: Mechanism = "",
        username: str = "",
        password: str = "",
        producer: Callable[..., KafkaProducer] = KafkaProducer,
    ) -> None:
        brokers = [part.strip() for part in bootstrap.split(",") if part.strip()]
        if not brokers:
            raise ValueError("bootstrap names no broker: write host:port")
        options = _promises(max(1.0, delivery_timeout_s), max_record_bytes)
        options |= _access(tls, sasl_mechanism, username, password)
        self._broker = _Broker(
            producer,
            {"bootstrap_servers": brokers, "client_id": "plumbline", **options},
            topic=f"{prefix}.submissions.v1",
            timeout_s=max(1.0, delivery_timeout_s),
        )
        spools = take_spools(Path(spool_dir), max_bytes=spool_max_bytes)
        self._spooled = SpooledDelivery(
            self._broker.post, spools, strict=strict, max_record_bytes=max_record_bytes
        )
        super().__init__(self._spooled)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def spooled(self) -> int:
        """How many records wait on disk for the broker, those that ended processes left included."""
        return self._spooled.spooled

    def close(self, timeout_s: float = 10.0) -> int:
        """Send what waits for up to `timeout_s`, stop, and return how many records still wait on disk.

        They are sent by the next client that is given the same `spool_dir`.
        """
        left = self._spooled.close(timeout_s)
        self._broker.close()
        return left


class _Masked(str):
    """A password that a library may log by accident."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def _promises(timeout_s: float, max_record_bytes: int) -> dict[str, Any]:
    """Return what makes an acknowledged record one that is there, once, within a time."""
    return {
        "acks": "all",
        "enable_idempotence": True,
        "delivery_timeout_ms": round(timeout_s * 1000),
        "request_timeout_ms": round(timeout_s * 500),
        "max_block_ms": round(timeout_s * 1000),
        "bootstrap_timeout_ms": round(min(timeout_s, _BOOTSTRAP_S) * 1000),
        "reconnect_backoff_max_ms": _RECONNECT_MS,
        "max_request_size": max_record_bytes + _ROOM_BYTES,
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }


def _access(tls: ssl.SSLContext | None, mechanism: Mechanism, username: str, password: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "security_protocol": ("SASL_" if mechanism else "") + ("SSL" if tls else "PLAINTEXT")
    }
    if tls is not None:
        options["ssl_context"] = tls
    if not mechanism:
        if username or password:
            raise ValueError("a user is named and sasl_mechanism is empty: set it, or drop the user")
        return options
    if mechanism == "PLAIN" and tls is None:
        raise ValueError("PLAIN without TLS shows the password: give tls a context")
    if not username or not password:
        raise ValueError(f"{mechanism} needs username and password")
    return options | {
        "sasl_mechanism": mechanism,
        "sasl_plain_username": username,
        "sasl_plain_password": _Masked(password),
    }


class _Broker:
    """The producer, made when it is needed and made anew when it has failed."""

    def __init__(
        self, make: Callable[..., KafkaProducer], options: dict[str, Any], *, topic: str, timeout_s: float
    ) -> None:
        self._make, self._options, self._topic, self._timeout_s = make, options, topic, timeout_s
        self._mutex = threading.Lock()
        self._producer: KafkaProducer | None = None
        self._is_away = False
        self._not_before = 0.0

    def post(self, records: Sequence[Waiting]) -> list[Outcome]:
        """Send `records` in order and return what became of each."""
        until = time.monotonic() + self._timeout_s
        try:
            producer = self._connected()
        except (kafka_errors.KafkaError, OSError) as error:
            self._say(error)
            return ["kept"] * len(records)
        futures = self._begin(producer, records)
        outcomes = [self._finish(future, until) for future in futures]
        if "kept" in outcomes:
            self._discard(producer)
        elif self._is_away:
            self._is_away = False
            _log.warning("the broker takes records again")
        return outcomes

    def _begin(self, producer: KafkaProducer, records: Sequence[Waiting]) -> list[Any]:
        """Return a future for each of `records`, or the error in its place."""
        begun: list[Any] = []
        failure: Exception | None = None
        for record in records:
            headers = [("kind", record.kind.encode())]
            try:
                begun.append(
                    failure or producer.send(self._topic, record.value, key=record.key, headers=headers)
                )
            except kafka_errors.KafkaError as error:
                begun.append(error)
                failure = None if isinstance(error, _NEVER) else error  # those behind it must not overtake it
        return begun

    def _finish(self, begun: Any, until: float) -> Outcome:
        try:
            if isinstance(begun, Exception):
                raise begun
            begun.get(timeout=max(0.0, until - time.monotonic()))
        except _NEVER:
            return "never"
        except kafka_errors.KafkaError as error:
            self._say(error)
            return "kept"
        return "sent"

    def _connected(self) -> KafkaProducer:
        with self._mutex:
            if self._producer is None:
                if time.monotonic() < self._not_before:
                    raise kafka_errors.KafkaConnectionError
                _quieten()
                try:
                    self._producer = _start(self._make, self._options)
                finally:
                    self._not_before = time.monotonic() + _AGAIN_S
            return self._producer

    def _discard(self, producer: KafkaProducer) -> None:
        with self._mutex:
            if self._producer is producer:
                self._producer = None
                _stop(producer, 0.0)

    def _say(self, error: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            _log.warning("the broker takes no records (%s): they wait on disk", type(error).__name__)

    def close(self) -> None:
        """Close the connections."""
        with self._mutex:
            if self._producer is not None:
                _stop(self._producer, 1.0)
                self._producer = None


def _start(make: Callable[..., KafkaProducer], options: dict[str, Any]) -> KafkaProducer:
    made: list[KafkaNetClient] = []

    def connect(**configuration: Any) -> KafkaNetClient:
        made.append(KafkaNetClient(**configuration))
        return made[0]

    try:
        return make(**options, kafka_client=connect)
    except BaseException:
        # The producer connects while it is made; when that fails nobody else can end its thread.
        for client in made:
            client._net.stop()  # noqa: SLF001 - there is no other way
            client.close()
        raise


def _stop(producer: KafkaProducer, timeout_s: float) -> None:
    """End `producer` and its thread, whatever it still has to do."""
    with contextlib.suppress(kafka_errors.KafkaError):
        producer.close(timeout=timeout_s)
        return
    producer._sender.force_close()  # noqa: SLF001 - close gives up when something is left to send


def _quieten() -> None:
    """Keep kafka-python from logging passwords and records, which it does at debug level."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "kafka"]
    for name in names:
        logger = logging.getLogger(name)
        logger.setLevel(max(logging.INFO, logger.getEffectiveLevel()))
