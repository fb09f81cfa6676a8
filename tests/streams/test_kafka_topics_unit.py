"""What can be said of topics and connections without a broker."""

import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from detectors.records.codec import TOPICS
from detectors.stages.decide import DecideStage
from detectors.stages.detect import DetectStage
from detectors.stages.score import ScoreStage
from streams.cli import plumbline
from streams.kafka.connection import client_options, reach_broker
from streams.kafka.errors import BrokerError
from streams.kafka.layout import (
    DEAD_LETTER_ROOM_BYTES,
    STAGES,
    SUBMISSIONS,
    dead_letter_name,
    plan_topics,
    state_name,
    state_place,
    topic_name,
)
from streams.settings import ForeignSettings, KafkaSettings, SettingsError, parse_settings

DAY_MS = 86_400_000


def test_the_stages_with_state_are_the_stages() -> None:
    thinking = (ScoreStage, DetectStage, DecideStage)
    assert ("normalise", "admit", *(stage.name for stage in thinking), "act", "land") == STAGES
    assert {stage.source for stage in thinking} <= TOPICS.keys()


@given(
    partitions=st.integers(1, 1024),
    replication=st.integers(1, 32),
    retention_s=st.floats(1, 1e9, allow_nan=False),
    submissions_s=st.floats(1, 1e9, allow_nan=False),
)
def test_every_origin_has_its_dead_letters_and_every_stage_its_state(
    partitions: int, replication: int, retention_s: float, submissions_s: float
) -> None:
    settings = KafkaSettings(
        partitions=partitions,
        replication=replication,
        retention_s=retention_s,
        submissions_retention_s=submissions_s,
    )
    foreign = (ForeignSettings(topic="chat.logs"),)
    plan = {spec.name: spec for spec in plan_topics(settings, foreign)}
    origins = [SUBMISSIONS, *TOPICS]
    assert len(plan) == 2 * len(origins) + 1 + len(STAGES) == len(plan_topics(settings, foreign))
    assert {(spec.partitions, spec.replication) for spec in plan.values()} == {(partitions, replication)}
    for origin in [*(topic_name(topic) for topic in origins), "chat.logs"]:
        dead = plan[dead_letter_name(origin)].configs
        assert dead["cleanup.policy"] == "delete"
        assert int(dead["max.message.bytes"]) == settings.max_message_bytes + DEAD_LETTER_ROOM_BYTES
        assert 0 < int(dead["retention.ms"]) <= 7 * DAY_MS
        assert dead["message.timestamp.type"] == "CreateTime"
    for topic in TOPICS:
        kept = int(plan[topic_name(topic)].configs["retention.ms"])
        assert kept == (-1 if topic in {"releases", "references"} else round(retention_s * 1000))
    raw = plan[topic_name(SUBMISSIONS)].configs
    assert int(raw["retention.ms"]) == round(min(retention_s, submissions_s) * 1000)
    assert raw["message.timestamp.type"] == "LogAppendTime"
    for stage in STAGES:
        state = plan[state_name(stage)].configs
        assert state["cleanup.policy"] == "compact"
        assert "retention.ms" not in state
    for spec in plan.values():
        alive = int(spec.configs["min.insync.replicas"])
        assert 1 <= alive <= replication
        assert alive < replication or replication == 1


def test_what_producers_sent_is_kept_for_a_day_at_most_unless_somebody_says_otherwise() -> None:
    (spec,) = [one for one in plan_topics(KafkaSettings()) if one.name == "plumbline.submissions.v1"]
    assert int(spec.configs["retention.ms"]) == DAY_MS


@given(
    places=st.lists(st.tuples(st.sampled_from(["a", "a.b", "a-1"]), st.integers(0, 99)), unique=True),
    partitions=st.integers(1, 16),
)
def test_states_of_foreign_partitions_never_meet(places: list[tuple[str, int]], partitions: int) -> None:
    settings = KafkaSettings(partitions=partitions)
    found = [state_place("normalise", topic, partition, settings) for topic, partition in places]
    assert all(0 <= partition < partitions for _, partition, _ in found)
    prefixes = [prefix for _, _, prefix in found]
    assert not any(one is not other and other.startswith(one) for one in prefixes for other in prefixes)


