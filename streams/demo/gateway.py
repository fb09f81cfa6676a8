"""A stand-in for the owner's gateway: it routes conversations, takes signed moves and collects pages."""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

SKEW_S = 300


class LogEntry(Struct, frozen=True, kw_only=True):
    """Something that happened to the traffic table.

    `kind` is ``set`` (by the owner), ``move`` (a signed call that changed it), ``replay`` (the same call
    again, without effect), ``conflict`` (the release to leave was not serving) or ``rejected`` (signature or
    body). `at_s` is the gateway's clock.
    """

    at_s: float
    kind: Literal["set", "move", "replay", "conflict", "rejected"]
    shares: dict[str, float]
    action_id: str = ""
    from_release: str = ""
    to_release: str = ""


class Page(Struct, frozen=True, kw_only=True):
    """A message that reached the pager, once for each ``webhook-id``."""

    at_s: float
    message_id: str
    kind: str
    deployment: str = ""
    release: str = ""
    decision_id: str = ""
    metric: str = ""
    reason: str = ""
    summary: str = ""


class _MoveData(Struct, frozen=True):
    action_id: str
    deployment: str
    from_release: str
    to_release: str
    reason: str = ""


class _MoveBody(Struct, frozen=True):
    type: Literal["plumbline.rollback"]
    data: _MoveData


class _PageData(Struct, frozen=True):
    deployment: str = ""
    release: str = ""
    decision_id: str = ""
    metric: str = ""
    reason: str = ""
    summary: str = ""


class _PageBody(Struct, frozen=True):
    type: str
    data: _PageData


class SignatureError(ValueError):
    """A message that is not signed as Standard Webhooks 1.0 asks, or not now."""


class Verifier:
    """Checks ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature`` (Standard Webhooks 1.0).

    It is the receiver's side of the contract, written against the published text and not against our signer.

    Parameters
    ----------
    secret
        ``whsec_`` and the base64 of the key.

    Raises
    ------
    ValueError
        If the secret has another form; the text never holds it.

    Examples
    --------
    >>> headers = {
    ...     "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    ...     "webhook-timestamp": "1614265330",
    ...     "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ... }
    >>> verifier = Verifier("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    >>> verifier.check(headers, b'{"test": 2432232314}', now_s=1614265330)
    'msg_p5jXN8AQM9LWM0D4loKWxJek'
    """

    def __init__(self, secret: str) -> None:
        kind, _, encoded = secret.partition("_")
        try:
            self._key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            self._key = b""
        if kind != "whsec" or not self._key:
            raise ValueError("the secret must be whsec_ and base64")

    def check(self, headers: Mapping[str, str], body: bytes, *, now_s: float) -> str:
        """Return the message's id; raises :class:`SignatureError` if it is not authentic or not of now."""
        identity, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not identity or not (stamp.isascii() and stamp.isdigit() and len(stamp) < 12):
            raise SignatureError("the signature's headers are missing")
        if abs(now_s - int(stamp)) > SKEW_S:
            raise SignatureError("the message is too old, or from the future")
        signed = f"{identity}.{stamp}.".encode() + body
        wanted = base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256))
        for one in headers.get("webhook-signature", "").split():
            version, _, given = one.partition(",")
            if version == "v1" and hmac.compare_digest(given.encode(), wanted):
                return identity
        raise SignatureError("the signature does not match")


