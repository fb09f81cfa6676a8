"""The pure parts of the door, under whatever bytes and texts there are."""

import gzip

import lz4.frame
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from streams.clickhouse_door.handshake import handshake, is_handshake
from streams.clickhouse_door.packing import pack, unpack
from streams.clickhouse_door.statements import insert_of, is_ours
from streams.door.body import BodyError
from streams.store_sql import refusal, statement_of

PACKERS = {"gzip": gzip.compress, "lz4": lz4.frame.compress, "zstd": zstd.compress}


@given(body=st.binary(max_size=4_000), name=st.sampled_from(sorted(PACKERS)), cut=st.integers(0, 4_000))
def test_what_is_packed_comes_back_whole_or_not_at_all(body: bytes, name: str, cut: int) -> None:
    packed = PACKERS[name](body)
    assert unpack(packed, name, max_bytes=len(body)) == body
    if body:
        with pytest.raises(BodyError) as refused:
            unpack(packed, name, max_bytes=len(body) - 1)
        assert refused.value.status == 413
    if 0 < cut < len(packed):
        with pytest.raises(BodyError):
            unpack(packed[:cut], name, max_bytes=len(body))


@given(body=st.binary(max_size=4_000), rest=st.text(max_size=10))
def test_answers_are_packed_reversibly(body: bytes, rest: str) -> None:
    packed, headers = pack(body, f"gzip;q=1, {rest}")
    assert (gzip.decompress(packed) if headers else packed) == body


@given(body=st.binary(max_size=200), name=st.sampled_from([*PACKERS, "br", ""]))
def test_any_bytes_are_a_body_or_refused(body: bytes, name: str) -> None:
    try:
        unpacked = unpack(body, name, max_bytes=10_000)
    except BodyError as error:
        status = error.status
    else:
        status = 200 if len(unpacked) <= 10_000 else 500
    assert status in {200, 400, 413, 415}


WORDS = [
    "INSERT INTO ",
    "labels",
    "`a`",
    "(",
    ")",
    ",",
    " FORMAT ",
    "Native",
    "Values",
    "\n",
    "SELECT",
    "file(",
    ";",
    "--",
]


@given(parts=st.lists(st.sampled_from(WORDS), max_size=12), rows=st.binary(max_size=20))
def test_an_insert_is_a_table_columns_and_rows(parts: list[str], rows: bytes) -> None:
    query = "".join(parts).encode() + rows
    insert = insert_of(query)
    if insert is not None:
        head = query[: len(query) - len(insert.block)]
        assert insert.form in {"Native", "RowBinary", "JSONEachRow"}
        assert query.endswith(insert.block)
        assert not {b"SELECT", b"file(", b";", b"--", b"Values"} & set(head.replace(b"\n", b" ").split())
        assert all(name.isidentifier() for name in (insert.table, *insert.columns))


STRING = st.text("a'`\\(;-", max_size=6).map(
    lambda text: "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
)
PIECES = st.one_of(STRING, st.sampled_from(["SELECT", "x", "(", ")", "`a b`", "1", ",", "FORMAT", "JSON"]))


@given(
    before=st.lists(PIECES, max_size=8),
    after=st.lists(PIECES, max_size=8),
    name=st.sampled_from(["file", "`FILE`", "outfile"]),
)
def test_no_neighbour_hides_a_forbidden_word(before: list[str], after: list[str], name: str) -> None:
    text = " ".join(["SELECT", *before, name, *after])
    assert refusal(statement_of(text))


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("SELECT 1", ""),
        ("SELECT 1 FORMAT JSON", "JSON"),
        ("SELECT 1 FORMAT JSON SETTINGS a = 1", "JSON"),
        ("SELECT 'x FORMAT JSON'", ""),
        ("SELECT FORMAT AS a FROM t", ""),
        ("SELECT 1 AS `FORMAT` FROM t", ""),
    ],
)
def test_the_format_is_the_trailing_clause(text: str, form: str) -> None:
    assert statement_of(text).form == form


def test_only_the_very_same_definitions_are_ours() -> None:
    assert not is_ours("CREATE DATABASE IF NOT EXISTS other ENGINE = Atomic", database="plumbline")
    assert not is_ours("CREATE TABLE IF NOT EXISTS labels (a Int8) ENGINE = Kafka", database="plumbline")


def test_the_handshake_speaks_of_long_names_too() -> None:
    block = handshake("n" * 200, "1", "UTC")
    assert block[:10] == bytes([1, 0, 2, 255, 255, 255, 255, 0, 4, 1])
    assert b"\xc8\x01" + b"n" * 200 in block
    assert not is_handshake("SELECT displayName()")
