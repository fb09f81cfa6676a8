"""Records: bytes there and back, ids that never collide by accident, Kafka's partitions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.records import Decision, Feedback, Interval, Score, Scorecard, Signal, StreamKey, Tick
from detectors.records.codec import TOPICS, TYPES, CodecError, decode, encode, json_schemas
from detectors.records.ids import content_digest, derive_id, interaction_id, partition_of

text = st.text(max_size=30)
unit = st.floats(0, 1)
scores = st.builds(Score, name=text, value=st.none() | unit, confidence=unit, flags=st.lists(text).map(tuple))
records = st.one_of(
    st.builds(Tick, st.integers(0, 99), st.integers(-(2**40), 2**40)),
    st.builds(
        Scorecard, deployment=text, interaction_id=text, release=text, event_time_ms=st.integers(0, 2**50),
        received_at_ms=st.integers(0, 2**50), unit=text, scores=st.lists(scores, max_size=3).map(tuple),
        segments=st.dictionaries(text, text, max_size=3),
    ),
    st.builds(
        Signal, signal_id=text, kind=st.sampled_from(["change", "cleared", "status"]),
        stream=st.builds(StreamKey, text, text, text, text, st.sampled_from(["reference", "arm", "share"])),
        at_ms=st.integers(0, 2**50), n=st.integers(0, 9), effect=st.none() | st.floats(-1, 1),
        interval=st.none() | st.builds(Interval, unit, unit, unit),
    ),
    st.builds(
        Decision, decision_id=text, deployment=text, release=text,
        cause=st.sampled_from(["release", "common"]),
        verbs=st.lists(st.sampled_from(["page", "rollback"])).map(tuple), reason=text, rule=text,
        at_ms=st.integers(0, 2**50), summary=text, metric=text, segment=text,
    ),
)  # fmt: skip


@given(records)
def test_there_and_back(record):
    payload = encode(record)
    assert decode(type(record).__name__, payload) == record
    assert encode(decode(type(record).__name__, payload)) == payload


@given(st.sampled_from(sorted(TYPES)), st.binary(max_size=80))
def test_bytes_that_are_none_are_a_codec_error(kind, payload):
    with pytest.raises(CodecError):
        decode(kind, b"\x00" + payload)


def test_an_unknown_type_is_named():
    with pytest.raises(CodecError, match="unknown record type 'Nope'; known: Action, "):
        decode("Nope", b"{}")


def test_every_record_that_flows_has_a_schema():
    flowing = {kind.__name__ for kinds in TOPICS.values() for kind in kinds}
    assert flowing == set(TYPES) == set(json_schemas()["records"])


@given(st.lists(text, max_size=4), st.lists(text, max_size=4))
def test_ids_are_equal_exactly_for_equal_parts(first, second):
    assert (derive_id("k", *first) == derive_id("k", *second)) == (first == second)


def test_ids_do_not_change_between_releases_of_this_program():
    """They are stored: another value here loses every join with what is stored already."""
    assert derive_id("interaction", "support", "42") == interaction_id("support", "42")
    assert interaction_id("support", "42") == "4a6d3051-d196-5de1-80be-16b72c3aba0d"
    assert content_digest(b"") == "cae66941d9efbd404e4d88758ea67670"


@given(text, st.integers(1, 64))
def test_a_key_has_one_partition(key, partitions):
    assert 0 <= partition_of(key, partitions) < partitions


@pytest.mark.parametrize(
    ("key", "hashed"),
    [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536),
     ("a-little-bit-longer-string", -1486304829), ("abc", 479470107)],
)  # fmt: skip
def test_partitions_are_those_of_kafkas_java_client(key, hashed):
    """The values of Apache Kafka's UtilsTest.testMurmur2."""
    assert partition_of(key, 1_000_003) == (hashed & 0x7FFFFFFF) % 1_000_003


def test_records_cannot_be_changed():
    record = Feedback(deployment="d", feedback_id="f", interaction_id="i", kind="thumb", event_time_ms=0,
                      received_at_ms=0, value=1.0)  # fmt: skip
    with pytest.raises(AttributeError):
        record.value = 0.0