@pytest.mark.parametrize(
    ("topics", "said"),
    [
        (["plumbline.interactions.v1"], r"foreign\[0\]\.topic: plumbline.interactions.v1 is one of our own"),
        (["chat", "logs", "chat"], r"foreign\[2\]\.topic: chat is named twice"),
    ],
)
def test_foreign_topics_that_would_run_in_circles_are_refused(topics: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        plan_topics(KafkaSettings(), [ForeignSettings(topic=topic) for topic in topics])


def test_names_that_are_nobodys_are_refused() -> None:
    with pytest.raises(ValueError, match="no such topic: interaction; there are"):
        topic_name("interaction")
    with pytest.raises(ValueError, match="no such stage: page; there are"):
        state_name("page")


@pytest.mark.parametrize("prefix", ["", "Plumbline", "a.b", "a_b", "-a", "a" * 64])
def test_a_prefix_that_kafka_could_confuse_is_refused(prefix: str) -> None:
    with pytest.raises(SettingsError, match=r"\$\.kafka\.topic_prefix"):
        parse_settings(f'[kafka]\ntopic_prefix = "{prefix}"')


@pytest.mark.parametrize("bootstrap", ["", " , ", "host:0", "host:65536", "host:x", ":9092", "a:1,b:٣"])
def test_an_address_that_is_none_is_said(bootstrap: str) -> None:
    settings = KafkaSettings(bootstrap=bootstrap)
    with pytest.raises(SettingsError, match=r"^kafka\.bootstrap: "):
        client_options(settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (KafkaSettings(tls_ca_file="ca.pem"), "tls is off: set tls = true"),
        (KafkaSettings(tls=True, tls_ca_file="/none/ca.pem"), "tls_ca_file: /none/ca.pem: cannot be read"),
        (KafkaSettings(tls=True, tls_key_file="k.pem"), "a key without its certificate"),
        (KafkaSettings(tls=True, tls_cert_file="/none/c.pem"), "tls_cert_file: /none/c.pem: cannot be read"),
        (KafkaSettings(sasl_username="u"), "sasl_mechanism is empty"),
        (KafkaSettings(sasl_mechanism="SCRAM-SHA-512"), "needs sasl_username and sasl_password_env"),
        (KafkaSettings(sasl_mechanism="PLAIN", sasl_username="u"), "PLAIN without TLS shows the password"),
        (
            KafkaSettings(sasl_mechanism="SCRAM-SHA-256", sasl_username="u", sasl_password_env="KAFKA_NONE"),
            "the environment variable KAFKA_NONE is not set",
        ),
    ],
)
def test_settings_that_cannot_work_are_said_before_anything_is_opened(
    settings: KafkaSettings, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        client_options(settings)


def test_a_file_that_is_no_certificate_is_said(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(SettingsError, match="is not a PEM file"):
        client_options(KafkaSettings(tls=True, tls_ca_file=str(tmp_path / "ca.pem")))


def test_the_password_is_handed_over_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SECRET", "correct horse")
    settings = KafkaSettings(
        sasl_mechanism="SCRAM-SHA-512", sasl_username="u", sasl_password_env="KAFKA_SECRET"
    )
    options = client_options(settings)
    assert options["sasl_plain_password"] == "correct horse"
    assert options["security_protocol"] == "SASL_PLAINTEXT"
    assert "correct horse" not in f"{options} {settings}"


@pytest.mark.parametrize(
    ("secured", "mechanism", "protocol"),
    [
        (False, "", "PLAINTEXT"),
        (True, "", "SSL"),
        (True, "PLAIN", "SASL_SSL"),
        (False, "SCRAM-SHA-256", "SASL_PLAINTEXT"),
    ],
)
def test_the_protocol_follows_from_tls_and_mechanism(
    monkeypatch: pytest.MonkeyPatch, secured: bool, mechanism: str, protocol: str
) -> None:
    monkeypatch.setenv("KAFKA_SECRET", "x")
    user = {"sasl_username": "u", "sasl_password_env": "KAFKA_SECRET"} if mechanism else {}
    options = client_options(KafkaSettings(tls=secured, sasl_mechanism=mechanism, **user))  # type: ignore[arg-type]
    assert options["security_protocol"] == protocol
    assert isinstance(options.get("ssl_context"), ssl.SSLContext) == secured


@contextlib.contextmanager
def deaf_server(answer: bytes = b"") -> Iterator[int]:
    """A port that takes connections, says `answer` and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken, _ = server.accept()
                    with taken:
                        taken.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_one_of_several_brokers_is_enough() -> None:
    with deaf_server() as port:
        reach_broker(KafkaSettings(bootstrap=f"127.0.0.1:1,127.0.0.1:{port}"))
        with pytest.raises(BrokerError, match=r"no broker at 127\.0\.0\.1:1 \(Connection refused\)"):
            reach_broker(KafkaSettings(bootstrap=f"127.0.0.1:{port},127.0.0.1:1", tls=True))


def test_a_port_without_tls_is_said() -> None:
    with (
        deaf_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port,
        pytest.raises(BrokerError, match="not speak TLS"),
    ):
        reach_broker(KafkaSettings(bootstrap=f"127.0.0.1:{port}", tls=True))


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "streams.kafka.topics", raising=False)
    monkeypatch.setitem(sys.modules, "kafka", None)
    done = CliRunner().invoke(plumbline, ["topics", "check"])
    assert (done.exit_code, done.stderr) == (
        2,
        'plumbline: Kafka needs its clients: pip install "plumbline[kafka]"\n',
    )
