"""A door on a real socket in front of a real embedded store, and the clients that ask it."""

import asyncio
import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.client import Client

from streams.clickhouse_door import ClickHouseDoor, Tokens
from streams.listener import Listener, bind
from streams.settings import ClickHouseDoorSettings
from streams.store import Store, open_store

READER, WRITER = "reader-token", "writer-token"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class World:
    store: Store
    port: int

    def client(self, token: str, **more: Any) -> Client:
        named = {"database": "plumbline", "username": "someone", "password": token, **more}
        return clickhouse_connect.get_client(host="127.0.0.1", port=self.port, **named)

    def ask(
        self,
        target: str = "/",
        body: bytes | str = b"",
        *,
        token: str | None = READER,
        method: str = "POST",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request as curl would; `token` goes into X-ClickHouse-Key."""
        sent = {"X-ClickHouse-User": "someone", **({"X-ClickHouse-Key": token} if token is not None else {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, target, body, {**sent, **(headers or {})})
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read())
        finally:
            connection.close()

    def count(self, table: str = "labels") -> int:
        return int(self.store.reader().query(f"SELECT count() AS n FROM {table}", {})[0]["n"])  # noqa: S608


@contextmanager
def serving(store: Store, **settings: Any) -> Iterator[World]:
    """Serve `store` from a loop in another thread until the end of the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    chosen = msgspec.structs.replace(ClickHouseDoorSettings(max_execution_s=2.0), **settings)
    door = ClickHouseDoor(store, chosen, Tokens(READER.encode(), WRITER.encode()))
    bound = bind("127.0.0.1", 0)
    listener = Listener(door.app, bound)
    try:
        asyncio.run_coroutine_threadsafe(listener.start(), loop).result(20)
        yield World(store, bound.getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(listener.close(), loop).result(20)
        door.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


@contextmanager
def world(path: Path, **settings: Any) -> Iterator[World]:
    """Serve a new, migrated store in `path`."""
    store = open_store(path=path / "store")
    try:
        store.migrate()
        with serving(store, **settings) as served:
            yield served
    finally:
        store.close()
