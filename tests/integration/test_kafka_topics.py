"""Topics on a real broker: made once, loud when they differ, one line when the broker is away or says no."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
)

from deploy.kafka import Access, LocalBroker
from streams.cli import plumbline
from streams.kafka.connection import client_options
from streams.kafka.layout import plan_topics, state_name, topic_name
from streams.kafka.topics import TopicAdmin
from streams.settings import KafkaSettings

# One worker runs them all, so that they share their brokers.
pytestmark = pytest.mark.xdist_group("kafka")


def write_config(folder: Path, **kafka: Any) -> Path:
    lines = [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in kafka.items()]
    path = folder / "plumbline.toml"
    path.write_text("\n".join(["[kafka]", *lines, ""]), encoding="utf-8")
    return path


def topics(verb: str, config: Path, *more: str) -> Result:
    return CliRunner().invoke(plumbline, ["topics", verb, "--config", str(config), *more])


def refusal(verb: str, config: Path) -> str:
    """Return the one line that the command ended with."""
    done = topics(verb, config)
    assert done.exit_code == 1, (done.output, done.exception)
    (line,) = done.stderr.splitlines()
    assert line.startswith("plumbline: kafka: ")
    assert done.stdout == ""
    return line


@pytest.fixture
def plain(kafka_bootstrap: str, topic_prefix: str) -> dict[str, Any]:
    return {"bootstrap": kafka_bootstrap, "topic_prefix": topic_prefix, "partitions": 3, "replication": 1}


@pytest.fixture
def secured(
    secured_broker: LocalBroker, access: Access, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The settings of the superuser, by password over TLS."""
    for name, password in access.users.items():
        monkeypatch.setenv(f"KAFKA_TEST_{name.upper()}", password)
    return {
        "bootstrap": secured_broker.bootstrap,
        "topic_prefix": topic_prefix,
        "partitions": 1,
        "replication": 1,
        "tls": True,
        "tls_ca_file": str(secured_broker.certificates / "ca.pem"),
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": "admin",
        "sasl_password_env": "KAFKA_TEST_ADMIN",
    }


def test_topics_are_made_once_and_then_are_there(tmp_path: Path, plain: dict[str, Any]) -> None:
    config = write_config(tmp_path, **plain, retention_s=86_400, max_message_bytes=1_500_000)
    assert "topics are missing" in refusal("check", config)
    made = topics("create", config)
    assert made.exit_code == 0, made.output
    prefix = plain["topic_prefix"]
    names = [spec.name for spec in plan_topics(KafkaSettings(**plain))]
    assert made.output.splitlines() == [*(f"made {name}" for name in names), f"{len(names)} topics made"]
    assert topics("create", config).output == "every topic is there\n"
    said = topics("check", config).output.splitlines()
    assert f"{prefix}.interactions.v1: 3 partitions, 1 replicas, kept 1 days" in said
    assert f"{prefix}.interactions.v1.dlq: 3 partitions, 1 replicas, kept 1 days" in said
    assert f"{prefix}.state.detect.v1: 3 partitions, 1 replicas, compacted" in said
    assert len(said) == len(names)


def test_the_broker_holds_what_the_settings_ask(plain: dict[str, Any]) -> None:
    settings = KafkaSettings(**plain, retention_s=3_600.0)
    with TopicAdmin(settings) as admin:
        admin.create()
        found = admin.compare()
    assert (found.missing, found.differences) == ((), ())
    wrong = msgspec.structs.replace(settings, retention_s=7_200.0, partitions=5)
    with TopicAdmin(wrong) as admin:
        differences = {(found.topic, found.what): found for found in admin.compare().differences}
    data = topic_name("signals", settings.topic_prefix)
    assert (differences[data, "retention.ms"].found, differences[data, "retention.ms"].wanted) == (
        "3600000",
        "7200000",
    )
    assert (data, "partition count") in differences
    assert (state_name("score", settings.topic_prefix), "retention.ms") not in differences


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"partitions": 4},
            "has partition count 3, wanted 4 (and 26 more differences): set kafka.partitions",
        ),
        ({"retention_s": 60}, "has retention.ms 86400000, wanted 60000"),
        ({"max_message_bytes": 70_000}, "has max.message.bytes 2097152, wanted 70000"),
    ],
)
def test_a_topic_that_differs_is_said_and_left_alone(
    tmp_path: Path, plain: dict[str, Any], changed: dict[str, Any], said: str
) -> None:
    with TopicAdmin(KafkaSettings(**plain)) as admin:
        admin.create()
    config = write_config(tmp_path, **{**plain, **changed})
    for verb in ("create", "check"):
        assert said in refusal(verb, config)
    assert topics("check", write_config(tmp_path, **plain)).exit_code == 0


def test_nothing_is_made_while_one_topic_differs(tmp_path: Path, plain: dict[str, Any]) -> None:
    foreign = topic_name("actions", plain["topic_prefix"])
    client = KafkaAdminClient(bootstrap_servers=plain["bootstrap"])
    try:
        client.create_topics(
            {foreign: {"num_partitions": 7, "replication_factor": 1}}, wait_for_metadata=True
        )
        assert f"{foreign} has partition count 7, wanted 3" in refusal(
            "create", write_config(tmp_path, **plain)
        )
        assert [name for name in client.list_topics() if name.startswith(plain["topic_prefix"])] == [foreign]
    finally:
        client.close()


