"""The HTTP door: token, body, verdicts. A 202 is sent only after the journal has the records on disk."""

import asyncio
import hmac
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from detectors.redaction import key_id
from streams.door.admission import CONFLICT, Admission, AdmissionContext, Refusal, judge_payloads
from streams.door.answer import Answer, Problem, Result, answer_results
from streams.door.body import BodyError, cut_lines, read_body, unpack_gzip
from streams.door.counters import DoorCounters
from streams.door.openapi import PATHS, describe_door
from streams.door.screen import TextRedactor
from streams.door.submission import Kind
from streams.inbox import Inbox, Outcome
from streams.settings import DoorSettings, SettingsError, read_secret

_PIECE_LINES: Final = 1_000
# Above this a thread judges the records, so that other requests are answered meanwhile.
_INLINE_BYTES: Final = 8_192
_RETRY_AFTER_S: Final = "2"


def require_token(settings: DoorSettings) -> str | None:
    """Return the bearer token that clients must send, or None if none is configured.

    Raises
    ------
    SettingsError
        If the door listens beyond this machine and no token is configured, or the token cannot be read.

    Examples
    --------
    >>> require_token(DoorSettings(host="127.0.0.1")) is None
    True
    """
    token = read_secret(env=settings.token_env, file=settings.token_file, what="door token")
    if token:
        return token
    if is_loopback(settings.host):
        return None
    raise SettingsError(
        "door: it listens beyond this machine and has no token; set door.token_env or door.token_file, "
        "or door.host to 127.0.0.1"
    )


def door_routes(
    *,
    inbox: Inbox,
    settings: DoorSettings,
    redactor: TextRedactor,
    user_key: bytes,
    now_ms: Callable[[], int],
    counters: DoorCounters,
    token: str | None,
) -> list[BaseRoute]:
    """Return the routes of the door.

    Parameters
    ----------
    inbox
        Where admitted records go; its answer is awaited before ours.
    settings
        Limits and the clamp of event times.
    redactor
        What replaces personal data; it is called from several threads.
    user_key
        The key of the hashes of users and conversations.
    now_ms
        The wall clock in Unix milliseconds.
    counters
        Where verdicts are counted.
    token
        The bearer token, or None for no check (:func:`require_token`).

    Raises
    ------
    ValueError
        If `user_key` is shorter than 16 bytes.
    """
    key_id(user_key)  # a key that cannot hash must stop the start, not every request
    door = _Door(
        inbox=inbox,
        settings=settings,
        redactor=redactor,
        user_key=user_key,
        now_ms=now_ms,
        counters=counters,
        token=token,
    )
    description = msgspec.json.encode(describe_door(settings))

    async def describe(_request: Request) -> Response:
        return Response(description, media_type="application/json")

    routes: list[BaseRoute] = [Route("/v1/openapi.json", describe, methods=["GET"])]
    for path, kind in PATHS.items():
        routes.append(Route(path, partial(door.take, kind), methods=["POST"]))
    return routes


