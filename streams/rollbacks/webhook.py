"""Asks the owner's gateway to move traffic, by a signed Standard Webhooks message."""

import secrets
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta, Struct

from streams.outgoing import Endpoint, Signer, judge_answer
from streams.rollbacks import Move, Permanent, Receipt, Retryable, Served, rollback_target
from streams.settings import read_secret

Share = Annotated[float, Meta(ge=0, le=1)]
SUM_TOLERANCE: Final = 0.01


class State(Struct, frozen=True):
    """The gateway's answer to *what do you serve*: shares that sum to one, and a generation."""

    shares: dict[str, Share]
    generation: str = ""


@rollback_target("webhook")
class Webhook:
    """Any gateway that answers two signed requests; the README beside this file is its contract.

    Parameters
    ----------
    url
        Where moves are posted.
    state_url
        Where the served shares are read.
    secret_env, secret_file
        Name of the environment variable or of the file that holds the ``whsec_`` secret; exactly one.
    timeout_s
        Bound of one request, in seconds.
    allow_networks
        CIDRs that may be called although they are not public.

    Raises
    ------
    ValueError
        If a URL, the secret or a network cannot be used.
    """

    name: ClassVar[str] = "webhook"
    contract: ClassVar[str] = "standard_webhooks"

    def __init__(
        self,
        *,
        url: str,
        state_url: str,
        secret_env: str = "",
        secret_file: str = "",
        timeout_s: float = 15.0,
        allow_networks: tuple[str, ...] = (),
    ) -> None:
        self._moves = Endpoint(url, allow_networks=allow_networks, timeout_s=timeout_s)
        self._state = Endpoint(state_url, allow_networks=allow_networks, timeout_s=timeout_s)
        self._signer = Signer(read_secret(env=secret_env, file=secret_file, what="webhook target: secret"))

    @classmethod
    def example(cls, *, url: str, secret_file: str) -> "Webhook":
        """Return one that talks to the conformance checks' gateway on loopback."""
        return cls(
            url=f"{url}/rollback",
            state_url=f"{url}/state",
            secret_file=secret_file,
            timeout_s=0.5,
            allow_networks=("127.0.0.0/8",),
        )

    async def current(self, deployment: str) -> Served:
        """Return the shares that the gateway serves now.

        Raises
        ------
        Retryable
            For 429, 5xx, network failures and an answer that is not the contract's.
        Permanent
            For any other status than 2xx.
        """
        headers = self._signer.headers(f"state_{secrets.token_hex(12)}", b"")
        answer = await self._state.call("GET", headers=headers, query={"deployment": deployment})
        judge_answer(answer)
        try:
            state = msgspec.json.decode(answer.body, type=State)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Retryable("the state is not the contract's") from None
        if abs(sum(state.shares.values()) - 1.0) > SUM_TOLERANCE:
            raise Retryable("the state's shares do not sum to one")
        return Served(shares=state.shares, generation=state.generation)

    async def rollback(self, move: Move) -> Receipt:
        """Post `move` once; ``webhook-id`` is its action's id, so a repetition has no second effect.

        Raises
        ------
        Retryable
            For 429, 5xx and network failures.
        Permanent
            For 409 (``superseded``: the gateway has moved on) and any other status than 2xx.
        """
        data = {name: getattr(move, name) for name in Move.__struct_fields__}
        stamp = datetime.now(UTC).isoformat()
        body = msgspec.json.encode({"type": "plumbline.rollback", "timestamp": stamp, "data": data})
        answer = await self._moves.call("POST", headers=self._signer.headers(move.action_id, body), body=body)
        if answer.status == 409:
            raise Permanent("superseded")
        judge_answer(answer)
        return Receipt(accepted=True, detail={"status": answer.status})
