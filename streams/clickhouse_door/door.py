"""The application of the door: who asks, what is asked, which handle answers."""

import asyncio
import queue
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from streams.clickhouse_door.access import AUTHENTICATION_FAILED, Tokens, has_token, role_of
from streams.clickhouse_door.answers import NAME, Refusal, give, headers_of, query_id, refuse
from streams.clickhouse_door.handshake import handshake, is_handshake
from streams.clickhouse_door.requests import Query, read_query
from streams.clickhouse_door.statements import Insert, insert_of, is_ours, starts_insert
from streams.guard import host_guards
from streams.settings import ClickHouseDoorSettings
from streams.store import INSERT_SETTINGS, Store, StoreError
from streams.store_raw import RawAnswer, RawError, RawLimits, RawReader
from streams.store_sql import READONLY

_Result = TypeVar("_Result")

_BUSY: Final = 202
_ACCESS_DENIED: Final = 497
_UNKNOWN: Final = 1002
_TURN_S: Final = 5.0
"""For how long a query waits for a free handle, in seconds."""

_WRITES: Final = frozenset({*INSERT_SETTINGS, "insert_deduplication_token"})
_TAKEN: Final = frozenset({"readonly", "max_execution_time"})
"""Settings that a writer may send besides: the first is obeyed, the second never exceeds our own limit."""
_ASKS_SETTINGS: Final = "SELECT name, value, readonly FROM system.settings LIMIT 10000"
"""What clickhouse-connect asks first; it then sends no setting that the answer calls read-only."""


