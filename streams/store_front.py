"""The store as the process that owns it opens it, and its ClickHouse door."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from streams.clickhouse_door import ClickHouseDoor, Tokens, read_tokens
from streams.listener import Listener, bind
from streams.settings import Settings, read_secret
from streams.store import Store, open_store

Closer = Callable[[], object] | Callable[[], Awaitable[object]]


def open_landing_store(settings: Settings, *, timeout_s: float = 0.0) -> Store:
    """Return the store of ``[land]``, open and migrated.

    Parameters
    ----------
    settings
        Without a dsn the engine is embedded, in the data directory, which must be ours.
    timeout_s
        What takes a server longer is given up; 0: the driver's own limits.

    Raises
    ------
    StoreError
        If it cannot be opened.
    """
    land = settings.land
    store = open_store(
        path=Path(settings.data_dir) / "store",
        dsn=land.dsn,
        password=read_secret(env=land.password_env, what="store password"),
        database=land.database,
        timeout_s=timeout_s,
    )
    try:
        store.migrate()
    except BaseException:
        store.close()
        raise
    return store


class StoreFront:
    """The ClickHouse door of the embedded store, where ``[clickhouse_door]`` asks for one.

    Parameters
    ----------
    settings
        Tokens are read at once, so that what is wrong with them is told before anything is opened.

    Attributes
    ----------
    url
        Where the door listens; empty without one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.clickhouse_door
        self._tokens: Tokens | None = read_tokens(settings)
        self._bound: socket.socket | None = None
        self.url = ""

    def bind(self) -> Callable[[], object] | None:
        """Take the door's port before anything is opened; return what gives it back, None without a door."""
        if self._tokens is None:
            return None
        self._bound = bind(self._settings.host, self._settings.port, setting="clickhouse_door.port")
        return self._bound.close

    async def serve(self, store: Store) -> list[Closer]:
        """Serve `store`; return what ends that, to be called from the last to the first."""
        if self._bound is None or self._tokens is None:
            return []
        door = await asyncio.to_thread(ClickHouseDoor, store, self._settings, self._tokens)
        listener = Listener(door.app, self._bound)
        await listener.start()
        self.url = listener.url
        return [lambda: asyncio.to_thread(door.close), listener.close]
