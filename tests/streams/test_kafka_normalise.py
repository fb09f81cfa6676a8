"""Foreign topics: mapped, keyed as the client would, and one dead letter for each record that is none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.records.ids import partition_of
from detectors.redaction import Redactor
from detectors.stages import Delivery, Output
from plumbline.keys import submission_key
from streams.kafka.admit import AdmitStage
from streams.kafka.dead_letters import DeadLetterOutput, RawOutput, redriven
from streams.kafka.envelope import RawMessage
from streams.kafka.normalise import NormaliseStage, normalise_stages
from streams.settings import DoorSettings, ForeignSettings, KafkaSettings, SettingsError, parse_settings

MAPPING = {"prompt": "messages.0.text", "response": "messages.1.text", "user": "who.name"}
CONSTANTS = {"deployment": "support", "release": "r1"}
SECRET = "kaninchen"


def stage(max_bytes: int = 2_000_000, **foreign: Any) -> NormaliseStage:
    settings = ForeignSettings(
        **{"topic": "chat.logs", "mapping": MAPPING, "constants": CONSTANTS, **foreign}
    )
    return NormaliseStage(settings, prefix="plumbline", partitions=3, max_bytes=max_bytes)


def chat(prompt: str = "hi", who: str = "ann", **more: Any) -> bytes:
    messages = [{"text": prompt}, {"text": "hello"}]
    return json.dumps({"messages": messages, "who": {"name": who}, **more}).encode()


def message(value: bytes | None, offset: int = 0, partition: int = 40, headers: Any = ()) -> RawMessage:
    return RawMessage("chat.logs", partition, offset, 1_795_253_400_000, b"any", value, headers)


def run(made: NormaliseStage, *messages: RawMessage) -> tuple[Any, list[Any]]:
    batch = [Delivery(one.partition, one.offset, one) for one in messages]  # type: ignore[arg-type]
    return made.step(made.restore(0, {}), batch)


def test_a_record_becomes_the_submission_that_the_client_would_send() -> None:
    state, (output,) = run(stage(), message(chat(), offset=7))
    fields = json.loads(output.value)
    assert fields == {"prompt": "hi", "response": "hello", "user": "ann", **CONSTANTS}
    key = submission_key("interaction", fields)
    assert (output.topic, output.key.decode(), output.partition) == (
        "plumbline.submissions.v1",
        key,
        partition_of(key, 3),
    )
    assert dict(output.headers) == {"kind": b"interaction", "plumbline-first-place": b"chat.logs/40/7"}
    assert state.counts == {"normalised": {"chat.logs": 1}}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "mapping_failed"),
        (b"[]", "mapping_failed"),
        (b"\xff\xfe", "mapping_failed"),
        (b"[" * 100_000, "mapping_failed"),
        (b'{"messages":"kaninchen"}', "mapping_failed"),
        (b'{"messages":[{"text":"kaninchen"}]}', "mapping_failed"),
        (b'{"x":' + b"9" * 5_000 + b"}", "mapping_failed"),
    ],
)
def test_a_record_that_does_not_fit_is_one_dead_letter_and_its_neighbours_go(
    value: bytes, reason: str
) -> None:
    state, outputs = run(stage(), message(chat(), 0), message(value, 1), message(chat(), 2))
    first, buried, last = outputs
    assert isinstance(first, RawOutput)
    assert isinstance(last, RawOutput)
    assert isinstance(buried, DeadLetterOutput)
    letter = buried.letter
    assert (letter.reason, letter.stage, letter.value, letter.offset) == (reason, "normalise", value, 1)
    assert SECRET not in letter.message
    assert state.counts == {"normalised": {"chat.logs": 2}, "dead_letter": {"chat.logs": 1}}
    sent = redriven(letter)
    assert (sent.topic, sent.partition, sent.value) == ("chat.logs", 40, value)


def test_a_deletion_is_counted_and_is_no_dead_letter() -> None:
    state, outputs = run(stage(), message(None))
    assert (outputs, state.counts) == ([], {"tombstone": {"chat.logs": 1}})


def test_the_frame_of_a_registry_is_taken_off_only_where_asked() -> None:
    framed = b"\0\0\0\0\x07" + chat()
    _, (output,) = run(stage(framed=True), message(framed))
    assert json.loads(output.value)["prompt"] == "hi"
    for made, value, reason in (
        (stage(framed=True), chat(), "frame_missing"),
        (stage(framed=True), b"\0\0", "frame_missing"),
        (stage(), framed, "mapping_failed"),
    ):
        _, (buried,) = run(made, message(value))
        assert (buried.letter.reason, buried.letter.value) == (reason, value)


def test_what_is_too_large_for_our_topics_stays_where_it_is() -> None:
    _, (buried,) = run(stage(max_bytes=70_000), message(chat("x" * 5_000)))
    assert (buried.letter.reason, buried.letter.value) == ("record_too_large", None)


@given(prompts=st.lists(st.text(max_size=20), min_size=1, max_size=6), who=st.sampled_from(["", "ann"]))
def test_without_an_id_it_has_one_after_a_replay_too(prompts: list[str], who: str) -> None:
    """What is normalised again, to other places, is admitted once: the first place gives the id."""
    messages = [message(chat(prompt, who), at) for at, prompt in enumerate(prompts)]
    _, once = run(stage(), *messages)
    _, twice = run(stage(), *messages)
    assert once == twice
    door = AdmitStage(
        door=DoorSettings(), redactor=Redactor(), user_key=b"k" * 32, partitions=3, recent_ids=100
    )
    state = door.restore(0, {})
    sent = [
        RawMessage(one.topic, one.partition, at, 1_795_253_400_000, one.key, one.value, one.headers)
        for at, one in enumerate([*once, *twice])
    ]
    _, outputs = door.step(state, [Delivery(one.partition, one.offset, one) for one in sent])  # type: ignore[arg-type]
    admitted = [one.record.raw_id for one in outputs if isinstance(one, Output)]
    buried = [one for one in outputs if isinstance(one, DeadLetterOutput)]
    assert len(set(admitted)) == len(admitted)
    assert 2 * len(admitted) + len(buried) == len(sent)


def test_several_topics_are_read_from_the_settings() -> None:
    text = """
    [[foreign]]
    topic = "chat.logs"
    mapping = {prompt = "q", response = "a"}
    constants = {deployment = "d", release = "1"}
    [[foreign]]
    topic = "thumbs"
    kind = "feedback"
    framed = true
    """
    stages = normalise_stages(parse_settings(text))
    assert [(one.name, one.source, one.raw) for one in stages] == [
        ("normalise", "chat.logs", True),
        ("normalise", "thumbs", True),
    ]
    for wrong in ('topic = "plumbline.signals.v1"', 'topic = "thumbs"'):
        with pytest.raises(SettingsError, match=r"foreign\[2\]\.topic"):
            normalise_stages(parse_settings(f"{text}\n[[foreign]]\n{wrong}"))
    for wrong in ('topic = "a b"', 'topic = "a"\nkind = "gossip"', 'topic = "a"\nmaping = {}'):
        with pytest.raises(SettingsError, match=r"\$\.foreign"):
            parse_settings(f"[[foreign]]\n{wrong}")
    assert KafkaSettings().topic_prefix == "plumbline"


def test_what_the_mapping_makes_too_long_is_a_dead_letter_and_stops_nobody() -> None:
    twice = {"prompt": "messages.0.text", "response": "messages.0.text", "user": "who.name"}
    text = "x" * 40_000
    made = stage(max_bytes=130_000, mapping=twice)
    state, (long, short) = run(made, message(chat(text)), message(chat(), offset=1))
    assert isinstance(long, DeadLetterOutput)
    assert (long.letter.reason, long.letter.offset) == ("record_too_large", 0)
    assert isinstance(short, RawOutput)
    assert state.counts["dead_letter"] == {"chat.logs": 1}
