"""The door as clients use it: clickhouse-connect over HTTP, requests as curl sends them, Grafana's driver."""

import base64
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from streams.clickhouse_door.handshake import handshake
from streams.store import StoreError
from tests.streams.clickhouse_door_world import READER, WRITER, World, world

RECORDED = json.loads((Path(__file__).parent / "recorded" / "clickhouse_go_2_47.json").read_text())[
    "requests"
]
LABEL = {"column_names": ["deployment", "label_id", "value"]}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("door")) as made:
        yield made


@pytest.fixture
def door(served: World) -> World:
    served.store._client.command("TRUNCATE TABLE labels")
    return served


@pytest.mark.parametrize("compress", [True, "zstd", "gzip", False])
def test_native_rows_land_once_per_token(door: World, compress: Any) -> None:
    client = door.client(WRITER, compress=compress)
    rows = [["d", f"l{index}", index / 7] for index in range(3_000)]
    settings = {"insert_deduplication_token": f"once/{compress}", "async_insert": 0}
    for _ in range(2):
        client.insert("labels", rows, settings=settings, **LABEL)
    assert door.count() == 3_000
    got = client.query("SELECT label_id, value FROM labels WHERE label_id = 'l21'").result_rows
    assert got == [("l21", 3.0)]


def test_other_tokens_and_other_forms_land_too(door: World) -> None:
    client = door.client(WRITER)
    client.insert("labels", [["d", "a", 1.0]], settings={"insert_deduplication_token": "x"}, **LABEL)
    client.insert("labels", [["d", "b", 1.0]], settings={"insert_deduplication_token": "y"}, **LABEL)
    line = b'{"deployment":"d","label_id":"c","value":2}'
    client.raw_insert("labels", LABEL["column_names"], line, fmt="JSONEachRow")
    assert door.count() == 3


def test_parameters_of_every_shape_arrive_as_they_were(door: World) -> None:
    client = door.client(READER)
    given = {"s": "it's \\ a\ttab\nnull \\N %s", "a": ["p", "q'r", "\\"], "n": None, "i": -3}
    sql = "SELECT {s:String}, {a:Array(String)}, {n:Nullable(String)}, {i:Int32}"
    assert client.query(sql, parameters=given).result_rows == [tuple(given.values())]
    assert door.ask("/?param_unused=1", "SELECT '100 %' LIKE '%'").body == b"1\n"


def test_frames_and_streams(door: World) -> None:
    client = door.client(READER)
    frame = client.query_df("SELECT number AS n, toString(number) AS s FROM numbers(70000)")
    assert (len(frame), int(frame.n.sum()), frame.s.iloc[-1]) == (70_000, 2_449_965_000, "69999")
    assert client.query_df("SELECT 1 AS n WHERE 0").empty
    with client.query_row_block_stream("SELECT number FROM numbers(200000)") as blocks:
        assert sum(len(block) for block in blocks) == 200_000


def test_errors_carry_the_code_of_the_engine(door: World) -> None:
    client = door.client(READER)
    for sql, code in {
        "SELECT nope": 47, "SELECT * FROM nope": 60, "SELECT * FROM nodb.nope": 81, "SELECT FROM WHERE": 62,
        "SELECT throwIf(1)": 395,
    }.items():  # fmt: skip
        with pytest.raises(DatabaseError) as refused:
            client.query(sql)
        assert refused.value.code == code, sql
    assert client.ping()
    assert client.query("SELECT 1").result_rows == [(1,)]


def test_a_wrong_token_is_an_authentication_error(door: World) -> None:
    with pytest.raises(DatabaseError) as refused:
        door.client("wrong")
    assert refused.value.code == 516


def test_what_a_failed_query_had_put_out_is_in_no_other_answer(door: World) -> None:
    for _ in range(8):
        failed = door.ask(body="SELECT throwIf(number = 500000) FROM numbers(1000000)")
        assert failed.headers["x-clickhouse-exception-code"] == "395"
        assert door.ask(body="SELECT 1").body == b"1\n"
    reader = door.store.reader()
    with pytest.raises(StoreError):
        reader.query("SELECT throwIf(number = 500000) FROM numbers(1000000)", {})
    assert reader.query("SELECT 1 AS one", {}) == [{"one": 1}]


STATUSES = {"SELECT nope": (404, "47"), "SELECT 1 FROM nope": (404, "60"), "SELECT throwIf(1)": (500, "395")}


