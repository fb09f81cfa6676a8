"""Records whose header names are not UTF-8 are read like any others."""

from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchBuilderPy
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.errors import CorruptRecordError
from kafka.record import default_records as plain_records

from streams.kafka import header_names_sync
from streams.kafka.header_names import accept_any_header_name
from streams.kafka.header_names_sync import teach_header_names
from streams.kafka.snappy import teach_snappy

SNAPPY = DefaultRecordBatch.CODEC_SNAPPY


class Name(str):
    """A header name that is sent as the bytes `sent`."""

    sent: bytes

    def encode(self, *_: Any, **__: Any) -> bytes:
        return self.sent


def named(sent: bytes) -> Name:
    name = Name("x")
    name.sent = sent
    return name


def batch(headers: list[list[tuple[bytes, bytes | None]]], compression: int) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=compression,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1_000_000,
    )
    for offset, pairs in enumerate(headers):
        coded = [(named(name), value) for name, value in pairs]
        builder.append(offset, timestamp=7, key=b"k", value=b"v%d" % offset, headers=coded)
    return bytes(builder.build())


@pytest.fixture(scope="module", autouse=True)
def accepted() -> Iterator[None]:
    before = fetcher.MemoryRecords
    accept_any_header_name()
    yield
    fetcher.MemoryRecords = before


def read(*batches: bytes) -> list[tuple[bytes, list[tuple[str, bytes | None]]]]:
    records = fetcher.MemoryRecords(b"".join(batches))
    found = []
    while records.has_next():
        one = records.next_batch()
        assert one.validate_crc()
        assert (one.is_control_batch, one.base_offset) == (False, 0)
        found += [(record.value, list(record.headers)) for record in one]
    return found


@pytest.mark.parametrize("compression", [0, SNAPPY])
def test_aiokafka_alone_fails_on_such_a_name(compression: int) -> None:
    poisoned = batch([[(b"fine", b"1")], [(b"\xff", b"2")]], compression)
    with pytest.raises(UnicodeDecodeError):
        list(DefaultRecordBatch(poisoned))
    assert read(poisoned) == [(b"v0", [("fine", b"1")]), (b"v1", [("\\xff", b"2")])]


@settings(max_examples=50, deadline=None)
@given(
    headers=st.lists(
        st.lists(st.tuples(st.binary(max_size=5), st.none() | st.binary(max_size=3)), max_size=3),
        min_size=1,
        max_size=5,
    ),
    compression=st.sampled_from([0, SNAPPY]),
)
def test_every_record_of_every_batch_is_read(
    headers: list[list[tuple[bytes, bytes | None]]], compression: int
) -> None:
    expected = [
        (b"v%d" % at, [(name.decode("utf-8", "backslashreplace"), value) for name, value in pairs])
        for at, pairs in enumerate(headers)
    ]
    one = batch(headers, compression)
    assert read(one, one) == expected + expected


@pytest.mark.parametrize("compression", [0, SNAPPY])
def test_kafka_python_alone_calls_such_a_record_corrupt(
    compression: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach_snappy()
    names = [[(b"fine", b"1")], [(b"\xff", b"2"), (b"a", None)], [(b"\xc3\x28", b"")]]
    poisoned = batch(names, compression)
    with monkeypatch.context() as patched:
        patched.setattr(plain_records.DefaultRecordBatch, "_read_msg", header_names_sync._read_msg)
        with pytest.raises(CorruptRecordError):
            list(plain_records.DefaultRecordBatch(poisoned))
    teach_header_names()
    found = [(one.value, list(one.headers)) for one in plain_records.DefaultRecordBatch(poisoned)]
    assert found == read(poisoned)
    assert found[1] == (b"v1", [("\\xff", b"2"), ("a", None)])
