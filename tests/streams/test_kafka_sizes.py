"""What is too large: refused at the start, left behind as a dead letter, counted while it waits."""

import asyncio
import hashlib
import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors as kafka_errors
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from streams.cli import plumbline
from streams.cli.worker import is_news
from streams.kafka.consumer_errors import explain_client
from streams.kafka.dead_letters import (
    LEFT_BEHIND,
    bury,
    dead_letter_record,
    read_dead_letter,
)
from streams.kafka.desk import Desk, held_bytes
from streams.kafka.envelope import RawMessage
from streams.kafka.layout import (
    DEAD_LETTER_ROOM_BYTES,
    check_message_sizes,
    largest_record_bytes,
    plan_topics,
    record_bytes,
)
from streams.kafka.port import outgoing_of
from streams.settings import KafkaSettings, SettingsError, WorkerSettings, parse_settings

LIMIT = 100_000
headers = st.lists(
    st.tuples(st.text(max_size=3_000), st.binary(max_size=3_000) | st.integers(0, 40_000).map(bytes)),
    max_size=40,
).map(tuple)


@given(
    headers=headers,
    size=st.integers(0, 3 * LIMIT),
    key=st.none() | st.integers(0, 2 * LIMIT).map(bytes),
    reason=st.text(min_size=1, max_size=40),
)
def test_every_dead_letter_fits(
    headers: tuple[tuple[str, bytes], ...], size: int, key: bytes | None, reason: str
) -> None:
    value = b"\1" * size
    message = RawMessage("t", 1, 2, 3, key, value, headers)
    written = dead_letter_record(bury(message, stage="admit", reason=reason).letter, 4, limit_bytes=LIMIT)
    assert record_bytes(written.key, written.value, written.headers) <= LIMIT
    read = read_dead_letter(written.headers, written.value, written.key)
    assert (read.topic, read.partition, read.offset, read.timestamp_ms) == ("t", 1, 2, 3)
    if written.value == value and value:
        assert (read.reason, read.value) == (reason, value)
        return
    if read.reason == LEFT_BEHIND:
        said = dict(written.headers)
        assert read.value is None
        assert said["plumbline-dlq-value-bytes"] == str(size).encode()
        assert said["plumbline-dlq-value-sha256"] == hashlib.sha256(value).hexdigest().encode()
        assert reason in read.message


def test_a_stage_leaves_behind_what_its_topics_do_not_take() -> None:
    """A record that was sent compressed may be larger than every message."""
    kafka = KafkaSettings(partitions=2)
    large = RawMessage("plumbline.submissions.v1", 1, 7, 0, b"k", bytes(9_000_000), (("kind", b"label"),))
    small = RawMessage("plumbline.submissions.v1", 1, 8, 0, b"k", bytes(2_000_000), ())
    written = outgoing_of([bury(one, stage="admit", reason="x") for one in (large, small)], None, kafka)
    assert [(one.key, one.value) for one in written] == [(b"k", None), (b"k", small.value)]
    assert dict(written[0].headers)["kind"] == b"label"
    for one in written:
        limit = largest_record_bytes(one.topic, kafka)
        assert record_bytes(one.key, one.value, one.headers) <= limit
        assert limit == kafka.max_message_bytes + DEAD_LETTER_ROOM_BYTES


def desk_of(worker: WorkerSettings) -> Desk:
    lane: Any = SimpleNamespace(partition=0, position=SimpleNamespace(flood=[]))
    stage: Any = SimpleNamespace(name="admit", source="submissions", raw=True)
    loop = asyncio.get_running_loop()
    return Desk(
        stage,
        lane,
        loop,
        worker,
        turn=threading.Lock(),
        on_flood=lambda *_: None,
        on_commit=lambda: None,
    )


def test_what_waits_is_counted_with_its_headers_its_key_and_what_holds_it() -> None:
    async def check() -> None:
        desk = desk_of(WorkerSettings())
        empty = RawMessage("t", 0, 0, 0, None, b"", ())
        laden = RawMessage("t", 0, 1, 0, b"k" * 700, b"v" * 900, (("h" * 10, b"x" * 1_000),))
        desk.put([empty] * 1_000)
        assert desk.size >= 1_000 * 400
        before = desk.size
        desk.put([laden])
        assert desk.size - before == held_bytes(laden) >= held_bytes(empty) + 700 + 900 + 1_010
        await desk.take()
        assert desk.size == 0

    asyncio.run(check())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[door]\nmax_record_bytes = 2_000_000", "door.max_record_bytes to 1966080 or less"),
        ("[kafka]\nmax_message_bytes = 1_100_000", "set it and the topics to 1179648 or more"),
        ("[kafka]\nmax_message_bytes = 65_536\n[door]\nmax_record_bytes = 10", "65536 does not hold what"),
        ("[kafka]\nmax_message_bytes = 200_000\n[door]\nmax_record_bytes = 10", "hold an envelope"),
    ],
)
def test_a_worker_does_not_start_where_its_topics_are_too_small(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=said):
        check_message_sizes(parse_settings(text))
    config = tmp_path / "plumbline.toml"
    config.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(plumbline, ["worker", "--stages", "admit", "-c", str(config)])
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert said in done.stderr


def test_what_the_smallest_topics_hold_is_enough() -> None:
    check_message_sizes(parse_settings("[kafka]\nmax_message_bytes = 1_179_648"))


def test_submissions_are_kept_as_snappy_however_they_were_sent() -> None:
    configs = {spec.name: spec.configs.get("compression.type") for spec in plan_topics(KafkaSettings())}
    assert [name for name, how in configs.items() if how == "snappy"] == ["plumbline.submissions.v1"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (kafka_errors.TransactionalIdAuthorizationFailed("p.admit.0"), "Write and Describe on Transactional"),
        (kafka_errors.TopicAuthorizationFailedError("t"), "Read, Write and Describe on topics shop.*"),
        (kafka_errors.GroupAuthorizationFailedError("g"), "Read on groups shop.*"),
        (kafka_errors.SaslAuthenticationFailed(), "check user name, password"),
        (kafka_errors.MessageSizeTooLargeError(), "max.message.bytes"),
        (kafka_errors.RequestTimedOutError(), "goes on from what was committed"),
    ],
)
def test_a_writer_s_failure_is_one_line_that_names_the_right(
    error: kafka_errors.KafkaError, said: str
) -> None:
    settings = KafkaSettings(topic_prefix="shop", sasl_username="guest")
    told = str(explain_client(error, settings, "shop.admit.0"))
    assert said in told
    assert len(told.splitlines()) == 1


def test_asyncio_does_not_say_again_what_a_worker_says() -> None:
    def entry(text: str, error: Exception | None) -> logging.LogRecord:
        told = (type(error), error, None) if error else None
        return logging.LogRecord("asyncio", logging.ERROR, "", 0, text, (), told)  # type: ignore[arg-type]

    assert not is_news(entry("Unclosed AIOKafkaProducer\nproducer: <x>", None))
    assert not is_news(entry("Future exception was never retrieved", kafka_errors.ProducerFenced()))
    assert is_news(entry("Task exception was never retrieved", ValueError()))
    assert is_news(entry("Unclosed connection", None))
