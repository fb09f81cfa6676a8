"""The guard: nobody without the token, whatever the header holds; probes and the door go by."""

import asyncio
import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from streams.guard import TokenGuard, host_guards
from streams.monitor import Monitor
from streams.settings import DoorSettings, Settings, SettingsError, parse_settings

TOKEN = "tökén:with:colons"


def ask(path: str, header: bytes | None, kind: str = "http") -> int:
    """Return the status of one request; 299 is what is guarded."""
    sent: list[int] = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 299, "headers": []})

    async def send(message):
        if message["type"] == "http.response.start":
            sent.append(message["status"])

    headers = [] if header is None else [(b"authorization", header)]
    scope = {"type": kind, "path": path, "headers": headers, "method": "GET"}
    asyncio.run(TokenGuard(app, TOKEN)(scope, None, send))
    return sent[0]


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize("header", [b"Bearer " + TOKEN.encode(), b"bearer   " + TOKEN.encode() + b" ",
                                    basic(f"x:{TOKEN}"), basic(f":{TOKEN}")])  # fmt: skip
def test_the_token_opens(header):
    assert ask("/metrics", header) == 299


@given(st.binary(max_size=60))
def test_nothing_else_opens_and_nothing_raises(header):
    assert ask("/", header) == 401
    assert ask("/", b"Bearer " + header) == 401
    assert ask("/", b"Basic " + header) == 401
    assert ask("/", b"Basic " + base64.b64encode(header)) == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/interactions", "/v1/openapi.json"])
def test_probes_and_the_door_go_by(path):
    assert ask(path, None) == 299


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/v1", "/healthzz", "/readyz/../metrics", "//v1/", "/V1/x"]
)
def test_everything_else_asks(path):
    assert ask(path, None) == 401


def host_status(host: str, *, at: str = "127.0.0.1", allowed: tuple[str, ...] = ()) -> int:
    async def here(_request):
        return PlainTextResponse("here")

    app = Starlette(routes=[Route("/", here)], middleware=host_guards(at, allowed))
    return TestClient(app).get("/", headers={"host": host}).status_code


@pytest.mark.parametrize(
    ("host", "allowed", "status"),
    [
        ("localhost", (), 200),
        ("monitor.example", (), 400),
        ("monitor.example", ("monitor.example",), 200),
        ("monitor.example:8443", ("monitor.example",), 200),
        ("other.example", ("monitor.example",), 400),
        ("x.monitor.example", ("monitor.example",), 400),
        ("127.0.0.1:8321", ("monitor.example",), 200),
    ],
)
def test_on_loopback_only_known_names_may_address_it(host, allowed, status):
    assert host_status(host, allowed=allowed) == status


@pytest.mark.parametrize(("token", "status"), [("", 400), ("a token", 299)])
def test_where_a_token_is_required_names_are_not_looked_at(tmp_path, token, status):
    (tmp_path / "token").write_text(token or "unused", encoding="utf-8")
    door = DoorSettings(token_file=str(tmp_path / "token") if token else "")

    async def here(_request):
        return PlainTextResponse("here", status_code=299)

    app = Monitor(Settings(data_dir=str(tmp_path / "data"), door=door))._guarded([Route("/", here)])
    headers = {"host": "monitor.example", "authorization": f"Bearer {token}"}
    assert TestClient(app).get("/", headers=headers).status_code == status


def test_beyond_this_machine_names_are_not_looked_at():
    assert host_status("anything.example", at="0.0.0.0") == 200  # noqa: S104


@pytest.mark.parametrize("name", ["*", "*.example", "", "a b", "http://x", "x/", "UPPER", ".x", "x:80"])
def test_a_pattern_is_no_name(name):
    with pytest.raises(SettingsError, match="allowed_hosts"):
        parse_settings(f"[door]\nallowed_hosts = ['{name}']")