class ClickHouseDoor:
    """Serves one embedded store over ClickHouse's HTTP interface.

    Parameters
    ----------
    store
        The open store; it must be the embedded one. Handles for readers are opened at once.
    settings
        Limits.
    tokens
        Who may read and who may write.

    Raises
    ------
    StoreError
        If the store is a server, which has a door of its own.

    Attributes
    ----------
    app
        The ASGI application.
    """

    def __init__(self, store: Store, settings: ClickHouseDoorSettings, tokens: Tokens) -> None:
        self._store, self._settings, self._tokens = store, settings, tokens
        limits = RawLimits(
            max_execution_s=settings.max_execution_s, max_result_bytes=settings.max_result_bytes
        )
        handles = [store.raw_reader(limits) for _ in range(settings.concurrent)]
        self._handles: queue.SimpleQueue[RawReader] = queue.SimpleQueue()
        for handle in handles:
            self._handles.put(handle)
        self._turns = asyncio.Semaphore(settings.concurrent)
        self._threads = ThreadPoolExecutor(settings.concurrent, thread_name_prefix="clickhouse-door")
        facts = self._read("SELECT version(), timezone()", {}, store.database, "TabSeparatedRaw").body
        self._version, self._timezone = facts.decode().rstrip("\n").split("\t")
        self.app = Starlette(
            routes=[
                Route("/ping", _ping, methods=["GET", "HEAD"]),
                Route("/", self._answer, methods=["GET", "POST"]),
            ],
            middleware=host_guards(settings.host),
        )

    def close(self) -> None:
        """Wait for the queries under way, which their time limit ends; the store closes the handles."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _answer(self, request: Request) -> Response:
        given = request.query_params.get("query_id", "") or request.headers.get("x-clickhouse-query-id", "")
        headers = headers_of(query_id(given), self._timezone)
        try:
            writes = self._may_write(request)
            query = await read_query(
                request, database=self._store.database, max_bytes=self._settings.max_request_bytes
            )
            return await self._run(query, headers, writes=writes)
        except Refusal as refusal:
            return refuse(refusal, headers=headers)

    def _may_write(self, request: Request) -> bool:
        """Return whether this request may write; refuse it if it may not even read."""
        role = role_of(request, self._tokens)
        if role is None:
            text = "Authentication failed: the door needs the reader's or the writer's token as the password"
            raise Refusal(AUTHENTICATION_FAILED, text, status=403 if has_token(request) else 401)
        # As on a server, a GET never writes, and a client may ask not to.
        asked = request.query_params.get("readonly", "0") != "0"
        return role == "writer" and request.method == "POST" and not asked

    async def _run(self, query: Query, headers: dict[str, str], *, writes: bool) -> Response:
        begun, written, form = time.perf_counter(), 0, ""
        if starts_insert(query.text):
            insert, body = self._permitted(query, writes=writes), b""
            written = await self._threaded(lambda: self._insert(insert, query))
        elif writes and is_ours(text := _text(query), database=self._store.database):
            body = b""
            await self._threaded(lambda: self._store.define(text))
        else:
            answer = await self._select(_text(query), query, writes=writes)
            body, form = answer.body, answer.form
        return await asyncio.to_thread(
            give,
            body,
            form=form,
            headers=headers,
            accepts=query.accepts,
            elapsed_s=time.perf_counter() - begun,
            written_rows=written,
        )

    async def _select(self, sql: str, query: Query, *, writes: bool) -> RawAnswer:
        if is_handshake(sql):
            return RawAnswer(handshake(NAME, self._version, self._timezone), "Native")
        if writes and sql.startswith(_ASKS_SETTINGS):
            names = ", ".join(f"'{name}'" for name in sorted(_WRITES | _TAKEN))
            told = f"SELECT name, value, toUInt8(name NOT IN ({names})) AS readonly FROM system.settings"  # noqa: S608 - our names
            sql = told + sql.removeprefix("SELECT name, value, readonly FROM system.settings")
        return await self._threaded(lambda: self._read(sql, query.parameters, query.database, query.form))

    def _read(self, sql: str, parameters: Mapping[str, str], database: str, form: str) -> RawAnswer:
        self._store.recover()
        handle = self._handles.get_nowait()  # there are as many as turns
        try:
            return handle.run(sql, parameters, database=database, form=form)
        finally:
            self._handles.put(handle)

    def _permitted(self, query: Query, *, writes: bool) -> Insert:
        if not writes:
            raise Refusal(READONLY, "Cannot execute query in readonly mode: this is not the writer's token")
        insert = insert_of(query.text)
        if insert is None:
            raise Refusal(
                _ACCESS_DENIED, "a writer may INSERT INTO table (columns) FORMAT Native, and nothing else"
            )
        if (insert.database or query.database) != self._store.database:
            raise Refusal(_ACCESS_DENIED, f"a writer may write to {self._store.database} only")
        return insert

    def _insert(self, insert: Insert, query: Query) -> int:
        settings = {name: value for name, value in query.settings.items() if name in _WRITES}
        return self._store.insert_block(
            insert.table, insert.columns, insert.block, form=insert.form, settings=settings
        )

    async def _threaded(self, work: Callable[[], _Result]) -> _Result:
        """Run `work` in a thread of the door when it is its turn; the engine's refusals become answers."""
        try:
            async with asyncio.timeout(_TURN_S):
                await self._turns.acquire()
        except TimeoutError:
            raise Refusal(_BUSY, "Too many simultaneous queries: ask again later") from None
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        # A client that goes away does not stop the engine: the turn ends when the query does.
        running.add_done_callback(self._end_turn)
        try:
            return await asyncio.shield(running)
        except RawError as error:
            raise Refusal(error.code, str(error)) from None
        except StoreError as error:
            raise Refusal(error.code or _UNKNOWN, str(error)) from None

    def _end_turn(self, done: asyncio.Future[_Result]) -> None:
        self._turns.release()
        if not done.cancelled():
            done.exception()  # where nobody waits any more, asyncio would log it, and it may quote the query


async def _ping(_request: Request) -> Response:
    return PlainTextResponse("Ok.\n")


def _text(query: Query) -> str:
    try:
        return query.text.decode()
    except UnicodeDecodeError:
        raise Refusal(62, "the query is not UTF-8", status=400) from None
