"""The producer client on a real broker: killed, started again, and nothing is lost or counted twice."""

import json
import logging
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kafka import KafkaConsumer, TopicPartition

from deploy.kafka import Access, LocalBroker
from detectors.records import Interaction
from detectors.records.ids import partition_of
from detectors.redaction import Redactor
from detectors.stages import Delivery, Output
from plumbline import KafkaClient
from plumbline.keys import submission_key
from streams.cli import plumbline
from streams.kafka.admit import AdmitStage
from streams.kafka.connection import client_options
from streams.kafka.envelope import RawMessage
from streams.kafka.layout import topic_name
from streams.kafka.topics import TopicAdmin
from streams.settings import DoorSettings, KafkaSettings

# One worker runs them all, so that they share their brokers.
pytestmark = pytest.mark.xdist_group("kafka")

ITEM = {"deployment": "support", "release": "r1", "prompt": "hi", "response": "hello"}


def made(**options: Any) -> KafkaSettings:
    settings = KafkaSettings(**{"partitions": 3, "replication": 1, **options})
    with TopicAdmin(settings) as admin:
        admin.create()
    return settings


def submissions(settings: KafkaSettings) -> list[RawMessage]:
    """Return everything in the topic of submissions, partition by partition."""
    consumer = KafkaConsumer(
        **client_options(settings), enable_auto_commit=False, isolation_level="read_committed"
    )
    topic = topic_name("submissions", settings.topic_prefix)
    found = []
    try:
        for number in range(settings.partitions):
            where = TopicPartition(topic, number)
            consumer.assign([where])
            consumer.seek_to_beginning(where)
            end = consumer.end_offsets([where])[where]
            while consumer.position(where) < end:
                for one in consumer.poll(timeout_ms=1_000).get(where, ()):
                    headers = tuple(one.headers)
                    found.append(
                        RawMessage(topic, number, one.offset, one.timestamp, one.key, one.value, headers)
                    )
    finally:
        consumer.close()
    return found


def admit(settings: KafkaSettings, messages: list[RawMessage]) -> tuple[list[str], dict[str, Any]]:
    """Return the ids that the door lets in, and what it counts."""
    door = AdmitStage(
        door=DoorSettings(),
        redactor=Redactor(),
        user_key=b"k" * 32,
        partitions=settings.partitions,
        recent_ids=100_000,
    )
    ids: list[str] = []
    counts: Counter[str] = Counter()
    for number in range(settings.partitions):
        batch = [Delivery(number, one.offset, one) for one in messages if one.partition == number]  # type: ignore[arg-type]
        state, outputs = door.step(door.restore(number, {}), batch)
        records = [one.record for one in outputs if isinstance(one, Output)]
        ids += [record.raw_id for record in records if isinstance(record, Interaction)]
        counts.update({kind: sum(by.values()) for kind, by in state.counts.items()})
    return ids, dict(counts)


