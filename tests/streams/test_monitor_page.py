"""Pages of a store that is slow or away: told in plain words, in threads of their own."""

import asyncio
import threading

import httpx2
import pytest
from starlette.applications import Starlette

from streams.page import HEADERS, page_routes
from streams.store import StoreError


def client(query) -> httpx2.AsyncClient:
    app = Starlette(routes=page_routes(lambda: query, now_ms=lambda: 1_000_000))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://page")


def check_away(answer: httpx2.Response) -> None:
    assert answer.status_code == 503
    assert "the store does not answer; scoring, pages and rollbacks go on" in answer.text
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "text/html" in answer.headers["content-type"]


@pytest.mark.parametrize("path", ["/", "/interactions?deployment=d&release=r&metric=m", "/interaction/x"])
def test_a_store_that_is_away_is_told_in_plain_words(path, caplog):
    def query(_sql, _parameters):
        raise StoreError("cannot query: ClickHouse error 159", code=159)

    async def story():
        async with client(query) as asking:
            check_away(await asking.get(path))

    asyncio.run(story())
    assert "ClickHouse error 159" in caplog.text


def test_slow_pages_end_and_hold_up_no_other_thread(monkeypatch):
    monkeypatch.setattr("streams.page._PAGE_S", 0.2)
    go, names = threading.Event(), set()

    def query(_sql, _parameters):
        names.add(threading.current_thread().name.rpartition("_")[0])
        go.wait(60)
        raise StoreError("cannot query: closed")

    async def story():
        async with client(query) as asking:
            pages = [asyncio.create_task(asking.get("/")) for _ in range(64)]
            async with asyncio.timeout(30):
                while not names:
                    await asyncio.sleep(0.005)
                assert await asyncio.to_thread(lambda: "free") == "free"
                for page in pages:
                    check_away(await page)
            go.set()

    asyncio.run(story())
    assert names == {"plumbline-page"}
