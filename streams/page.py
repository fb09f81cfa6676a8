"""The HTTP routes of the built-in page: read-only, no scripts, nothing from elsewhere."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from dashboards.page import Query, render_interaction, render_offenders, render_overview, stylesheet
from streams.store_connection import StoreError

_log = logging.getLogger("plumbline.page")
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PAGE_QUERY_S: Final = 10.0
"""How long one query of a page may take."""
_PAGE_S: Final = 30.0
_THREADS: Final = 2
_AWAY: Final = "the store does not answer; scoring, pages and rollbacks go on"
_LONGEST: Final = 1_000
_LAST_MS: Final = 4_102_444_800_000


class _BadRequestError(ValueError):
    """A parameter that cannot be used; the text names it."""


def page_routes(
    reader: Callable[[], Query], *, now_ms: Callable[[], int], refresh_s: int = 15
) -> list[Route]:
    """Return the routes ``/``, ``/interactions``, ``/interaction/{id}`` and ``/static/plumbline.css``.

    Parameters
    ----------
    reader
        Called for every request; returns what runs SQL read-only (``lambda: store_reader.query``).
    now_ms
        The wall clock in Unix milliseconds.
    refresh_s
        Seconds after which an open overview asks again; 0 for never.

    Notes
    -----
    Pages are made in threads of their own, a few: a store that is slow keeps nobody else waiting. A store
    that does not answer is told with status 503.
    """
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="plumbline-page")

    async def overview(request: Request) -> Response:
        return await _html(
            threads,
            lambda: render_overview(
                reader(),
                now_ms=now_ms(),
                deployment=_text(request, "deployment"),
                window=_text(request, "window"),
                to_ms=_time(request, "to_ms"),
                metric=_text(request, "metric"),
                refresh_s=refresh_s,
            ),
        )

    async def offenders(request: Request) -> Response:
        return await _html(
            threads,
            lambda: render_offenders(
                reader(),
                deployment=_needed(request, "deployment"),
                release=_needed(request, "release"),
                metric=_needed(request, "metric"),
                from_ms=_time(request, "from_ms") or 0,
                to_ms=_time(request, "to_ms") or now_ms(),
                segment=_text(request, "segment"),
            ),
        )

    async def interaction(request: Request) -> Response:
        return await _html(
            threads,
            lambda: render_interaction(
                reader(),
                deployment=_text(request, "deployment"),
                interaction_id=request.path_params["interaction_id"][:_LONGEST],
                at_ms=_time(request, "at"),
            ),
        )

    async def style(_request: Request) -> Response:
        headers = HEADERS | {"Cache-Control": "max-age=300"}
        return Response(stylesheet(), media_type="text/css", headers=headers)

    return [
        Route("/", overview),
        Route("/interactions", offenders),
        Route("/interaction/{interaction_id}", interaction),
        Route("/static/plumbline.css", style),
    ]


async def _html(threads: ThreadPoolExecutor, make: Callable[[], str | None]) -> Response:
    """Render in a thread, since queries wait; None is a page that is not there."""
    rendering = asyncio.get_running_loop().run_in_executor(threads, make)
    try:
        async with asyncio.timeout(_PAGE_S):
            text = await rendering
    except _BadRequestError as error:
        return HTMLResponse(_plain(str(error)), status_code=400, headers=HEADERS)
    except (StoreError, TimeoutError) as error:
        _log.warning("a page was not made: %s", str(error) or "the store was too slow")
        return HTMLResponse(_plain(_AWAY), status_code=503, headers=HEADERS | {"Retry-After": "15"})
    if text is None:
        return HTMLResponse(_plain("there is no such interaction"), status_code=404, headers=HEADERS)
    return HTMLResponse(text.encode("utf-8", "replace"), headers=HEADERS)


_plain = partial("<!doctype html><title>Plumbline</title><p>{}. <a href='/'>Overview</a></p>".format)


def _text(request: Request, name: str) -> str:
    return request.query_params.get(name, "")[:_LONGEST]


def _needed(request: Request, name: str) -> str:
    value = _text(request, name)
    if not value:
        raise _BadRequestError(f"the parameter {name} is missing")
    return value


def _time(request: Request, name: str) -> int | None:
    text = _text(request, name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) > _LAST_MS:
        raise _BadRequestError(f"the parameter {name} is not a time in Unix milliseconds")
    return int(text)
