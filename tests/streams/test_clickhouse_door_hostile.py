"""The door against those who hold no token, the wrong one, or a reader's and want more."""

import base64
import gzip
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import lz4.frame
import pytest
from backports import zstd

from streams.clickhouse_door import Tokens, read_tokens
from streams.settings import SettingsError, parse_settings
from streams.store_sql import refusal, statement_of
from tests.streams.clickhouse_door_world import READER, WRITER, World, world

MIB = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("door")
    (made / "secret.csv").write_text("hidden words\n")
    return made


@pytest.fixture(scope="module")
def door(folder: Path) -> Iterator[World]:
    with world(folder, max_request_bytes=2 * MIB, max_result_bytes=4 * MIB, concurrent=2) as made:
        made.client(WRITER).insert(
            "labels", [["d", "kept", 1.0]], column_names=["deployment", "label_id", "value"]
        )
        yield made


ESCAPES = {
    "scalar file": "SELECT file('{}/secret.csv')",
    "quoted": "SELECT `file`('{}/secret.csv')",
    "another case": "SELECT FILE('{}/secret.csv')",
    "comment between": "SELECT file/* */('{}/secret.csv')",
    "apply": "SELECT * APPLY file FROM (SELECT '{}/secret.csv')",
    "higher order": "SELECT arrayMap(file, ['{}/secret.csv'])",
    "lambda": "SELECT arrayMap(x -> file(x), ['{}/secret.csv'])",
    "parameter": "SELECT arrayMap({{f:Identifier}}, ['{}/secret.csv'])",
    "subquery": "SELECT (SELECT file('{}/secret.csv'))",
    "with": "WITH (SELECT file('{}/secret.csv')) AS x SELECT x",
    "table function": "SELECT * FROM file('{}/secret.csv', 'CSV', 'a String')",
    "described": "DESCRIBE file('{}/secret.csv')",
    "described in a query": "DESCRIBE (SELECT * FROM file('{}/secret.csv'))",
    "explained": "EXPLAIN SELECT file('{}/secret.csv')",
    "eval": "SELECT * FROM eval('SELECT fi' || 'le(''{}/secret.csv'')')",
    "outfile": "SELECT 1 INTO OUTFILE '{}/written.csv'",
    "outfile with a format": "SELECT 1 INTO OUTFILE '{}/written.csv' FORMAT CSV",
    "outfile after a statement": "SELECT 1; SELECT 1 INTO OUTFILE '{}/written.csv'",
    "outfile in a heredoc's shadow": "SELECT $$ ' $$ INTO OUTFILE '{}/written.csv' -- '",
    "outfile between curly quotes": "SELECT ‘'’ INTO OUTFILE '{}/written.csv' -- '",
    "insert into a file": "INSERT INTO FUNCTION file('{}/written.csv', 'CSV', 'a UInt8') VALUES (1)",
    "sqlite": "SELECT * FROM sqlite('{}/x.db', 't')",
    "url": "SELECT * FROM url('http://127.0.0.1:9/', 'CSV', 'a String')",
    "url, whose columns it would ask for": "SELECT * FROM url('http://127.0.0.1:9/', 'CSV')",
    "a table by its path": "SELECT * FROM `{}/secret.csv`",
    "python": "SELECT * FROM Python(READER)",
}


@pytest.mark.parametrize("sql", ESCAPES.values(), ids=ESCAPES)
@pytest.mark.parametrize("token", [READER, WRITER])
def test_no_token_reaches_files_or_the_network(door: World, folder: Path, sql: str, token: str) -> None:
    answer = door.ask("/?param_f=file", sql.format(folder).encode(), token=token)
    assert answer.status >= 400
    assert b"hidden" not in answer.body
    assert not (folder / "written.csv").exists()
    assert answer.headers["x-clickhouse-exception-code"] in {"46", "60", "62", "164", "497"}


WRITES = [
    "INSERT INTO labels (deployment) VALUES ('x')",
    "INSERT INTO labels (deployment) FORMAT JSONEachRow\n{}",
    "  insert INTO labels SELECT * FROM labels",
    "CREATE TABLE t (a UInt8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE t (a UInt8)",
    "DROP TABLE labels",
    "TRUNCATE TABLE labels",
    "ALTER TABLE labels DELETE WHERE 1",
    "OPTIMIZE TABLE labels FINAL",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE 1",
    "SET readonly = 0",
    "SET allow_ddl = 1",
    "SET param_f = 1",
    "USE system",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT 1 SETTINGS max_execution_time = 1000",
    "SELECT 1; SET readonly = 0",
    "SELECT 1 PARALLEL WITH DROP TABLE labels",
]


