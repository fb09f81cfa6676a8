"""Who may read the page and the metrics: nobody without the token, where one is configured."""

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Final

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from streams.door.http import is_loopback

_PROBES: Final = ("/healthz", "/readyz")
_DOOR: Final = "/v1/"
"""What answers without this check: probes, and the door, which checks its own token."""


class TokenGuard:
    """ASGI middleware that asks for the token as a bearer, or as the password of HTTP Basic (any user).

    Parameters
    ----------
    app
        What is guarded.
    token
        The token.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] != "http" or _is_open(scope["path"]) or self._is_known(Request(scope)):
            await self._app(scope, receive, send)
            return
        refusal = PlainTextResponse(
            "This page needs the token as a bearer, or as the password of HTTP Basic.\n",
            status_code=401,
            headers={"WWW-Authenticate": 'Basic realm="plumbline"'},
        )
        await refusal(scope, receive, send)

    def _is_known(self, request: Request) -> bool:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.casefold() == "bearer":
            # A header is read as Latin-1; its bytes are what was sent.
            return hmac.compare_digest(credentials.strip(" \t").encode("latin-1"), self._token)
        if scheme.casefold() == "basic":
            try:
                password = base64.b64decode(credentials, validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                return False
            return hmac.compare_digest(password, self._token)
        return False


def _is_open(path: str) -> bool:
    return path in _PROBES or path.startswith(_DOOR)


def host_guards(host: str, allowed: Sequence[str] = ()) -> list[Middleware]:
    """Return what keeps other names away from a listener at `host`; nothing beyond this machine.

    On loopback only loopback names and those `allowed` may address it: a page in a browser must not reach us
    under a name of its owner's choice.
    """
    if not is_loopback(host):
        return []
    bare = host.strip("[]")
    names = {"127.0.0.1", "localhost", "[::1]", f"[{bare}]" if ":" in bare else bare, *allowed}
    return [Middleware(TrustedHostMiddleware, allowed_hosts=sorted(names))]