class Gateway:
    """Holds the share of every release and routes conversations by hash.

    A conversation keeps its place between 0 and 1 for ever; the shares say which release owns that place.
    The table is replaced as a whole, so that another thread may route while it changes.

    Parameters
    ----------
    secret
        The ``whsec_`` secret of the two signed paths.
    deployment
        The only deployment this gateway serves.
    shares
        The share of each release at the beginning; they sum to 1.
    seed
        Decides, with its id, where a conversation lies.
    clock
        Unix seconds.
    """

    def __init__(
        self,
        *,
        secret: str,
        deployment: str,
        shares: Mapping[str, float],
        seed: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = Verifier(secret)
        self._deployment = deployment
        self._seed = seed
        self._clock = clock
        self._done: dict[str, _MoveData] = {}
        self._generation = 0
        self._shares: dict[str, float] = {}
        self.log: list[LogEntry] = []
        self.pages: list[Page] = []
        self.set_shares(shares)

    @property
    def shares(self) -> dict[str, float]:
        """The share of every release that this gateway knows; they sum to 1."""
        return dict(self._shares)

    def set_shares(self, shares: Mapping[str, float]) -> None:
        """Replace the traffic table, as the owner does when a release begins.

        Raises
        ------
        ValueError
            If a share is outside [0, 1] or they do not sum to 1.
        """
        if (
            any(not 0.0 <= share <= 1.0 for share in shares.values())
            or abs(sum(shares.values()) - 1.0) > 1e-9
        ):
            raise ValueError("shares must lie in [0, 1] and sum to 1")
        self._replace(dict(shares))
        self._note("set")

    def route(self, conversation: str) -> str:
        """Return the release that serves `conversation` now."""
        digest = hashlib.blake2b(f"{self._seed}/{conversation}".encode(), digest_size=8).digest()
        place = int.from_bytes(digest, "big") / 2**64
        shares = self._shares
        for release, share in shares.items():
            place -= share
            if place < 0.0:
                return release
        return next(release for release, share in reversed(shares.items()) if share > 0.0)

    def app(self) -> Starlette:
        """Return the HTTP application: ``POST /rollback``, ``POST /page``, ``GET /state``."""
        return Starlette(
            routes=[
                Route("/rollback", self._on_rollback, methods=["POST"]),
                Route("/page", self._on_page, methods=["POST"]),
                Route("/state", self._on_state, methods=["GET"]),
            ]
        )

    async def _on_rollback(self, request: Request) -> JSONResponse:
        body = await request.body()
        try:
            identity = self._verifier.check(request.headers, body, now_s=self._clock())
        except SignatureError as error:
            self._note("rejected")
            return _problem(401, str(error))
        try:
            move = msgspec.json.decode(body, type=_MoveBody).data
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._note("rejected")
            return _problem(422, "not a rollback message")
        known = self._done.get(identity) or self._done.get(move.action_id)
        if known is not None:
            return self._replay(move, known)
        return self._move(identity, move)

    def _replay(self, move: _MoveData, known: _MoveData) -> JSONResponse:
        if move != known:
            self._note("conflict", move)
            return _problem(409, "another move had this id")
        self._note("replay", move)
        return self._state_answer()

    def _move(self, identity: str, move: _MoveData) -> JSONResponse:
        serving = self._deployment == move.deployment and self._shares.get(move.from_release, 0.0) > 0.0
        if not serving or move.from_release == move.to_release:
            self._note("conflict", move)
            return _problem(409, "the release to leave is not serving")
        if move.to_release not in self._shares:
            self._note("rejected", move)
            return _problem(422, "the release to go to is not known here")
        self._replace({release: float(release == move.to_release) for release in self._shares})
        self._done[identity] = self._done[move.action_id] = move
        self._note("move", move)
        return self._state_answer()

    async def _on_page(self, request: Request) -> JSONResponse:
        body = await request.body()
        try:
            identity = self._verifier.check(request.headers, body, now_s=self._clock())
        except SignatureError as error:
            return _problem(401, str(error))
        try:
            page = msgspec.json.decode(body, type=_PageBody)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _problem(422, "not a page")
        if all(identity != known.message_id for known in self.pages):
            fields = {name: getattr(page.data, name) for name in _PageData.__struct_fields__}
            self.pages.append(Page(at_s=self._clock(), message_id=identity, kind=page.type, **fields))
        return JSONResponse({}, status_code=202)

    async def _on_state(self, request: Request) -> JSONResponse:
        if request.query_params.get("deployment") != self._deployment:
            return _problem(404, "no such deployment")
        return self._state_answer()

    def _state_answer(self) -> JSONResponse:
        return JSONResponse({"shares": self._shares, "generation": str(self._generation)})

    def _replace(self, shares: dict[str, float]) -> None:
        self._shares = shares
        self._generation += 1

    def _note(
        self, kind: Literal["set", "move", "replay", "conflict", "rejected"], move: _MoveData | None = None
    ) -> None:
        entry = LogEntry(at_s=self._clock(), kind=kind, shares=dict(self._shares))
        if move is not None:
            named = {
                "action_id": move.action_id,
                "from_release": move.from_release,
                "to_release": move.to_release,
            }
            entry = msgspec.structs.replace(entry, **named)
        self.log.append(entry)


def _problem(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status)