@dataclass(frozen=True, kw_only=True, slots=True)
class _Door:
    inbox: Inbox
    settings: DoorSettings
    redactor: TextRedactor
    user_key: bytes = field(repr=False)
    now_ms: Callable[[], int]
    counters: DoorCounters
    token: str | None = field(repr=False)

    async def take(self, kind: Kind, request: Request) -> Response:
        """Answer one request with one or many records of `kind`."""
        try:
            self._check_token(request)
            lines, key = await self._read(request)
            results = await self._judge(lines, kind, key)
        except BodyError as error:
            return self._problem(error)
        except ClientDisconnect:
            return self._problem(BodyError(400, "disconnected", "the request ended early; send it again"))
        status, answer = answer_results(results)
        self._count(answer)
        return Response(msgspec.json.encode(answer), status_code=status, media_type="application/json")

    def _check_token(self, request: Request) -> None:
        if self.token is None:
            return
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        # As bytes, since compare_digest refuses text beyond ASCII; a header is read as Latin-1.
        same = hmac.compare_digest(sent.strip(" \t").encode("latin-1"), self.token.encode())
        if scheme.lower() != "bearer" or not same:
            raise BodyError(401, "unauthorized", "send the door's token as Authorization: Bearer <token>")

    async def _read(self, request: Request) -> tuple[list[tuple[int, bytes]], str | None]:
        """Return the numbered payloads of the request and, for a single one, its idempotency key."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in {"application/json", "application/x-ndjson"}:
            raise BodyError(
                415, "unsupported_media_type", "set Content-Type to application/json or application/x-ndjson"
            )
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        if coding not in {"identity", "gzip"}:
            raise BodyError(415, "unsupported_encoding", "Content-Encoding may be gzip, or absent")
        limit = self.settings.max_batch_bytes
        declared = request.headers.get("content-length")
        try:
            async with asyncio.timeout(self.settings.body_s):
                body = await read_body(request.stream(), declared=declared, max_bytes=limit)
        except TimeoutError:
            raise BodyError(
                408, "too_slow", "the body did not arrive in time; send smaller batches"
            ) from None
        if coding == "gzip":
            body = await run_in_threadpool(unpack_gzip, body, max_bytes=limit)
        if media_type == "application/json":
            return [(1, body)], request.headers.get("idempotency-key")
        return cut_lines(body), None

    async def _judge(self, lines: list[tuple[int, bytes]], kind: Kind, key: str | None) -> list[Result]:
        context = AdmissionContext(
            settings=self.settings,
            redactor=self.redactor,
            user_key=self.user_key,
            received_at_ms=self.now_ms(),
            idempotency_key=key,
        )
        results: list[Result] = []
        for first in range(0, len(lines), _PIECE_LINES):
            piece = lines[first : first + _PIECE_LINES]
            payloads = [payload for _, payload in piece]
            if sum(map(len, payloads)) > _INLINE_BYTES:
                verdicts = await run_in_threadpool(judge_payloads, payloads, kind, context)
            else:
                verdicts = judge_payloads(payloads, kind, context)
            outcomes = iter(await self._write(verdicts))
            results += [
                _result(number, verdict, next(outcomes) if isinstance(verdict, Admission) else None)
                for (number, _), verdict in zip(piece, verdicts, strict=True)
            ]
        return results

    async def _write(self, verdicts: Sequence[Admission | Refusal]) -> list[Outcome]:
        """Put what was admitted into the journal; return one outcome for each admission."""
        admitted = [verdict for verdict in verdicts if isinstance(verdict, Admission)]
        entries = [entry for admission in admitted for entry in admission.entries]
        if not entries:
            return []
        try:
            outcomes = await self.inbox.admit(entries)
        except OSError:
            raise BodyError(
                503, "not_written", "the journal cannot be written now; send the whole request again later"
            ) from None
        # The entries of one admission are written together, so the first outcome speaks for all.
        firsts, at = [], 0
        for admission in admitted:
            firsts.append(outcomes[at])
            at += len(admission.entries)
        return firsts

    def _count(self, answer: Answer) -> None:
        counts: dict[str, int] = {}
        for result in answer.results:
            code = result.code or result.verdict
            counts[code] = counts.get(code, 0) + 1
        for code, n in counts.items():
            self.counters.count(code, n)

    def _problem(self, error: BodyError) -> Response:
        self.counters.count(error.code)
        headers = {}
        if error.status == 401:
            headers["www-authenticate"] = "Bearer"
        if error.status == 408:
            headers["connection"] = "close"  # the rest of the body is not waited for
        if error.status == 503:
            headers["retry-after"] = _RETRY_AFTER_S
        body = msgspec.json.encode(Problem(code=error.code, message=error.message))
        return Response(body, status_code=error.status, headers=headers, media_type="application/json")


def _result(line: int, verdict: Admission | Refusal, outcome: Outcome | None) -> Result:
    ids = {}
    if isinstance(verdict, Admission):
        ids = {"id": verdict.client_id, "interaction_id": verdict.interaction_id}
        if outcome == "accepted":
            return Result(line=line, status=202, verdict="accepted", **ids)
        if outcome == "duplicate":
            return Result(line=line, status=200, verdict="duplicate", **ids)
        verdict = CONFLICT
    # A refusal's status is one of those that Result names.
    status = cast("Any", verdict.status)
    return Result(
        line=line, status=status, verdict="refused", code=verdict.code, message=verdict.message, **ids
    )


def is_loopback(host: str) -> bool:
    """Return whether `host` can only be reached from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
