"""Answers as ClickHouse gives them: its headers, and its errors as text with a status."""

import uuid
from typing import Final

import msgspec
from starlette.responses import Response

from streams.clickhouse_door.packing import pack

NAME: Final = "plumbline"
_STATUSES: Final = {
    **dict.fromkeys((6, 25, 26, 27, 38, 41, 53, 62, 72, 117), 400),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 81, 115), 404),
    202: 503,
    516: 403,
}
"""ClickHouse's code -> HTTP status, as its own server maps them; anything else is 500."""


class Refusal(Exception):  # noqa: N818 - it is an answer
    """A request that ends here, with ClickHouse's error code and text; `status` where the code has no own."""

    def __init__(self, code: int, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.status = status or _STATUSES.get(code, 500)


def query_id(given: str) -> str:
    """Return the id that the client chose, if it is a harmless one, or a new one."""
    harmless = 0 < len(given) <= 64 and given.isascii() and given.replace("-", "").replace("_", "").isalnum()
    return given if harmless else str(uuid.uuid4())


def headers_of(ident: str, timezone: str) -> dict[str, str]:
    """Return what every answer carries."""
    return {
        "X-ClickHouse-Server-Display-Name": NAME,
        "X-ClickHouse-Query-Id": ident,
        "X-ClickHouse-Timezone": timezone,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }


def give(
    body: bytes, *, form: str, headers: dict[str, str], accepts: str, elapsed_s: float, written_rows: int = 0
) -> Response:
    """Return the answer to a query that went well.

    The summary holds what is known: the engine tells an in-process reader no counts of rows read.
    """
    summary = {
        "written_rows": str(written_rows),
        "result_bytes": str(len(body)),
        "elapsed_ns": str(int(elapsed_s * 1e9)),
    }
    packed, encoding = pack(body, accepts)
    kind = "text/plain; charset=UTF-8" if form.startswith(("T", "C")) else "application/octet-stream"
    kind = "application/json; charset=UTF-8" if form.startswith("JSON") else kind
    named = {"X-ClickHouse-Format": form} if form else {}
    answer = {"X-ClickHouse-Summary": msgspec.json.encode(summary).decode(), "Content-Type": kind}
    return Response(packed, headers={**headers, **named, **answer, **encoding})


def refuse(refusal: Refusal, *, headers: dict[str, str]) -> Response:
    """Return the answer that tells a client what its driver knows as an exception of the server."""
    text = str(refusal)
    if not text.startswith("Code: "):
        text = f"Code: {refusal.code}. DB::Exception: {text}."
    more = {"X-ClickHouse-Exception-Code": str(refusal.code), "Content-Type": "text/plain; charset=UTF-8"}
    if refusal.status == 401:
        more["WWW-Authenticate"] = 'Basic realm="plumbline"'
    return Response(
        text.encode("utf-8", "replace") + b"\n", status_code=refusal.status, headers={**headers, **more}
    )
