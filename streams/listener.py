"""The one module that imports uvicorn: an ASGI application on a socket bound before anything starts."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette

_BACKLOG: Final = 2048
_CONCURRENT: Final = 512
"""Connections at once; one more is answered 503, so that a flood costs sockets and not memory."""
_GRACE_S: Final = 5
"""For how long a request under way may still take when the listener closes, in seconds."""


class PortError(Exception):
    """The address cannot be listened on; the text says which and what to do."""


def bind(host: str, port: int, *, setting: str = "door.port") -> socket.socket:
    """Return a listening socket; port 0 picks a free one. Errors tell to change `setting`.

    Raises
    ------
    PortError
        If the port is taken or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named so, asyncio sees that it is TCP and sends small answers at once; else each waits 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(_BACKLOG)  # with SO_REUSEADDR two may bind one port: only one may listen
    except (OSError, UnicodeError) as error:
        bound.close()
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise PortError(
            f"cannot listen on {host}:{port} ({reason}): stop what holds it, or set another {setting}"
        ) from error
    return bound


class Listener:
    """Serves one application until closed."""

    def __init__(self, app: Starlette, bound: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
            limit_concurrency=_CONCURRENT,
        )
        self._server = _Server(config)
        self._bound = bound
        self._task: asyncio.Task[None] | None = None
        host, port = bound.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Begin to serve; returns when connections are accepted."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._bound]))
        while not self._server.started:
            if self._task.done():
                await self._task  # it ended before it began: say why
                raise PortError(f"cannot listen at {self.url}")
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Finish the requests under way, for a few seconds at most, and stop."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._bound.close()


class _Server(uvicorn.Server):
    """Leaves signals to the command line, which drains the whole monitor and not the listener alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