def test_records_go_where_their_key_says_with_the_brokers_time(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    settings = made(bootstrap=kafka_bootstrap, topic_prefix=topic_prefix)
    before_ms = int(time.time() * 1000)
    with KafkaClient(kafka_bootstrap, spool_dir=tmp_path, prefix=topic_prefix) as client:
        verdicts = client.send({**ITEM, "id": str(at), "user": f"u{at % 5}"} for at in range(60))
        client.record(**ITEM, id="one", history=[{"role": "user", "text": "before"}])
        client.feedback(deployment="support", interaction_id="1", kind="thumb", value=1)
        client.label(deployment="support", interaction_id="1", metric="m", value=0.5, rater="r")
        client.declare_release(deployment="support", release="r1", role="stable")
        assert client.spooled == 0
    assert {one.code for one in verdicts} == {""}
    found = submissions(settings)
    kinds = Counter(dict(one.headers)["kind"] for one in found)
    assert kinds == {b"interaction": 61, b"feedback": 1, b"label": 1, b"release": 1}
    for one in found:
        fields = json.loads(one.value or b"")
        key = submission_key(dict(one.headers)["kind"].decode(), fields)  # type: ignore[arg-type]
        assert one.key == key.encode()
        assert one.partition == partition_of(key, settings.partitions)
        assert before_ms - 1_000 <= one.timestamp_ms <= time.time() * 1000 + 1_000
    assert admit(settings, found)[1] == {"accepted": 64}


def test_a_broker_killed_while_producing_loses_and_doubles_nothing(
    own_broker: LocalBroker, tmp_path: Path
) -> None:
    settings = made(bootstrap=own_broker.bootstrap, topic_prefix="killed")
    client = KafkaClient(
        own_broker.bootstrap, spool_dir=tmp_path / "spool", prefix="killed", delivery_timeout_s=2
    )
    stop = threading.Event()
    taken: list[list[str]] = [[], []]

    def produce(thread: int) -> None:
        while not stop.wait(0.02):
            ids = [f"{thread}-{len(taken[thread]) + at}" for at in range(5)]
            fields = {**ITEM, "conversation": f"c{thread}"}
            verdicts = client.send(
                {**fields, "id": one, "event_time": time.time_ns() // 10**6} for one in ids
            )
            assert {one.verdict for one in verdicts} == {"accepted"}
            taken[thread] += ids

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            time.sleep(1.0)
            own_broker.kill()
            until = time.monotonic() + 20
            while not client.spooled and time.monotonic() < until:
                time.sleep(0.05)
            assert client.spooled
            own_broker.start()
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert client.close(60) == 0
    found = submissions(settings)
    ids, counts = admit(settings, found)
    assert Counter(ids) == Counter(one for part in taken for one in part)
    assert counts.get("dead_letter", 0) == 0
    assert counts["accepted"] == len(ids) > 100
    assert sorted(path.name for path in (tmp_path / "spool" / "queue-0000").iterdir()) == ["cursor", "lock"]


_CRASHES = """
import sys, time
from plumbline import KafkaClient
client = KafkaClient(sys.argv[1], spool_dir=sys.argv[2], prefix=sys.argv[3], delivery_timeout_s=1)
item = {"deployment": "d", "release": "r", "prompt": "p", "response": "a"}
number = 0
while True:
    (verdict,) = client.send([{**item, "id": str(number)}])
    print(number, verdict.code, flush=True)
    number += 1
"""


def test_a_producer_killed_beside_its_broker_leaves_nothing_behind(
    own_broker: LocalBroker, tmp_path: Path
) -> None:
    settings = made(bootstrap=own_broker.bootstrap, topic_prefix="crash", partitions=1)
    program = [sys.executable, "-c", _CRASHES, own_broker.bootstrap, str(tmp_path), "crash"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            told.append(line.split())
            if len(told) == 20:
                own_broker.kill()
            if len([one for one in told if one[1:] == ["spooled"]]) == 30:
                process.send_signal(signal.SIGKILL)
                break
        told += [line.split() for line in process.stdout]
    own_broker.start()
    with KafkaClient(own_broker.bootstrap, spool_dir=tmp_path, prefix="crash") as client:
        assert client.close(60) == 0
    ids, _ = admit(settings, submissions(settings))
    accepted = [one[0] for one in told if one]
    # What it was told about is there, once; of what it was about to be told, at most the last.
    assert ids[: len(accepted)] == accepted
    assert len(ids) <= len(accepted) + 1


def test_the_command_sends_a_file_once_however_often_it_runs(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    settings = made(bootstrap=kafka_bootstrap, topic_prefix=topic_prefix)
    config = tmp_path / "plumbline.toml"
    config.write_text(
        f'data_dir = "{tmp_path / "data"}"\n[kafka]\nbootstrap = "{kafka_bootstrap}"\n'
        f'topic_prefix = "{topic_prefix}"\npartitions = 3\nreplication = 1\n'
    )
    lines = [json.dumps({"q": f"prompt {at % 7}", "a": "answer", "who": f"u{at}"}) for at in range(200)]
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join([*lines, "{kaninchen", '{"q": 1}', ""]))
    arguments = ["produce", str(file), "-c", str(config), "--deployment", "d", "--release", "r", "--json"]
    arguments += ["--map", "prompt=q", "--map", "response=a", "--map", "user=who"]
    for _ in range(2):
        done = CliRunner().invoke(plumbline, arguments)
        assert done.exit_code == 1
        told = json.loads(done.stdout)
        assert told == {"accepted": 200, "refused": {"mapping_failed": 2}, "waiting": 0}
        assert "line 201: not JSON" in done.stderr
        assert "kaninchen" not in done.output
    ids, counts = admit(settings, submissions(settings))
    assert (len(ids), counts) == (200, {"accepted": 200, "duplicate": 200})


def test_the_command_without_a_broker_keeps_everything_for_the_next(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    settings = made(bootstrap=kafka_bootstrap, topic_prefix=topic_prefix)
    config = tmp_path / "plumbline.toml"
    config.write_text(f'data_dir = "{tmp_path}"\n[kafka]\ntopic_prefix = "{topic_prefix}"\n')
    lines = "".join(json.dumps({**ITEM, "id": str(at)}) + "\n" for at in range(5))
    away = ["produce", "-", "-c", str(config), "--bootstrap", "127.0.0.1:1", "--wait-s", "0"]
    done = CliRunner().invoke(plumbline, away, input=lines)
    assert (done.exit_code, done.stdout) == (1, "5 accepted, 0 refused, 5 wait for the broker\n")
    assert "5 records wait in" in done.stderr
    back = ["produce", "-", "-c", str(config), "--bootstrap", kafka_bootstrap]
    done = CliRunner().invoke(plumbline, back, input="")
    assert (done.exit_code, done.stdout) == (0, "0 accepted, 0 refused, 0 wait for the broker\n")
    assert sorted(admit(settings, submissions(settings))[0]) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_a_password_over_tls_gets_in_and_is_logged_nowhere(  # noqa: PLR0917 - fixtures
    secured_broker: LocalBroker,
    access: Access,
    topic_prefix: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    mechanism: Any,
) -> None:
    monkeypatch.setenv("KAFKA_TEST_ADMIN", access.users["admin"])
    ca = secured_broker.certificates / "ca.pem"
    made(
        bootstrap=secured_broker.bootstrap,
        topic_prefix=topic_prefix,
        partitions=1,
        tls=True,
        tls_ca_file=str(ca),
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="admin",
        sasl_password_env="KAFKA_TEST_ADMIN",
    )
    caplog.set_level(logging.DEBUG)
    with KafkaClient(
        secured_broker.bootstrap,
        spool_dir=tmp_path,
        prefix=topic_prefix,
        tls=ssl.create_default_context(cafile=ca),
        sasl_mechanism=mechanism,
        username="admin",
        password=access.users["admin"],
        delivery_timeout_s=4,
    ) as client:
        verdict = client.record(**{**ITEM, "prompt": "kaninchen"})
        client.close(0)
    # A mechanism that this broker does not offer loses nothing either.
    assert verdict.code == ("" if mechanism == "SCRAM-SHA-512" else "spooled")
    assert access.users["admin"] not in caplog.text
    assert "kaninchen" not in caplog.text
