"""The guard: nobody without the token, whatever the header holds; probes and the door go by."""

import asyncio
import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.guard import TokenGuard

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
