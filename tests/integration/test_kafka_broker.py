"""The local broker: what it acknowledged is there after kill -9, keys live where we say, codecs are in C."""

import contextlib
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.codec import has_lz4
from kafka.record.util import crc32c_c

from deploy.kafka import Access, LocalBroker, LocalBrokerError, resolve_jars
from detectors.records.ids import partition_of
from streams.kafka.connection import client_options
from streams.kafka.layout import plan_topics, topic_name
from streams.kafka.topics import TopicAdmin
from streams.settings import KafkaSettings

# One worker runs them all, so that they share their brokers.
pytestmark = pytest.mark.xdist_group("kafka")


@contextlib.contextmanager
def producer(settings: KafkaSettings, **options: Any) -> Iterator[KafkaProducer]:
    made = KafkaProducer(**client_options(settings), acks="all", reconnect_backoff_max_ms=500, **options)
    try:
        yield made
    finally:
        made.close()


def everything_in(settings: KafkaSettings, topic: str) -> dict[tuple[int, int], Any]:
    """Return all records of `topic` by (partition, offset)."""
    consumer = KafkaConsumer(
        **client_options(settings), auto_offset_reset="earliest", enable_auto_commit=False
    )
    try:
        partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        found = {}
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for records in consumer.poll(timeout_ms=1_000).values():
                found.update({(record.partition, record.offset): record for record in records})
        return found
    finally:
        consumer.close()


def make_topics(bootstrap: str, prefix: str) -> KafkaSettings:
    settings = KafkaSettings(bootstrap=bootstrap, topic_prefix=prefix, partitions=4, replication=1)
    with TopicAdmin(settings) as admin:
        assert len(admin.create()) == len(plan_topics(settings))
    return settings


def test_what_was_acknowledged_is_there_after_kill_nine(own_broker: LocalBroker, topic_prefix: str) -> None:
    settings = make_topics(own_broker.bootstrap, topic_prefix)
    topic = topic_name("interactions", topic_prefix)
    address = own_broker.bootstrap
    values = [str(number).encode() for number in range(2_000)]
    with producer(settings, compression_type="lz4", linger_ms=0, delivery_timeout_ms=60_000) as sender:
        futures = [sender.send(topic, key=value, value=value) for value in values]
        # Some are acknowledged, some are on their way: the producer sends those again, and each counts once.
        first = [future.get(timeout=30) for future in futures[:200]]
        own_broker.kill()
        assert not own_broker.running
        own_broker.start()
        placed = [*first, *(future.get(timeout=60) for future in futures[200:])]
    assert own_broker.bootstrap == address
    acknowledged = {(at.partition, at.offset): value for at, value in zip(placed, values, strict=True)}
    found = everything_in(settings, topic)
    assert {place: record.value for place, record in found.items()} == acknowledged
    with TopicAdmin(settings) as admin:
        assert admin.create() == ()


def test_a_key_lives_where_the_embedded_journal_puts_it(kafka_bootstrap: str, topic_prefix: str) -> None:
    settings = make_topics(kafka_bootstrap, topic_prefix)
    topic = topic_name("scorecards", topic_prefix)
    rng = random.Random(7)
    planes = ((32, 127), (160, 0xD7FF), (0x1_0000, 0x10_FFFF))
    keys = [
        "".join(chr(rng.randrange(*rng.choice(planes))) for _ in range(rng.randrange(1, 40)))
        for _ in range(1_000)
    ]
    with producer(settings, compression_type="lz4") as sender:
        futures = [sender.send(topic, key=key.encode(), value=b"x") for key in keys]
        placed = [future.get(timeout=30).partition for future in futures]
    assert placed == [partition_of(key, settings.partitions) for key in keys]
    assert set(placed) == set(range(settings.partitions))
    found = everything_in(settings, topic)
    assert sorted(record.key.decode() for record in found.values()) == sorted(keys)
    assert all(partition_of(record.key.decode(), 4) == partition for (partition, _), record in found.items())


def test_checksums_and_compression_are_in_c() -> None:
    assert crc32c_c is not None
    assert crc32c_c(b"123456789") == 0xE3069283
    assert has_lz4()


def test_a_taken_port_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        broker = LocalBroker(tmp_path, port=taken.getsockname()[1])
        with pytest.raises(LocalBrokerError, match=r"^port \d+ is in use: choose another"):
            broker.start()
    assert not broker.running


def test_without_maven_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalBrokerError, match="mvn is not on the path: install it"):
        resolve_jars(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]


def test_the_jars_are_resolved_once(jars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert resolve_jars() == jars
    assert list(jars.glob("kafka_2.13-*.jar"))


def test_passwords_show_nowhere(secured_broker: LocalBroker, access: Access) -> None:
    assert not any(password in repr(access) for password in access.users.values())
    listing = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
    log = secured_broker.log.read_text(encoding="utf-8")
    assert "kafka.Kafka" in listing
    assert not any(password in listing + log for password in access.users.values())
    private = secured_broker.log.parent / "server.properties"
    assert private.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("password", ["", 'a"; b="', "a\nb", "ä"])
def test_access_refuses_what_a_configuration_could_misread(password: str) -> None:
    with pytest.raises(ValueError, match="names and passwords"):
        Access(users={"admin": password}, superuser="admin")


def test_in_the_foreground_it_says_its_address_and_ends_on_sigterm(tmp_path: Path, jars: Path) -> None:
    command = [sys.executable, "-m", "deploy.kafka", "--port", "0", "--directory", str(tmp_path / "kafka")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host, _, port = process.stdout.readline().split()[1].partition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
        process.terminate()
        assert process.wait(40) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5).close()
