"""One request of ClickHouse's HTTP interface, read within its limits."""

import asyncio
from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from starlette.requests import ClientDisconnect, Request

from streams.clickhouse_door.answers import Refusal
from streams.clickhouse_door.packing import unpack
from streams.door.body import BodyError, read_body

_BODY_S: Final = 30.0
"""For how long a body may arrive, in seconds."""
_BAD_ARGUMENTS: Final = 36
_FORMAT: Final = "TabSeparated"


class Query(Struct, frozen=True, kw_only=True):
    """What a request asks for.

    ``text`` is the parameter ``query`` followed by the body. ``settings`` are the remaining parameters as
    sent: whoever runs the query takes the few that it knows and drops the others.
    """

    text: bytes
    database: str
    form: str
    parameters: Mapping[str, str]
    settings: Mapping[str, str]
    accepts: str


async def read_query(request: Request, *, database: str, max_bytes: int) -> Query:
    """Return the query of `request`.

    Raises
    ------
    Refusal
        If it is too large, too slow, badly packed, or says nothing.
    """
    given = dict(request.query_params)
    body = await _body(request, max_bytes)
    parts = [part for part in (given.pop("query", "").encode("utf-8", "surrogatepass"), body) if part]
    if not parts:
        raise Refusal(62, "Empty query", status=400)
    form = given.pop("default_format", "") or request.headers.get("x-clickhouse-format", "") or _FORMAT
    if not (form.isascii() and form.isalnum()):
        raise Refusal(73, "Unknown format")
    wanted = given.pop("database", "") or request.headers.get("x-clickhouse-database", "") or database
    packs = given.get("enable_http_compression", "1") != "0"
    return Query(
        text=b"\n".join(parts),
        database=wanted,
        form=form,
        parameters={name[6:]: value for name, value in given.items() if name.startswith("param_")},
        settings={name: value for name, value in given.items() if not name.startswith("param_")},
        accepts=request.headers.get("accept-encoding", "") if packs else "",
    )


async def _body(request: Request, max_bytes: int) -> bytes:
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise Refusal(_BAD_ARGUMENTS, "the door takes no multipart bodies", status=415)
    if request.query_params.get("decompress", "0") != "0":
        raise Refusal(_BAD_ARGUMENTS, "the door takes no native framing: use Content-Encoding", status=415)
    declared = request.headers.get("content-length")
    try:
        async with asyncio.timeout(_BODY_S):
            packed = await read_body(request.stream(), declared=declared, max_bytes=max_bytes)
        encoding = request.headers.get("content-encoding", "")
        if not encoding:
            return packed
        return await asyncio.to_thread(unpack, packed, encoding, max_bytes=max_bytes)
    except BodyError as error:
        raise Refusal(_BAD_ARGUMENTS, error.message, status=error.status) from None
    except TimeoutError:
        raise Refusal(_BAD_ARGUMENTS, "the body did not arrive in time", status=408) from None
    except ClientDisconnect:
        raise Refusal(_BAD_ARGUMENTS, "the body was cut off", status=400) from None