def test_more_replicas_than_brokers_is_said_with_the_remedy(tmp_path: Path, plain: dict[str, Any]) -> None:
    line = refusal("create", write_config(tmp_path, **{**plain, "replication": 9}))
    assert "cannot have 9 replicas, there are fewer brokers: start more, or set kafka.replication" in line


def test_no_broker_is_one_line_from_the_program_itself(tmp_path: Path) -> None:
    config = write_config(tmp_path, bootstrap="127.0.0.1:1", replication=1)
    program = [
        sys.executable,
        "-c",
        "from streams.cli import main; main()",
        "topics",
        "check",
        "-c",
        str(config),
    ]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "plumbline: kafka: no broker at 127.0.0.1:1 (Connection refused): start it, or set kafka.bootstrap\n"
    )


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256"])
def test_a_password_over_tls_gets_in(tmp_path: Path, secured: dict[str, Any], mechanism: str) -> None:
    config = write_config(tmp_path, **{**secured, "sasl_mechanism": mechanism})
    assert topics("create", config).exit_code == 0
    assert topics("check", config).exit_code == 0


def test_a_certificate_gets_in(tmp_path: Path, secured: dict[str, Any], secured_broker: LocalBroker) -> None:
    kept = {key: value for key, value in secured.items() if not key.startswith("sasl_")}
    kept["bootstrap"] = secured_broker.certificate_bootstrap
    files = {
        "tls_cert_file": str(secured_broker.certificates / "client.pem"),
        "tls_key_file": str(secured_broker.certificates / "client.key"),
    }
    done = topics("create", write_config(tmp_path, **kept, **files))
    assert done.exit_code == 0, done.output
    assert topics("check", write_config(tmp_path, **kept, **files)).exit_code == 0


def test_a_wrong_password_is_one_line_without_it(
    tmp_path: Path, secured: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_TEST_ADMIN", "not-the-password")
    line = refusal("check", write_config(tmp_path, **secured))
    assert "refuses user 'admin': check the user name" in line
    assert "not-the-password" not in line


def test_who_may_nothing_is_told_what_to_be_allowed(tmp_path: Path, secured: dict[str, Any]) -> None:
    guest = {**secured, "sasl_username": "guest", "sasl_password_env": "KAFKA_TEST_GUEST"}
    config = write_config(tmp_path, **guest)
    for verb in ("check", "create"):
        line = refusal(verb, config)
        assert "'guest' is not allowed to see or make" in line
        assert "allow it Create, Describe and DescribeConfigs on topics with the prefix" in line
        assert line.endswith(f" {guest['topic_prefix']}.")


def test_who_may_only_describe_is_told_and_not_taken_for_equal(
    tmp_path: Path, secured: dict[str, Any]
) -> None:
    """A refused look at the configuration must not read as an empty, or an equal, one."""
    with TopicAdmin(KafkaSettings(**secured)) as admin:
        admin.create()
    rule = ACL(
        principal="User:guest",
        host="*",
        operation=ACLOperation.DESCRIBE,
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePattern(
            ResourceType.TOPIC, secured["topic_prefix"], ACLResourcePatternType.PREFIXED
        ),
    )
    with KafkaAdminClient(**client_options(KafkaSettings(**secured))) as client:
        client.create_acls([rule])
    guest = {**secured, "sasl_username": "guest", "sasl_password_env": "KAFKA_TEST_GUEST"}
    wait_until_seen(KafkaSettings(**guest), topic_name("signals", secured["topic_prefix"]))
    line = refusal("check", write_config(tmp_path, **guest))
    assert "'guest' is not allowed to see or make the configuration of" in line


def wait_until_seen(settings: KafkaSettings, topic: str) -> None:
    """Return when the broker applies what this user was just allowed."""
    with KafkaAdminClient(**client_options(settings)) as client:
        for _ in range(100):
            if not client.describe_topics([topic])[0]["error_code"]:
                return
            time.sleep(0.1)
    pytest.fail(f"{topic} was not seen within 10 s")


def test_an_unknown_authority_is_said(tmp_path: Path, secured: dict[str, Any]) -> None:
    line = refusal("check", write_config(tmp_path, **{**secured, "tls_ca_file": ""}))
    assert "is not trusted" in line
    assert "set kafka.tls_ca_file" in line


def test_tls_to_a_plain_port_is_said(tmp_path: Path, plain: dict[str, Any], secured: dict[str, Any]) -> None:
    line = refusal("check", write_config(tmp_path, **{**secured, "bootstrap": plain["bootstrap"]}))
    assert "does not speak TLS as asked" in line or "no broker at" in line


def test_a_mechanism_that_is_not_offered_is_said(tmp_path: Path, secured: dict[str, Any]) -> None:
    line = refusal("check", write_config(tmp_path, **{**secured, "sasl_mechanism": "PLAIN"}))
    # The broker hangs up behind its answer; where that is lost, the line names what may not fit.
    assert "does not offer PLAIN: set kafka.sasl_mechanism" in line or "kafka.sasl_mechanism fit it" in line
