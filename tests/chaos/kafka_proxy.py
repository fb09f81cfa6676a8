"""What stands between landing and the store and lets inserts fail as networks and servers let them.

It speaks just enough HTTP/1.1 to see where a request ends. Faults are for inserts; everything else passes.
"""

import asyncio
import random
import threading
from collections import Counter
from types import TracebackType
from typing import Literal, Self

InsertFault = Literal["slow", "refused", "answered", "cut", "torn"]
"""Slow; refused before it was applied; applied and answered with an error, or not at all; torn on the way."""

_REFUSED = (241, "Memory limit (total) exceeded: would use more than allowed", 500)
_ANSWERED = (159, "Timeout exceeded: elapsed more than allowed", 500)


class StoreProxy:
    """Forwards to the store on `upstream`; runs in a thread of its own between ``with`` and its end.

    Attributes
    ----------
    port
        Where it listens, also after it was away.
    hits
        How many inserts met each fault.
    """

    def __init__(self, upstream: int, *, seed: int) -> None:
        self._upstream, self._rng = upstream, random.Random(f"{seed}/proxy")
        self.port = 0
        self.hits: Counter[str] = Counter()
        self.inserts = 0
        self._faults: dict[InsertFault, float] = {}
        self._slow_s = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="store-proxy")
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self.come_back()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go_away()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def break_inserts(self, fault: InsertFault, share: float, *, slow_s: float = 0.0) -> None:
        """Let `share` of the inserts meet `fault`; 0 ends it."""
        self._slow_s = slow_s or self._slow_s
        self._faults = {**self._faults, fault: share}

    def go_away(self) -> None:
        """Refuse connections, and end those that are open."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)

    def come_back(self) -> None:
        """Accept connections, on the same port as ever."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while request := await _read_message(reader):
                if not await self._answer(request, writer):
                    break
        except (OSError, EOFError):
            pass  # either side has gone: so has this connection
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _answer(self, request: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection may go on."""
        fault = self._draw() if _is_insert(request) else None
        if fault is not None:
            self.hits[fault] += 1
        if fault == "torn":
            await self._forward(request[: len(request) // 2], whole=False)
            return False
        if fault == "refused":
            return await _give(writer, _error(*_REFUSED))
        if fault == "slow":
            await asyncio.sleep(self._slow_s)
        answer = await self._forward(request)
        if fault == "answered":
            return await _give(writer, _error(*_ANSWERED))
        return fault != "cut" and await _give(writer, answer)

    def _draw(self) -> InsertFault | None:
        self.inserts += 1
        for fault, share in self._faults.items():
            if self._rng.random() < share:
                return fault
        return None

    async def _forward(self, request: bytes, *, whole: bool = True) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream, limit=1 << 26)
        try:
            writer.write(request)
            await writer.drain()
            return await _read_message(reader) if whole else b""
        finally:
            writer.transport.abort()


async def _give(writer: asyncio.StreamWriter, answer: bytes) -> bool:
    writer.write(answer)
    await writer.drain()
    return bool(answer)


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    """Return one request or answer, head and body as they came; empty at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        return head + await _read_chunks(reader)
    return head + await reader.readexactly(int(fields.get(b"content-length", b"0")))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while True:
        size = await reader.readuntil(b"\r\n")
        chunk = await reader.readexactly(int(size.split(b";")[0], 16) + 2)
        parts += [size, chunk]
        if int(size.split(b";")[0], 16) == 0:
            return b"".join(parts)


def _is_insert(request: bytes) -> bool:
    head, _, body = request.partition(b"\r\n\r\n")
    return b"insert+into" in head[:2_000].lower().replace(b"%20", b"+") or b"INSERT INTO" in body[:200]


def _error(code: int, text: str, status: int) -> bytes:
    body = f"Code: {code}. DB::Exception: {text}.\n".encode()
    return (
        f"HTTP/1.1 {status} Internal Server Error\r\nX-ClickHouse-Exception-Code: {code}\r\n"
        f"Content-Type: text/plain; charset=UTF-8\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
