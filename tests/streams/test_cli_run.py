"""``plumbline run`` as a process: traffic, a rollback, a drain under load, and nothing personal left behind.

One process is fed once; the tests look at what it left.
"""

import base64
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import uvicorn

from streams.demo.gateway import Gateway
from streams.listener import bind
from streams.store import open_store
from tests.conftest import support_payloads

COUNT = 1_200
PLANTED = {
    "e-mail": "erika.musterfrau@geheim-example.org",
    "phone": "+49 1512 3456789",
    "card": "4539 5787 6362 1486",
    "key": "sk-proj-9fK2mQ7xR4tV8wZ1bN6cJ3hL5pS0dG2aX7yT4uE1",
}
TRACES = (
    "musterfrau", "geheim-example", "1512 3456789", "15123456789", "4539 5787", "4539578763621486",
    "9fK2mQ7x",
)  # fmt: skip
ALL = " and ".join(PLANTED.values())
PROGRAM = "from streams.cli import main; main()"


class Process:
    """``plumbline run`` with its log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "run.log"
        with self.log.open("ab") as log:
            command = [sys.executable, "-c", PROGRAM, "run", "-c", "c.toml"]
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        self.wait_until_it_listens()

    def wait_until_it_listens(self) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                assert httpx2.get(f"{self.url}/healthz").status_code == 200
                return
            except (httpx2.HTTPError, IndexError):
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < until
                time.sleep(0.05)

    @property
    def url(self) -> str:
        doors = [line for line in self.log.read_text().splitlines() if line.startswith("door  ")]
        return doors[-1].split()[1].removesuffix("/v1/interactions")

    def terminate(self) -> tuple[int, float]:
        """Return the exit code, and how many seconds the end took."""
        began = time.monotonic()
        self.process.terminate()
        return self.process.wait(timeout=120), time.monotonic() - began


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, str, str]]:
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
    made = Gateway(secret=secret, deployment="support", shares={"2.3": 0.8, "2.4": 0.2}, seed=1)
    bound = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(made.app(), log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    yield made, f"http://127.0.0.1:{bound.getsockname()[1]}", secret
    server.should_exit = True
    thread.join(10)


def configure(folder: Path, gateway_url: str, secret: str) -> None:
    (folder / "secret").write_text(secret)
    hook = 'name = "webhook"\nsecret_file = "secret"\nallow_networks = ["127.0.0.0/8"]\n'
    (folder / "c.toml").write_text(
        'data_dir = "data"\n[door]\nport = 0\nclamp = false\n[journal]\npartitions = 2\ntick_s = 0.05\n'
        "[detect]\nreference_units = 200\nunits_per_week = 20_000\n"
        '[act]\ndry_run = false\nclock = "event"\n[land]\nflush_s = 0.2\n'
        '[[segment]]\nname = "plan"\nsource = "attributes.plan"\n'
        f'[[notifier]]\n{hook}url = "{gateway_url}/page"\n[[notifier]]\nname = "log"\n'
        f'[[rollback]]\n{hook}url = "{gateway_url}/rollback"\nstate_url = "{gateway_url}/state"\n'
    )


def polluted(body: dict[str, Any], number: int) -> dict[str, Any]:
    """Return `body` with something planted in every field that takes text of any kind."""
    kind = list(PLANTED.values())[number % len(PLANTED)]
    return {
        **body,
        "id": f"{number} {kind}"[:128],
        "prompt": f"{body['prompt']} {ALL}",
        "response": f"{body['response']} {ALL}",
        "system": ALL,
        "history": [{"role": "user", "text": ALL}, {"role": "assistant", "text": ALL}],
        "context": [ALL, kind],
        "tools": [{"name": kind, "arguments": f'{{"to": "{ALL}"}}', "result": ALL}],
        "user": f"{kind} {number % 50}",
        "conversation": f"{body['conversation']} {kind}",
        "model": kind,
        "prompt_version": kind,
        "finish_reason": kind,
        "attributes": {"plan": kind, "note": ALL, kind: "value"},
        "annotations": {**body.get("annotations", {}), "reference_answer": ALL},
        "unknown": {"deep": [ALL, {kind: ALL}]},
    }


def post(url: str, path: str, payloads: list[dict[str, Any]], **headers: str) -> list[dict[str, Any]]:
    content = b"\n".join(map(msgspec.json.encode, payloads))
    kind = {"content-type": "application/x-ndjson", **headers}
    answer = httpx2.post(f"{url}{path}", content=content, headers=kind, timeout=60)
    assert answer.status_code in {200, 202}, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    assert {one["verdict"] for one in found} <= {"accepted", "duplicate"}, answer.text[:500]
    return found


class Left(msgspec.Struct):
    """What a run left behind."""

    folder: Path
    accepted: set[str]
    exits: list[tuple[int, float]]
    log_lines: int
    gateway: Any


def feed(url: str) -> set[str]:
    accepted: set[str] = set()
    batch: list[dict[str, Any]] = []
    traffic = support_payloads(COUNT, seed=11, canary_from=400)
    for number, (kind, payload) in enumerate([*traffic, ("end", b"{}")]):
        body = msgspec.json.decode(payload)
        if batch and (kind != "interaction" or len(batch) == 200):
            accepted |= {one["interaction_id"] for one in post(url, "/v1/interactions", batch)}
            batch = []
        if kind == "interaction":
            batch.append(polluted(body, number))
        elif kind == "release":
            post(url, "/v1/releases", [{**body, "notes": ALL, "digest": PLANTED["key"]}])
    return accepted


def say_more(url: str) -> None:
    """Send feedback and labels about a named interaction, and one under an idempotency key."""
    about = {"deployment": "support", "interaction_id": PLANTED["e-mail"]}
    for number, kind in enumerate(PLANTED.values()):
        thumb = {**about, "id": kind, "kind": "thumb", "value": 1, "comment": f"{ALL} {number}"}
        post(url, "/v1/feedback", [thumb])
        label = {**about, "id": kind, "metric": "helpful", "value": 0.5, "rater": kind, "comment": ALL}
        post(url, "/v1/labels", [label])
    headers = {"content-type": "application/json", "idempotency-key": PLANTED["e-mail"]}
    body = {"deployment": "other", "release": "1", "prompt": ALL, "response": ALL}
    content = msgspec.json.encode(body)
    assert httpx2.post(f"{url}/v1/interactions", content=content, headers=headers).status_code == 202
    # What is refused must leave no trace either.
    for bad in ({**body, "release": ALL}, {**body, "prompt": [ALL]}, {**body, "user": {"name": ALL}}, [ALL]):
        content = msgspec.json.encode(bad)
        assert httpx2.post(f"{url}/v1/interactions", content=content, headers=headers).status_code >= 400
    httpx2.get(f"{url}/interaction/{PLANTED['e-mail']}?deployment={PLANTED['key']}")


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory, gateway: tuple[Gateway, str, str]) -> Left:
    folder = tmp_path_factory.mktemp("run")
    fake, gateway_url, secret = gateway
    configure(folder, gateway_url, secret)
    exits = []
    process = Process(folder)
    try:
        accepted = feed(process.url)
        say_more(process.url)
        until = time.monotonic() + 60
        while not any(entry.kind == "move" for entry in fake.log):
            assert time.monotonic() < until, (folder / "run.log").read_text()
            time.sleep(0.05)
        # Terminated with work on its way, and with a client that never finishes its request.
        more = [polluted(msgspec.json.decode(p), 2 * COUNT + n) for n, (k, p) in
                enumerate(support_payloads(200, seed=12, canary_from=400)) if k == "interaction"]  # fmt: skip
        accepted |= {one["interaction_id"] for one in post(process.url, "/v1/interactions", more)}
        with slow_request(process.url):
            exits.append(process.terminate())
        process = Process(folder)
        exits.append(process.terminate())
    finally:
        process.process.kill()
        process.process.wait()
    lines = len((folder / "run.log").read_text().splitlines())
    return Left(folder, accepted, exits, lines, fake)


def slow_request(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    slow = socket.create_connection((host, int(port)))
    slow.sendall(
        f"POST /v1/interactions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: 1000\r\n\r\n{{".encode()
    )
    time.sleep(0.2)
    return slow


def test_sigterm_drains_within_half_a_minute_and_ends_well(left: Left) -> None:
    assert [code for code, _ in left.exits] == [0, 0], (left.folder / "run.log").read_text()[-3_000:]
    assert max(seconds for _, seconds in left.exits) < 30


def test_it_paged_and_moved_the_traffic(left: Left) -> None:
    moves = [entry for entry in left.gateway.log if entry.kind == "move"]
    assert [(one.from_release, one.to_release) for one in moves] == [("2.4", "2.3")]
    assert {page.release for page in left.gateway.pages} >= {"2.4"}


def test_everything_accepted_is_landed_once(left: Left) -> None:
    store = open_store(path=left.folder / "data" / "store")
    rows = store.reader().query("SELECT interaction_id AS id, count() AS n FROM interactions GROUP BY id", {})
    store.close()
    assert {row["n"] for row in rows} == {1}
    assert left.accepted <= {row["id"] for row in rows}
    assert len(left.accepted) == COUNT + 200
    assert len(rows) == COUNT + 200 + 1  # and the one under an idempotency key


def strings(left: Left) -> Iterator[tuple[str, str]]:
    """Yield every text that the store holds, with its column, decompressed by the engine itself."""
    store = open_store(path=left.folder / "data" / "store")
    reader = store.reader()
    columns = reader.query(
        "SELECT table, name FROM system.columns WHERE database = 'plumbline' "
        "AND match(type, 'String|Map|Array|JSON|Enum')",
        {},
    )
    assert len(columns) > 50
    for column in columns:
        table, name = column["table"], column["name"]
        if table.startswith(".inner"):
            table = f"`{table}`"
        for row in reader.query(f"SELECT DISTINCT toString(`{name}`) AS text FROM plumbline.{table}", {}):  # noqa: S608
            yield f"{table}.{name}", row["text"]
    store.close()


def test_nothing_personal_is_in_the_store(left: Left) -> None:
    found = {column for column, text in strings(left) for trace in TRACES if trace in text}
    assert found == set()


def test_nothing_personal_is_on_disk_or_in_the_log(left: Left) -> None:
    files = [path for path in left.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {"journal.db", "ledger.db", "run.log", "user.key"} <= {path.name for path in files}
    found = {
        (str(path.relative_to(left.folder)), trace)
        for path in files
        for content in [path.read_bytes()]
        for trace in TRACES
        if trace.encode() in content or trace.encode("utf-16-le") in content
    }
    assert found == set()


def test_the_placeholders_are_there(left: Left) -> None:
    """The texts came through, with what was planted replaced: else the search above proves nothing."""
    prompts = [text for column, text in strings(left) if column == "interaction_text.prompt"]
    assert len(prompts) > 50
    assert all("[" in text and "]" in text for text in prompts)


def test_the_log_is_quiet(left: Left) -> None:
    """A few lines for a start, an end and each notice: never one for a record."""
    assert left.log_lines < 100


def test_the_data_directory_is_ours_alone(left: Left) -> None:
    assert (left.folder / "data").stat().st_mode & 0o077 == 0
    assert (left.folder / "data" / "user.key").stat().st_mode & 0o177 == 0
    assert os.path.getsize(left.folder / "data" / "user.key") == 32  # noqa: PTH202
