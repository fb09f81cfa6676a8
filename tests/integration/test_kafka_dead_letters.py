"""Poison through the real doors: neighbours kept, one dead letter each, sent again it counts once."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from detectors.records import Interaction
from streams.cli import plumbline
from streams.kafka.dead_letter_log import DeadLetterLog
from streams.kafka.envelope import read_records
from streams.kafka.errors import BrokerError
from streams.kafka.topics import TopicAdmin
from streams.settings import KafkaSettings, load_settings

# One worker runs them all, so that they share their brokers.
pytestmark = pytest.mark.xdist_group("kafka")

ITEM = {"deployment": "support", "release": "r1", "prompt": "hi", "response": "hello"}
OLD = json.dumps({**ITEM, "prompt": "an old one", "event_time": 7}).encode()
POISON = [b"\x1b[2J{", b"\xff\xfe", b"[]", b"{}", b"\0", json.dumps({**ITEM, "user": 7}).encode()]


class World:
    """A configuration, its topics, and one foreign topic with partitions of its own."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path) -> None:
        self.process: subprocess.Popen[bytes]
        self.prefix, self.foreign, self.folder = prefix, f"{prefix}-chats", folder
        self.kafka = KafkaSettings(bootstrap=bootstrap, topic_prefix=prefix, partitions=3, replication=1)
        (folder / "user.key").write_bytes(b"k" * 32)
        self.config = folder / "plumbline.toml"
        self.write(clamp=True)
        with TopicAdmin(self.kafka, load_settings(self.config).foreign) as admin:
            admin.create()
        with KafkaAdminClient(bootstrap_servers=bootstrap) as client:
            client.create_topics(
                {self.foreign: {"num_partitions": 5, "replication_factor": 1}}, wait_for_metadata=True
            )

    def write(self, *, clamp: bool) -> None:
        self.config.write_text(
            f'data_dir = "{self.folder / "data"}"\n'
            f'[door]\nuser_key_file = "{self.folder / "user.key"}"\nclamp = {json.dumps(clamp)}\n'
            f'[kafka]\nbootstrap = "{self.kafka.bootstrap}"\ntopic_prefix = "{self.prefix}"\n'
            "partitions = 3\nreplication = 1\n[worker]\nsession_s = 6\n"
            f'[[foreign]]\ntopic = "{self.foreign}"\nmapping = {{prompt = "q.0", response = "a"}}\n'
            'constants = {deployment = "support", release = "r1"}\n'
        )

    def produce(self, topic: str, partition: int, values: list[bytes], header: str = "trace") -> None:
        producer = KafkaProducer(bootstrap_servers=self.kafka.bootstrap, reconnect_backoff_max_ms=500)
        for at, value in enumerate(values):
            headers = [("kind", b"interaction"), (header, f"{at}".encode())]
            producer.send(topic, value, key=f"k{at}".encode(), headers=headers, partition=partition)
        producer.flush(30)
        producer.close()

    def read(self, topic: str) -> Iterator[Any]:
        """Yield what is committed in `topic` now."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.kafka.bootstrap,
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        try:
            for number in consumer.partitions_for_topic(topic) or ():
                where = TopicPartition(topic, number)
                consumer.assign([where])
                consumer.seek_to_beginning(where)
                end = consumer.end_offsets([where])[where]
                while consumer.position(where) < end:
                    yield from consumer.poll(timeout_ms=500).get(where, ())
        finally:
            consumer.close()

    def prompts(self) -> list[str]:
        records = [
            record
            for one in self.read(f"{self.prefix}.interactions.v1")
            for record in read_records(one.value)
        ]
        return sorted(record.prompt for record in records if isinstance(record, Interaction))

    def letters(self) -> list[dict[str, Any]]:
        done = self.call("list", "--json")
        assert done.exit_code == 0, done.output
        return [msgspec.json.decode(line) for line in done.stdout.splitlines()]

    def call(self, *arguments: str) -> Any:
        verb, *more = arguments
        return CliRunner().invoke(plumbline, ["deadletters", verb, *more, "-c", str(self.config)])

    @contextmanager
    def workers(self) -> Iterator[None]:
        """Run the doors, end them in order, and want that they end well."""
        program = "from streams.cli import main; main()"
        stages = ["worker", "--stages", "normalise,admit", "-c", str(self.config)]
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", program, *stages], stdout=log, stderr=subprocess.STDOUT
            )
        self.process = process
        try:
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(40) == 0, (self.folder / "worker.log").read_text()[-2_000:]
        finally:
            process.kill()
            process.wait()

    def until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not is_so():
            is_well = self.process.poll() is None and time.monotonic() < deadline
            assert is_well, (self.folder / "worker.log").read_text()[-2_000:]
            time.sleep(0.3)


@pytest.fixture
def world(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> World:
    return World(kafka_bootstrap, topic_prefix, tmp_path)


def test_poison_costs_itself_alone_and_sent_again_counts_once(world: World) -> None:
    submissions = f"{world.prefix}.submissions.v1"
    good = [json.dumps({**ITEM, "prompt": f"s{at}"}).encode() for at in range(len(POISON) + 1)]
    mixed = [value for pair in zip(good, POISON, strict=False) for value in pair] + [good[-1], OLD]
    world.produce(submissions, 1, mixed)
    chats = [json.dumps({"q": [f"f{at}"], "a": "hello"}).encode() for at in range(4)]
    world.produce(world.foreign, 4, [POISON[0], *chats[:2], b'{"q":[]}', *chats[2:]])
    expected = sorted([f"s{at}" for at in range(len(good))] + [f"f{at}" for at in range(4)])
    bad = {
        f"{submissions}/1/{at}": value for at, value in enumerate(mixed) if value in POISON or value == OLD
    }
    bad |= {f"{world.foreign}/4/0": POISON[0], f"{world.foreign}/4/3": b'{"q":[]}'}

    with world.workers():
        world.until(lambda: len(world.prompts()) >= len(expected) and len(world.letters()) >= len(bad))
    assert world.prompts() == expected
    letters = world.letters()
    assert sorted(one["origin"] for one in letters) == sorted(bad)
    assert {one["redrives"] for one in letters} == {0}
    originals = {}
    for topic in (submissions, world.foreign):
        for record in world.read(f"{topic}.dlq"):
            headers = dict(record.headers)
            place = "/".join(
                headers[f"plumbline-dlq-{name}"].decode() for name in ("topic", "partition", "offset")
            )
            originals[place] = record.value
            assert record.key == f"k{headers['trace'].decode()}".encode()
    assert originals == bad

    # Sent again, in two parts; what was sent is not sent once more unless somebody asks for that.
    world.write(clamp=False)
    for options, sent, before in (
        (("--limit", "3"), 3, 0),
        ((), len(bad) - 3, 3),
        ((), 0, len(bad)),
        (("--again",), len(bad), 0),
    ):
        done = world.call("redrive", "--json", *options)
        told = msgspec.json.decode(done.stdout)
        assert (told["sent"], told["sent_before"], told["kept"], done.exit_code) == (sent, before, {}, 0)
    assert len(world.letters()) == len(bad)
    with world.workers():
        again = 2 * (len(bad) - 1)
        world.until(lambda: len(world.letters()) >= len(bad) + again)
    assert world.prompts() == sorted([*expected, "an old one"])
    again_letters = [one for one in world.letters() if one["redrives"]]
    assert {one["redrives"] for one in again_letters} == {1}
    assert len(again_letters) == again
    dry = world.call("redrive", "--dry-run", "--json")
    told = msgspec.json.decode(dry.stdout)
    # Each record once, however often it came back; the one that was taken did not, and was sent.
    assert (told["chosen"], told["sent_before"]) == (len(bad) - 1, 1)


def test_of_two_redrives_at_once_one_sends(world: World) -> None:
    world.produce(f"{world.prefix}.submissions.v1", 0, [b"{"])
    with world.workers():
        world.until(lambda: bool(world.letters()))
    with DeadLetterLog(load_settings(world.config)) as log, ExitStack() as stack:
        first = stack.enter_context(log.redriving())
        letters = list(log.read(log.topics))
        assert msgspec.json.decode(world.call("redrive", "--json").stdout)["sent"] == 1
        told: list[Any] = []
        with pytest.raises(BrokerError, match="another redrive has begun, which ended this one"):
            first.send(letters, told.append)
        assert told == []
    assert len(list(world.read(f"{world.prefix}.submissions.v1"))) == 2


class NotText(str):
    """A header name that goes out as bytes which are no UTF-8."""

    def encode(self, *_: Any, **__: Any) -> bytes:
        return b"\xff\xfe"


def test_letters_are_shown_masked_and_originals_cannot_act(world: World) -> None:
    world.produce(f"{world.prefix}.submissions.v1", 0, [b"\x1b[2Jkaninchen"])
    world.produce(f"{world.prefix}.submissions.v1", 0, [json.dumps(ITEM).encode()], NotText("x"))
    with world.workers():
        world.until(lambda: bool(world.letters()) and bool(world.prompts()))
    assert world.prompts() == ["hi"]
    (letter,) = world.letters()
    masked = world.call("show", letter["place"])
    assert (masked.exit_code, "kaninchen" in masked.output) == (0, False)
    original = world.call("show", letter["place"], "--original")
    assert "value: \\x1b[2Jkaninchen" in original.output
    assert "\x1b" not in original.output
    assert world.call("list", "--origin", "signals").stdout == "no dead letters\n"
    assert world.call("list", "--since", "1s", "--reason", "nothing").stdout == "no dead letters\n"


def test_without_topics_it_says_what_to_do(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
    config = tmp_path / "plumbline.toml"
    config.write_text(f'[kafka]\nbootstrap = "{kafka_bootstrap}"\ntopic_prefix = "{topic_prefix}"\n')
    done = CliRunner().invoke(plumbline, ["deadletters", "list", "-c", str(config)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "is missing: run `plumbline topics create`" in done.stderr
    away = CliRunner().invoke(plumbline, ["deadletters", "list", "--bootstrap", "127.0.0.1:1"])
    assert (away.exit_code, len(away.stderr.splitlines())) == (1, 1)
