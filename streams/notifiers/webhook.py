"""Sends each notice to a URL as a signed Standard Webhooks message."""

from datetime import UTC, datetime
from typing import Any, ClassVar, Final

import msgspec

from detectors.records.wording import plain_segment
from streams.notifiers import Notice, Permanent, notifier
from streams.outgoing import Endpoint, Signer, clean, judge_answer
from streams.settings import read_secret

# Together these keep every message below 20 kB, with four bytes a character.
NAME_CHARS: Final = 128
TEXT_CHARS: Final = 512
MAX_EXEMPLARS: Final = 5
MAX_LINKS: Final = 3


@notifier("webhook")
class Webhook:
    """A signed POST per notice; the receiver drops ids that it has seen.

    Parameters
    ----------
    url
        Where to post; https, or http inside `allow_networks`.
    secret_env, secret_file
        Name of the environment variable or of the file that holds the ``whsec_`` secret; exactly one.
    timeout_s
        Bound of one delivery, in seconds.
    allow_networks
        CIDRs that may be called although they are not public.

    Raises
    ------
    ValueError
        If the URL, the secret or a network cannot be used.
    """

    name: ClassVar[str] = "webhook"
    contract: ClassVar[str] = "standard_webhooks"

    def __init__(
        self,
        *,
        url: str,
        secret_env: str = "",
        secret_file: str = "",
        timeout_s: float = 15.0,
        allow_networks: tuple[str, ...] = (),
    ) -> None:
        self._endpoint = Endpoint(url, allow_networks=allow_networks, timeout_s=timeout_s)
        self._signer = Signer(read_secret(env=secret_env, file=secret_file, what="webhook notifier: secret"))
        self._gone = False

    @classmethod
    def example(cls, *, url: str, secret_file: str) -> "Webhook":
        """Return one that talks to the conformance checks' receiver on loopback."""
        return cls(url=url, secret_file=secret_file, timeout_s=0.5, allow_networks=("127.0.0.0/8",))

    async def notify(self, notice: Notice) -> None:
        """Post `notice` once.

        Raises
        ------
        Retryable
            For 429, 5xx and network failures.
        Permanent
            For any other answer than 2xx. After 410 nothing more is sent until the next start.
        """
        if self._gone:
            raise Permanent("status 410 earlier: this receiver wants no more")
        body = body_of(notice)
        answer = await self._endpoint.call(
            "POST", headers=self._signer.headers(notice.notice_id, body), body=body
        )
        self._gone = answer.status == 410
        judge_answer(answer)


def body_of(notice: Notice) -> bytes:
    """Return the message of `notice`: the same bytes at every attempt, below 20 kB."""
    decision, action = notice.decision, notice.action
    at_ms = decision.at_ms if action is None else action.at_ms
    data: dict[str, Any] = {
        "notice_id": notice.notice_id,
        "transition": notice.transition,
        "summary": clean(notice.summary, TEXT_CHARS),
        "decision_id": clean(decision.decision_id, NAME_CHARS),
        "deployment": clean(decision.deployment, NAME_CHARS),
        "release": clean(decision.release, NAME_CHARS),
        "cause": decision.cause,
        "reason": clean(decision.reason, NAME_CHARS),
        "rule": clean(decision.rule, NAME_CHARS),
        "metric": clean(decision.metric, NAME_CHARS),
        "segment": plain_segment(decision.segment),
        "effect": decision.effect,
        "interval": [decision.low, decision.high],
        "baseline": decision.baseline,
        "n": decision.n,
        "began_at_ms": decision.began_at_ms,
        "exemplars": [clean(one, NAME_CHARS) for one in decision.exemplars[:MAX_EXEMPLARS]],
        "links": {clean(k, 32): clean(v, TEXT_CHARS) for k, v in sorted(notice.links.items())[:MAX_LINKS]},
    }
    if action is not None:
        data["action"] = {
            "action_id": action.action_id,
            "state": action.state,
            "reason": clean(action.reason, NAME_CHARS),
            "from_release": clean(action.from_release, NAME_CHARS),
            "to_release": clean(action.to_release, NAME_CHARS),
            "dry_run": action.dry_run,
        }
    stamp = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
    kind = f"plumbline.{notice.transition.lower()}"
    return msgspec.json.encode({"type": kind, "timestamp": stamp, "data": data})
