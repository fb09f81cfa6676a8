"""TLS, passwords and access rules through every client: a user with the least rights, and every refusal."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
)

from deploy.kafka import Access, LocalBroker
from detectors.records import Scorecard, Tick
from streams.kafka.connection import client_options
from streams.kafka.envelope import unseal
from streams.kafka.layout import dead_letter_name, topic_name
from streams.kafka.topics import TopicAdmin
from streams.kafka.worker import BUILDERS, WorkerOptions, kafka_settings
from streams.settings import KafkaSettings, load_settings
from tests.integration.reading import read_topic

pytestmark = pytest.mark.xdist_group("kafka")
ALL = ("admit", "score", "detect", "decide", "act", "land")
LINE = {
    "id": "1", "deployment": "support", "release": "2.4", "conversation": "c", "prompt": "How?",
    "response": "So.",
}  # fmt: skip


class Install:
    """Configuration files for the users of one secured broker."""

    def __init__(self, broker: LocalBroker, access: Access, prefix: str, folder: Path) -> None:
        self.folder, self.passwords = folder, dict(access.users)
        self.kafka: dict[str, Any] = {
            "bootstrap": broker.bootstrap,
            "topic_prefix": prefix,
            "partitions": 1,
            "replication": 1,
            "tls": True,
            "tls_ca_file": str(broker.certificates / "ca.pem"),
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": "guest",
            "sasl_password_env": "KAFKA_TEST_GUEST",
        }
        self.admin = KafkaSettings(
            **{**self.kafka, "sasl_username": "admin", "sasl_password_env": "KAFKA_TEST_ADMIN"}
        )

    def config(self, name: str = "plumbline", **changed: Any) -> Path:
        lines = [f'data_dir = "{self.folder / "data"}"', "[door]", "port = 0", "clamp = false"]
        key = self.folder / "user.key"
        key.write_bytes(bytes(range(32)))
        key.chmod(0o600)
        lines += [
            f'user_key_file = "{key}"',
            "[worker]",
            "session_s = 6",
            "tick_s = 0.2",
            "[land]",
            "flush_s = 0.1",
            "[kafka]",
        ]
        kafka = {**self.kafka, **changed}
        lines += [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in kafka.items()]
        path = self.folder / f"{name}.toml"
        path.write_text("\n".join([*lines, ""]), encoding="utf-8")
        return path

    def allow(self, *rules: ACL) -> None:
        with KafkaAdminClient(**client_options(self.admin)) as client:
            client.create_acls(list(rules))


@pytest.fixture
def install(
    secured_broker: LocalBroker,
    access: Access,
    topic_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Install]:
    for name, password in access.users.items():
        monkeypatch.setenv(f"KAFKA_TEST_{name.upper()}", password)
    made = Install(secured_broker, access, topic_prefix, tmp_path)
    with TopicAdmin(made.admin) as admin:
        admin.create()
    yield made
    with KafkaAdminClient(**client_options(made.admin)) as client:
        client.delete_topics([name for name in client.list_topics() if name.startswith(topic_prefix)])


def rule(kind: ResourceType, name: str, operation: ACLOperation) -> ACL:
    whole = kind == ResourceType.CLUSTER
    pattern = ACLResourcePatternType.LITERAL if whole else ACLResourcePatternType.PREFIXED
    return ACL(
        principal="User:guest",
        host="*",
        operation=operation,
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePattern(kind, name, pattern),
    )


def least_rights(prefix: str) -> list[ACL]:
    """What workers, producers and tools need, and no more: nothing is made, altered or deleted."""
    topics = (ACLOperation.READ, ACLOperation.WRITE, ACLOperation.DESCRIBE, ACLOperation.DESCRIBE_CONFIGS)
    return [
        *(rule(ResourceType.TOPIC, f"{prefix}.", operation) for operation in topics),
        rule(ResourceType.GROUP, f"{prefix}.", ACLOperation.READ),
        rule(ResourceType.TRANSACTIONAL_ID, f"{prefix}.", ACLOperation.WRITE),
        rule(ResourceType.TRANSACTIONAL_ID, f"{prefix}.", ACLOperation.DESCRIBE),
    ]


def run(install: Install, config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program itself; no password of anybody may be in what it says."""
    done = subprocess.run(
        [sys.executable, "-c", "from streams.cli import main; main()", *arguments, "-c", str(config)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    for password in (*install.passwords.values(), "not-the-password"):
        assert password not in done.stdout + done.stderr
    return done


async def carry(install: Install, config: Path) -> None:
    """Run every stage in this process until one interaction has been scored, told to detect, and landed."""
    settings = kafka_settings(load_settings(config))
    runners = [one for stage in ALL for one in BUILDERS[stage](settings, WorkerOptions(instance_id=stage))]
    for runner in runners:
        await runner.start()
    try:
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(lambda: runners[-1].lander.counts.rows.get("scores")):
                await asyncio.sleep(0.1)
    finally:
        for runner in runners:
            await runner.stop()


def test_a_user_with_the_least_rights_runs_everything(install: Install) -> None:
    install.allow(*least_rights(install.kafka["topic_prefix"]))
    config, file = install.config(), install.folder / "lines.jsonl"
    file.write_bytes(msgspec.json.encode(LINE))
    assert run(install, config, "topics", "check").returncode == 0
    sent = run(install, config, "produce", str(file))
    assert sent.returncode == 0, sent.stderr
    asyncio.run(carry(install, config))
    cards = [
        one
        for row in read_topic(install.admin, topic_name("scorecards", install.kafka["topic_prefix"]))
        for one in unseal(row.value, row.headers)[1]
    ]
    assert [one.release for one in cards if isinstance(one, Scorecard)] == ["2.4"]
    assert any(isinstance(one, Tick) for one in cards)
    listed = run(install, config, "deadletters", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    again = run(
        install, config, "backfill", "run", "--run-id", "r", "--from", "2020-01-01", "--to", "2099-01-01"
    )
    assert (again.returncode, again.stdout) == (0, "r: 1 interactions scored\n"), again.stderr


COMMANDS = {
    "worker": ("worker", "--stages", "score"),
    "act": ("worker", "--stages", "act"),
    "land": ("worker", "--stages", "land"),
    "deadletters": ("deadletters", "list"),
    "backfill": ("backfill", "run", "--run-id", "r", "--offsets", "0:0-1"),
}


def refusal(install: Install, config: Path, name: str) -> str:
    done = run(install, config, *COMMANDS[name])
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("plumbline: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_wrong_password_is_one_line(install: Install, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_TEST_GUEST", "not-the-password")
    line = refusal(install, install.config(), name)
    assert "refuses user 'guest'" in line
    assert "check the user name, the password" in line


@pytest.mark.parametrize("name", ["worker", "act", "land", "backfill", "deadletters"])
def test_a_missing_right_is_one_line_that_says_which(install: Install, name: str) -> None:
    line = refusal(install, install.config(), name)
    assert "allow" in line
    assert install.kafka["topic_prefix"] in line


def test_who_may_see_dead_letters_and_not_read_them_is_told_which_right(install: Install) -> None:
    prefix = install.kafka["topic_prefix"]
    seeing = (ACLOperation.DESCRIBE, ACLOperation.DESCRIBE_CONFIGS)
    install.allow(*(rule(ResourceType.TOPIC, f"{prefix}.", operation) for operation in seeing))
    with KafkaProducer(**client_options(install.admin)) as producer:
        producer.send(dead_letter_name(topic_name("labels", prefix)), b"x").get(20)
    line = refusal(install, install.config(), "deadletters")
    assert f"not allowed to read {prefix}.labels.v1.dlq: allow it Read" in line


@pytest.mark.parametrize("name", ["worker", "backfill"])
def test_a_broker_that_is_not_trusted_is_one_line(install: Install, name: str, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    _make_authority(other)
    line = refusal(install, install.config(tls_ca_file=str(other)), name)
    assert "is not trusted" in line
    assert "set kafka.tls_ca_file" in line


def _make_authority(path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", str(path.with_suffix(".key")), "-out", str(path), "-days", "2", "-subj", "/CN=other"],
        check=True,
        capture_output=True,
    )  # fmt: skip
