"""Records that grow when they are unpacked: one dead letter or a refusal, and the partition goes on."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer
from kafka import errors as kafka_errors

from streams.kafka.dead_letters import LEFT_BEHIND, read_dead_letter
from streams.kafka.envelope import read_records
from streams.kafka.layout import dead_letter_name, topic_name
from streams.kafka.topics import TopicAdmin
from streams.settings import KafkaSettings
from tests.integration.reading import read_topic
from tests.integration.shrinking import shrink

pytestmark = pytest.mark.xdist_group("kafka")
GOOD = msgspec.json.encode(
    {"id": "1", "deployment": "support", "release": "r1", "prompt": "hi", "response": "hello"}
)


@pytest.fixture
def kafka(kafka_bootstrap: str, topic_prefix: str) -> KafkaSettings:
    made = KafkaSettings(bootstrap=kafka_bootstrap, topic_prefix=topic_prefix, partitions=1, replication=1)
    with TopicAdmin(made) as admin:
        admin.create()
    return made


def send(kafka: KafkaSettings, value: bytes) -> None:
    with KafkaProducer(
        bootstrap_servers=kafka.bootstrap, compression_type="gzip", max_request_size=200_000_000
    ) as producer:
        producer.send(topic_name("submissions", kafka.topic_prefix), value, key=b"k").get(30)


@contextmanager
def admit_worker(kafka: KafkaSettings, folder: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a worker, which writes what it says to `folder`/log."""
    (folder / "user.key").write_bytes(b"k" * 32)
    (folder / "user.key").chmod(0o600)
    config = folder / "plumbline.toml"
    config.write_text(
        f'data_dir = "{folder / "data"}"\n[door]\nuser_key_file = "{folder / "user.key"}"\n'
        f'[kafka]\nbootstrap = "{kafka.bootstrap}"\ntopic_prefix = "{kafka.topic_prefix}"\n'
        "partitions = 1\nreplication = 1\n[worker]\nsession_s = 6\n",
        encoding="utf-8",
    )
    program = "from streams.cli import main; main()"
    with (folder / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-c", program, "worker", "--stages", "admit", "-c", str(config)],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def until_admitted(kafka: KafkaSettings, worker: "subprocess.Popen[bytes]") -> list[str]:
    """Return the prompts of what was admitted, once something was or the worker has ended."""
    until_s, found = time.monotonic() + 60, []
    while not found and time.monotonic() < until_s:
        ended = worker.poll() is not None
        found = [
            one.prompt  # type: ignore[union-attr]
            for row in read_topic(kafka, topic_name("interactions", kafka.topic_prefix))
            for one in read_records(row.value)
        ]
        if ended:
            break
        time.sleep(0.3)
    return found


def test_a_record_larger_than_any_message_does_not_stop_admit(kafka: KafkaSettings, tmp_path: Path) -> None:
    send(kafka, b"[" * 8_000_000)
    send(kafka, GOOD)
    with admit_worker(kafka, tmp_path) as worker:
        admitted = until_admitted(kafka, worker)
        assert admitted == ["hi"], (tmp_path / "log").read_text()[-1_000:]
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(40) == 0
    (row,) = read_topic(kafka, dead_letter_name(topic_name("submissions", kafka.topic_prefix)))
    letter = read_dead_letter(row.headers, row.value, row.key)
    assert (letter.reason, letter.value, letter.key, letter.offset) == (LEFT_BEHIND, None, b"k", 0)
    assert dict(row.headers)["plumbline-dlq-value-bytes"] == b"8000000"


def test_what_unpacks_to_far_more_than_it_weighs_is_refused_to_its_sender(kafka: KafkaSettings) -> None:
    with pytest.raises(kafka_errors.MessageSizeTooLargeError):
        send(kafka, bytes(80_000_000))  # 80 kB as gzip


def test_a_refused_output_ends_the_worker_with_one_line_and_nothing_beside(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    interactions = topic_name("interactions", kafka.topic_prefix)
    with admit_worker(kafka, tmp_path) as worker:
        send(kafka, GOOD)
        assert until_admitted(kafka, worker) == ["hi"]
        shrink(kafka.bootstrap, interactions, 1_000)
        noise = random.Random(7).randbytes(50_000).hex()
        send(kafka, msgspec.json.encode({**msgspec.json.decode(GOOD), "id": "2", "prompt": noise}))
        assert worker.wait(60) == 1
    lines = [line for line in (tmp_path / "log").read_text().splitlines() if " INFO " not in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("plumbline: admit: kafka: ")
    assert "max.message.bytes" in lines[0]
    assert until_admitted(kafka, worker) == ["hi"]
