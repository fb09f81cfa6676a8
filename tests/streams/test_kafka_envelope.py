"""Envelopes give back what was put into them, and refuse everything else."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.records import Feedback, Interaction, Release, Scorecard, Tick
from detectors.records.codec import encode
from streams.kafka.envelope import (
    PLACE_STEP,
    EnvelopeError,
    Origin,
    RawMessage,
    place_of,
    read_records,
    seal,
    split_place,
    unseal,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
INSTANTS = st.integers(0, 4_102_444_800_000)
INTERACTIONS = st.builds(
    Interaction,
    deployment=TEXT,
    interaction_id=TEXT,
    raw_id=TEXT,
    release=TEXT,
    event_time_ms=INSTANTS,
    received_at_ms=INSTANTS,
    prompt=TEXT,
    response=TEXT,
    attributes=st.dictionaries(TEXT, TEXT, max_size=3),
    extra=st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT, max_size=3),
)
TICKS = st.builds(Tick, source_partition=st.integers(0, 1023), watermark_ms=INSTANTS)
FEEDBACK = st.builds(
    Feedback,
    deployment=TEXT,
    feedback_id=TEXT,
    interaction_id=TEXT,
    kind=st.just("thumb"),
    event_time_ms=INSTANTS,
    received_at_ms=INSTANTS,
    value=st.floats(-1e9, 1e9),
)
RECORDS = st.lists(INTERACTIONS | TICKS | FEEDBACK, max_size=30)
ORIGINS = st.builds(Origin, TEXT, TEXT, st.integers(0, 1023), st.integers(0, 2**62), st.integers(0, 99))


@given(RECORDS, ORIGINS, st.integers(1, 3_000))
def test_what_is_sealed_comes_out_again(records, origin, limit):
    sealed = seal(records, origin, limit=limit)
    found, parts = [], []
    for envelope in sealed:
        at, some = unseal(envelope.value, envelope.headers)
        assert at is not None
        assert msgspec.structs.replace(at, part=origin.part) == origin
        assert len(envelope.value) <= limit or len(some) == 1
        found += some
        parts.append(at.part)
    assert found == records
    assert parts == [origin.part + number for number in range(len(sealed))]


@given(RECORDS)
def test_equal_records_give_equal_bytes(records):
    assert seal(records, None) == seal(list(records), None)
    assert b"".join(map(encode, records)).count(b"\n") == 0


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused_and_not_repeated(value):
    with pytest.raises(EnvelopeError):
        read_records(value)


@given(INTERACTIONS, st.data())
def test_damage_never_ends_otherwise_than_in_an_envelope_error(record, data):
    (envelope,) = seal([record], None)
    where = data.draw(st.integers(0, len(envelope.value) - 1))
    damaged = bytearray(envelope.value)
    damaged[where] = data.draw(st.integers(0, 255))
    try:
        (back,) = read_records(bytes(damaged))
    except EnvelopeError:
        return
    assert isinstance(back, Interaction | Scorecard | Release | Tick | Feedback)


def test_an_envelope_has_an_end():
    small = [Tick(0, 0)] * (PLACE_STEP + 1)
    first, second = seal(small, Origin("s", "t", 0, 0), limit=1 << 30)
    assert [len(read_records(one.value)) for one in (first, second)] == [PLACE_STEP, 1]


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ((), "without a format"),
        ((("plumbline-format", b"envelope-9"),), "of another format"),
        ((("plumbline-format", b"envelope-1"), ("plumbline-origin", b"{secret")), "origin"),
        ((("plumbline-format", b"envelope-1"), ("plumbline-origin", b"\xff\xfe")), "origin"),
    ],
)
def test_foreign_headers_are_refused(headers, why):
    (envelope,) = seal([Tick(0, 1)], None)
    with pytest.raises(EnvelopeError, match=why) as caught:
        unseal(envelope.value, headers)
    assert "secret" not in str(caught.value)


def test_an_envelope_without_origin():
    (envelope,) = seal([Tick(0, 1)], None)
    assert unseal(envelope.value, envelope.headers) == (None, [Tick(0, 1)])


@given(st.integers(0, 2**46), st.integers(0, PLACE_STEP - 1))
def test_places_are_in_the_order_of_records(offset, index):
    assert split_place(place_of(offset, index)) == (offset, index)
    assert place_of(offset, PLACE_STEP - 1) < place_of(offset + 1)


def test_a_raw_message_shows_no_text():
    message = RawMessage("t", 3, 5, 0, b"whose", b"what", (("h", b"header"),))
    assert repr(message) == str(message) == "RawMessage(t/3@5)"