@pytest.mark.parametrize("sql", WRITES)
@pytest.mark.parametrize("smuggled", ["", "?readonly=0&allow_ddl=1&max_execution_time=1000", "?user=default"])
def test_a_reader_writes_nothing(door: World, sql: str, smuggled: str) -> None:
    answer = door.ask(f"/{smuggled}", sql)
    assert answer.status >= 400
    assert answer.headers["x-clickhouse-exception-code"] in {"62", "164"}
    assert door.count() == 1
    assert door.ask(body="SELECT currentDatabase(), getSetting('readonly')").body == b"plumbline\t1\n"


@pytest.mark.parametrize("sql", [one for one in WRITES if "FORMAT" not in one])
def test_a_writer_lands_rows_and_nothing_else(door: World, sql: str) -> None:
    assert door.ask(body=sql, token=WRITER).status >= 400
    assert door.count() == 1


def test_a_writer_stays_in_its_database_and_may_choose_to_read(door: World) -> None:
    rows = 'FORMAT JSONEachRow\n{"deployment": "x"}'
    for target, sql in [
        ("/?database=system", f"INSERT INTO labels {rows}"),
        ("/", f"INSERT INTO system.labels {rows}"),
        ("/", "CREATE DATABASE IF NOT EXISTS another ENGINE = Atomic"),
        ("/?readonly=1", f"INSERT INTO labels {rows}"),
        ("/", "INSERT INTO labels FORMAT Values\n(file('x'))"),
    ]:
        assert door.ask(target, sql, token=WRITER).status >= 400, sql
    again = door.ask(body="CREATE DATABASE IF NOT EXISTS plumbline ENGINE = Atomic", token=WRITER)
    assert again.status == 200
    assert door.count() == 1


@pytest.mark.parametrize("given", ["", "reader", READER + "x", "ü", "x" * 9_000])
def test_a_wrong_token_opens_nothing(door: World, given: str) -> None:
    basic = base64.b64encode(f"someone:{given}".encode()).decode()
    for target, headers in [
        ("/?query=SELECT%201", {"Authorization": f"Basic {basic}"}),
        ("/?query=SELECT%201", {"X-ClickHouse-Key": given.encode().decode("latin-1")}),
        (f"/?query=SELECT%201&password={given.encode().hex()}", {}),
        ("/?query=SELECT%201", {"Authorization": "Basic %%%"}),
    ]:
        answer = door.ask(target, token=None, headers=headers)
        assert answer.status in {401, 403}
        assert answer.headers["x-clickhouse-exception-code"] == "516"
        assert answer.status == 403 or "www-authenticate" in answer.headers


def test_the_token_comes_in_each_way_that_clients_send_it(door: World) -> None:
    basic = base64.b64encode(f"anyone:{READER}".encode()).decode()
    for target, headers in [
        ("/?query=SELECT%201", {"Authorization": f"Basic {basic}"}),
        ("/?query=SELECT%201", {"Authorization": f"Bearer {READER}"}),
        (f"/?query=SELECT%201&user=anyone&password={READER}", {}),
    ]:
        assert door.ask(target, token=None, headers=headers).body == b"1\n"


PASTED = [
    "SELECT '{a:', '%(a)s'",
    "SELECT '{a:', '%s'",
    "SELECT '{a:}', %(a)s",
    "SELECT {b:UInt8}, '%(a)s'",
    "SELECT {a:String}",
]


@pytest.mark.parametrize("sql", PASTED)
@pytest.mark.parametrize("form", ["", "FORMAT CSV"])
def test_a_parameter_is_never_pasted_into_the_text(door: World, folder: Path, sql: str, form: str) -> None:
    value = quote(f"', file('{folder}/secret.csv'), '")
    answer = door.ask(f"/?param_a={value}&param_b=1&param_$c$={value}", f"{sql} {form}")
    assert b"hidden" not in answer.body


def test_another_name_of_this_machine_is_refused(door: World) -> None:
    assert door.ask("/?query=SELECT%201", headers={"Host": "attacker.example"}).status == 400
    assert door.ask("/?query=SELECT%201", headers={"Host": "localhost:8123"}).status == 200


