"""The stand-in gateway on a port of this process, in an event loop of its own thread."""

import asyncio
import base64
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.demo.gateway import Gateway
from streams.listener import Listener, bind

_KEY = base64.b64encode(b"a key that only this test and its gateway have").decode()


class GatewayThread:
    """Serves a :class:`Gateway` between ``with`` and its end; it outlives every kill of the monitor."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.secret_file = folder / "gateway.secret"
        self.secret_file.write_text(f"whsec_{_KEY}", encoding="ascii")
        self.gateway = Gateway(
            secret=f"whsec_{_KEY}", deployment="support", shares={"2.3": 0.8, "2.4": 0.2}, seed=seed
        )
        self.url = ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        listener = Listener(self.gateway.app(), bind("127.0.0.1", 0))
        await listener.start()
        self.url = listener.url
        self._ready.set()
        await self._stop.wait()
        await listener.close()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    def moves(self) -> list[str]:
        """Return the act of every call that changed the traffic, in order."""
        return [entry.action_id for entry in self.gateway.log if entry.kind == "move"]

    def wrongs(self) -> list[str]:
        """Return what the gateway had to refuse."""
        return [entry.kind for entry in self.gateway.log if entry.kind in {"conflict", "rejected"}]
