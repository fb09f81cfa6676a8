"""Who is asking: the reader, the writer, or nobody."""

import base64
import binascii
import hmac
from typing import Final, Literal

from msgspec import Struct
from starlette.requests import Request

from streams.settings import Settings, SettingsError, read_secret

Role = Literal["reader", "writer"]
AUTHENTICATION_FAILED: Final = 516


class Tokens(Struct, frozen=True):
    """The two tokens as bytes; an empty writer token fits nobody."""

    reader: bytes
    writer: bytes

    def __repr__(self) -> str:
        return "Tokens(...)"


def read_tokens(settings: Settings) -> Tokens | None:
    """Return the tokens that ``[clickhouse_door]`` names; None where the door is not enabled.

    Raises
    ------
    SettingsError
        If there is no reader token, or the writer's is the same: a reader could then write. Also if the
        store is a server, which has a door of its own.

    Examples
    --------
    >>> read_tokens(Settings()) is None
    True
    """
    door = settings.clickhouse_door
    if not door.enabled:
        return None
    if settings.land.dsn:
        raise SettingsError(
            "[clickhouse_door] is for the embedded store; the server of [land] dsn has its own"
        )
    reader = read_secret(
        env=door.reader_token_env, file=door.reader_token_file, what="[clickhouse_door] reader_token"
    )
    writer = read_secret(
        env=door.writer_token_env, file=door.writer_token_file, what="[clickhouse_door] writer_token"
    )
    if not reader:
        raise SettingsError("[clickhouse_door] needs a token: set reader_token_env or reader_token_file")
    if reader == writer:
        raise SettingsError("[clickhouse_door] the reader and the writer token are the same: change one")
    return Tokens(reader.encode(), writer.encode())


def role_of(request: Request, tokens: Tokens) -> Role | None:
    """Return the role that the request's token stands for; None for a wrong one.

    The user name does not matter: the token is the identity.
    """
    given = _given(request)
    # Both are compared every time, so that the time taken says nothing about which one is near.
    reads, writes = hmac.compare_digest(given, tokens.reader), hmac.compare_digest(given, tokens.writer)
    if not given:
        return None
    return "writer" if writes else "reader" if reads else None


def has_token(request: Request) -> bool:
    """Return whether the request holds any token at all."""
    return bool(_given(request))


def _given(request: Request) -> bytes:
    """Return the token as it was sent: X-ClickHouse-Key, Authorization, or the parameter ``password``."""
    # A header is read as Latin-1; its bytes are what was sent.
    if key := request.headers.get("x-clickhouse-key", ""):
        return key.encode("latin-1")
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.casefold() == "bearer":
        return credentials.strip(" \t").encode("latin-1")
    if scheme.casefold() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return request.query_params.get("password", "").encode("utf-8", "surrogatepass")