BOMBS = {
    "gzip": gzip.compress(bytes(64 * MIB), 1),
    "lz4": lz4.frame.compress(bytes(64 * MIB)),
    "lz4, many frames": lz4.frame.compress(bytes(MIB)) * 8,
    "zstd": zstd.compress(bytes(64 * MIB)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_do_not_go_off(door: World, name: str) -> None:
    answer = door.ask(body=BOMBS[name], headers={"Content-Encoding": name.partition(",")[0]})
    assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == (413, "36")


@pytest.mark.parametrize("name", ["gzip", "lz4", "zstd", "br", "gzip, gzip"])
def test_damaged_bodies_are_refused(door: World, name: str) -> None:
    for body in (b"SELECT 1", gzip.compress(b"SELECT 1")[:-4], lz4.frame.compress(b"SELECT 1")[:-6]):
        assert door.ask(body=body, headers={"Content-Encoding": name}).status in {400, 415}


def test_large_bodies_and_large_answers_are_refused(door: World) -> None:
    assert door.ask(body=b" " * (2 * MIB + 1)).status == 413
    for sql in (
        "SELECT repeat('x', 1000) FROM numbers(9000)",
        "SELECT number FROM numbers(600000) FORMAT JSON",
    ):
        answer = door.ask(body=sql)
        assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == (500, "396"), sql


def test_a_query_ends_when_its_time_is_over(door: World) -> None:
    answer = door.ask(body="SELECT count() FROM numbers(1000000000000)")
    assert answer.headers["x-clickhouse-exception-code"] == "159"


def test_a_slow_body_is_cut_and_costs_no_turn(door: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.clickhouse_door.requests._BODY_S", 0.3)
    head = (
        f"POST / HTTP/1.1\r\nHost: localhost\r\nX-ClickHouse-Key: {READER}\r\nContent-Length: 100\r\n\r\nSEL"
    )
    slow = [socket.create_connection(("127.0.0.1", door.port), timeout=10) for _ in range(6)]
    for one in slow:
        one.sendall(head.encode())
    assert door.ask(body="SELECT 1").body == b"1\n"
    assert all(one.recv(12) == b"HTTP/1.1 408" for one in slow)
    for one in slow:
        one.close()


def test_more_queries_than_turns_are_told_so(door: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.clickhouse_door.door._TURN_S", 0.05)
    busy = [socket.create_connection(("127.0.0.1", door.port), timeout=20) for _ in range(2)]
    sql = "SELECT sleep(1.5)"
    for one in busy:
        one.sendall(
            f"POST / HTTP/1.1\r\nHost: localhost\r\nX-ClickHouse-Key: {READER}\r\n"
            f"Content-Length: {len(sql)}\r\n\r\n{sql}".encode()
        )
    deadline, answer = time.monotonic() + 1.2, door.ask(body="SELECT 1")
    while answer.status == 200 and time.monotonic() < deadline:
        answer = door.ask(body="SELECT 1")
    assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == (503, "202")
    assert all(one.recv(12) == b"HTTP/1.1 200" for one in busy)
    for one in busy:
        one.close()
    assert door.ask(body="SELECT 1").body == b"1\n"


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"SELECT \x00", b"SELECT '" + b"(" * 5_000, b";;;", b"--"]
)
def test_nonsense_is_an_error_and_the_door_goes_on(door: World, body: bytes) -> None:
    assert 400 <= door.ask(body=body).status <= 500
    assert door.ask(body="SELECT 1").body == b"1\n"


def test_nothing_of_a_query_is_logged(door: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for sql in ("SELECT 'private words'", "SELECT private FROM words", "SELECT toUInt8('private words')"):
            door.ask("/?param_a=private", sql)
    # pytest gives uvicorn's access log a handler of its own, which turns on what the listener turned off.
    told = [record.getMessage() for record in caplog.records if record.name != "uvicorn.access"]
    assert not [text for text in told if "private" in text or READER in text]
    assert not logging.getLogger("uvicorn.access").propagate


def test_what_reaches_outside_is_known(door: World) -> None:
    """A new engine may bring new functions: whoever raises its version looks at them here."""
    names = "match(name, '(?i)^(ai|file$|url$|http|exec|eval|load|fetch|read_?file|python|llm|embed)')"
    found = door.ask(body=f"SELECT name FROM system.functions WHERE {names} AND name NOT LIKE 'evalML%'").body  # noqa: S608
    assert found
    for name in found.decode().split():
        assert refusal(statement_of(f"SELECT {name}(1)")), name


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("enabled = true", "needs a token"),
        ("enabled = true\nreader_token_env = 'NOT_SET_AT_ALL'", "NOT_SET_AT_ALL is not set"),
        ("enabled = true\nreader_token_env = 'A_TOKEN'\nwriter_token_env = 'A_TOKEN'", "are the same"),
        ("enabled = true\nreader_token_env = 'A_TOKEN'\n[land]\ndsn = 'http://x'", "has its own"),
    ],
)
def test_a_door_without_a_lock_is_not_built(text: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "hunter2")
    with pytest.raises(SettingsError, match=told) as refused:
        read_tokens(parse_settings(f"[clickhouse_door]\n{text}"))
    assert "hunter2" not in str(refused.value)


def test_tokens_do_not_show_themselves() -> None:
    assert READER not in repr(Tokens(READER.encode(), b""))