@pytest.mark.parametrize(("sql", "expected"), STATUSES.items(), ids=STATUSES)
def test_an_error_is_text_with_a_status(door: World, sql: str, expected: tuple[int, str]) -> None:
    answer = door.ask(body=sql)
    assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == expected
    assert answer.body.startswith(f"Code: {expected[1]}. DB::Exception: ".encode())


def test_a_query_comes_from_the_target_or_the_body_or_both(door: World) -> None:
    assert door.ask("/?query=SELECT%201", method="GET").body == b"1\n"
    assert door.ask(body="SELECT 1;").body == b"1\n"
    assert door.ask("/?query=SELECT", "2").body == b"2\n"
    assert door.ask("/?default_format=JSONEachRow", "SELECT 1 AS a").body == b'{"a":1}\n'
    assert door.ask("/?default_format=JSONEachRow", "SELECT 1 AS a FORMAT CSV").body == b"1\n"
    assert door.ask("/?database=system", "SELECT currentDatabase()").body == b"system\n"
    assert door.ask(body="SELECT currentDatabase()").body == b"plumbline\n"
    assert door.ask("/?database=nodb", "SELECT 1").headers["x-clickhouse-exception-code"] == "81"
    assert door.ask(body="SELECT currentDatabase()").body == b"plumbline\n"
    assert door.ask("/?param_a=5", "SELECT {a:UInt8} + 1").body == b"6\n"


def test_headers_tell_what_a_driver_reads(door: World) -> None:
    answer = door.ask("/?query_id=my-id", "SELECT 1 FORMAT JSON")
    told = {
        name: answer.headers[f"x-clickhouse-{name}"] for name in ("format", "query-id", "server-display-name")
    }
    assert told == {"format": "JSON", "query-id": "my-id", "server-display-name": "plumbline"}
    assert answer.headers["x-clickhouse-timezone"]
    assert json.loads(answer.headers["x-clickhouse-summary"])["result_bytes"] == str(len(answer.body))
    assert answer.headers["content-type"].startswith("application/json")
    odd = door.ask("/?query_id=%0d%0aSet-Cookie:x", "SELECT 1")
    assert "set-cookie" not in odd.headers
    assert re.fullmatch(r"[0-9a-f-]{36}", odd.headers["x-clickhouse-query-id"])


def test_answers_are_packed_where_the_client_takes_it(door: World) -> None:
    sql = "SELECT number FROM numbers(5000)"
    plain = door.ask(body=sql).body
    packed = door.ask(body=sql, headers={"Accept-Encoding": "gzip, br"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain
    refused = door.ask("/?enable_http_compression=0", sql, headers={"Accept-Encoding": "gzip"})
    assert refused.body == plain


def test_ping_needs_no_token(door: World) -> None:
    assert door.ask("/ping", token=None, method="GET").body == b"Ok.\n"


def recorded(request_: dict[str, Any]) -> tuple[str, bytes]:
    return base64.b64decode(request_["body"]).decode(), base64.b64decode(request_["answer"] or "")


@pytest.mark.parametrize("request_", RECORDED, ids=lambda one: recorded(one)[0][:40])
def test_the_driver_of_grafana_gets_what_it_could_read(door: World, request_: dict[str, Any]) -> None:
    sql, kept = recorded(request_)
    headers = dict(request_["headers"])
    headers["Authorization"] = "Basic " + base64.b64encode(f"grafana:{READER}".encode()).decode()
    answer = door.ask(request_["target"], sql, token=None, method=request_["method"], headers=headers)
    assert answer.status == request_["status"]
    for name, value in request_["answer_headers"].items():
        assert answer.headers[name.lower()] == value
    if "displayName()" in sql:  # holds the engine's version and the machine's time zone
        timezone = answer.headers["x-clickhouse-timezone"]
        version = door.ask(body="SELECT version()").body.decode().strip()
        assert answer.body == handshake("plumbline", version, timezone)
    elif "UUID" in sql:  # another one each time, at the end of each column's rows
        assert answer.body[:-48] == kept[:-48]
        assert len(answer.body) == len(kept)
    elif answer.status == 200 and request_["answer"] is not None:
        assert answer.body == kept


def test_the_handshake_is_the_one_that_the_driver_decoded() -> None:
    kept = [answer for sql, answer in map(recorded, RECORDED) if "displayName()" in sql]
    assert kept == [handshake("plumbline", "26.9.2.1", "Etc/UTC")] * 2
