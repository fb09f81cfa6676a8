"""The listener's bounds, on a real socket: a body that drips, and more connections than it takes."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from detectors.redaction import Redactor
from streams.door.counters import DoorCounters
from streams.door.http import door_routes
from streams.listener import Listener, bind
from streams.settings import DoorSettings


class NoInbox:
    async def admit(self, entries):
        raise AssertionError("nothing of this may be written")


async def read_all(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(15):
        return await reader.read()


@pytest.mark.parametrize("framing", ["content-length: 500", "transfer-encoding: chunked"])
def test_a_body_that_drips_is_answered_and_cut_off(framing):
    async def story():
        counters = DoorCounters()
        routes = door_routes(
            inbox=NoInbox(),
            settings=DoorSettings(body_s=0.3),
            redactor=Redactor(),
            user_key=b"k" * 32,
            now_ms=lambda: 1_000,
            counters=counters,
            token=None,
        )
        listener = Listener(Starlette(routes=routes), bind("127.0.0.1", 0))
        await listener.start()
        port = int(listener.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = [
            "POST /v1/interactions HTTP/1.1",
            "host: x",
            "content-type: application/json",
            framing,
            "",
            "",
        ]
        writer.write("\r\n".join(lines).encode())
        answer = asyncio.create_task(read_all(reader))
        while not answer.done():
            writer.write(b"1\r\n{\r\n" if "chunked" in framing else b"{")
            await asyncio.sleep(0.02)
        status, _, body = answer.result().partition(b"\r\n")
        assert status.split(b" ")[1] == b"408"
        assert b'"too_slow"' in body
        assert b"connection: close" in body.lower()
        assert counters.snapshot() == {"too_slow": 1}
        writer.close()
        await listener.close()

    asyncio.run(story())


def test_one_connection_too_many_is_refused_and_the_others_are_served(monkeypatch):
    monkeypatch.setattr("streams.listener._CONCURRENT", 4)

    async def ask(port: int, pause: asyncio.Event) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await pause.wait()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        status = int((await read_all(reader)).split(b" ")[1])
        writer.close()
        return status

    async def story():
        app = Starlette(routes=[Route("/", lambda _request: PlainTextResponse("here"))])
        listener = Listener(app, bind("127.0.0.1", 0))
        await listener.start()
        port, go = int(listener.url.rpartition(":")[2]), asyncio.Event()
        asking = [asyncio.create_task(ask(port, go)) for _ in range(10)]
        while len(listener._server.server_state.connections) < 10:
            await asyncio.sleep(0.01)
        go.set()
        assert 503 in await asyncio.gather(*asking)
        while listener._server.server_state.connections:
            await asyncio.sleep(0.01)
        assert await ask(port, go) == 200
        await listener.close()

    asyncio.run(story())
