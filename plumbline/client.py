"""Send interactions, releases, feedback and labels to a monitor's door, and lose none of them.

>>> import httpx2
>>> door = httpx2.MockTransport(
...     lambda request: httpx2.Response(
...         202,
...         json={
...             "accepted": 1, "duplicate": 0, "refused": 0,
...             "results": [{"line": 1, "status": 202, "verdict": "accepted", "id": "42"}],
...         },
...     )
... )
>>> with Client("http://127.0.0.1:8321", transport=door) as client:
...     verdict = client.record(deployment="support", release="2.3", prompt="Hi", response="Hello!", id="42")
>>> verdict.verdict
'accepted'
"""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self

import httpx2

from plumbline.delivery import ClientError, Delivery, Refused, Unauthorised, Unavailable, Verdict

__all__ = ["Client", "ClientError", "EventTime", "Refused", "Unauthorised", "Unavailable", "Verdict"]

EventTime = int | str | datetime
"""Unix milliseconds, an RFC 3339 text, or an aware datetime."""


class Client:
    """A blocking client of the door. It retries on its own and gives every record an id before the first try.

    Parameters
    ----------
    url
        Where the door listens, without a path.
    token
        The bearer token, where the door wants one.
    timeout_s
        How long one attempt may take, in seconds.
    strict
        Raise :class:`Refused` when a record is refused, instead of only returning its verdict.
    attempts
        How often one request is tried, at least 1. Tried again are network errors, 429, 502, 503 and 504,
        after the time that ``Retry-After`` names, or else with growing, random pauses.
    batch_lines, batch_bytes
        How much :meth:`send` puts into one request.
    transport, sleep
        For tests: the network, and how to wait for a number of seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 10.0,
        strict: bool = False,
        attempts: int = 6,
        batch_lines: int = 500,
        batch_bytes: int = 4_194_304,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=timeout_s, transport=transport)
        self._delivery = Delivery(
            self._http,
            strict=strict,
            attempts=attempts,
            batch_lines=batch_lines,
            batch_bytes=batch_bytes,
            sleep=sleep,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._http.close()

    def record(
        self,
        *,
        deployment: str,
        release: str,
        prompt: str,
        response: str,
        id: str = "",  # noqa: A002 - the wire's own name
        event_time: EventTime | None = None,
        system: str = "",
        history: Sequence[Mapping[str, str]] = (),
        context: Sequence[str] = (),
        tools: Sequence[Mapping[str, str]] = (),
        user: str = "",
        conversation: str = "",
        final: bool = False,
        arm: Mapping[str, Any] | None = None,
        model: str = "",
        prompt_version: str = "",
        finish_reason: str = "",
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        latency_s: float | None = None,
        attributes: Mapping[str, str] | None = None,
        annotations: Mapping[str, Any] | None = None,
    ) -> Verdict:
        """Send one interaction and return the door's verdict.

        Parameters
        ----------
        deployment, release
            The product, and the release of it that answered.
        prompt, response
            What was asked, and what the user was shown.
        id
            At most 128 bytes, unique in the deployment; made if empty.
        event_time
            When the answer was shown; now if None.
        history, tools, arm, annotations
            ``[{role, text}]``, ``[{name, arguments, result}]``, ``{name, share, unit}`` and
            ``{unsafe_request, fact_known, reference_answer, expertise}``.
        system, context, user, conversation, final
            The instructions, the given documents, and who it was, in which conversation, for the last time.
            `user` is hashed at the door.
        model, prompt_version, finish_reason, input_tokens, output_tokens, latency_s, attributes
            How it was made; `latency_s` is in seconds, `attributes` are slices of your own.

        Raises
        ------
        Unavailable, Unauthorised, Refused
            See the classes; the last only where the client is strict.
        """
        given = {name: value for name, value in locals().items() if name != "self"}
        return self.send(
            [{name: value for name, value in given.items() if value or value == 0 or name in _REQUIRED}]
        )[0]

    def send(self, batch: Iterable[Mapping[str, Any]]) -> list[Verdict]:
        """Send interactions in the door's wire form and return one verdict each, in order.

        Raises
        ------
        Unavailable, Unauthorised, Refused
            See the classes; the last only where the client is strict, after everything was sent.
        """
        return self._delivery.send("/v1/interactions", (_complete(item) for item in batch))

    def declare_release(
        self,
        *,
        deployment: str,
        release: str,
        role: Literal["stable", "candidate", "retired"],
        started_at: EventTime | None = None,
        digest: str = "",
        share: float | None = None,
        notes: str = "",
    ) -> Verdict:
        """Say which part a release plays from `started_at` on (now if None); `share` is in (0, 1)."""
        item: dict[str, Any] = {"deployment": deployment, "release": release, "role": role}
        item["started_at"] = _now_ms() if started_at is None else started_at
        item |= {"digest": digest} if digest else {}
        item |= {"share": share} if share is not None else {}
        item |= {"notes": notes} if notes else {}
        return self._delivery.send("/v1/releases", [item])[0]

    def feedback(
        self,
        *,
        deployment: str,
        interaction_id: str,
        kind: Literal["thumb", "rating", "ticket", "outcome"],
        value: float,
        id: str = "",  # noqa: A002 - the wire's own name
        event_time: EventTime | None = None,
        comment: str = "",
    ) -> Verdict:
        """Send what a user said about the interaction of that (your own) id; 1 is best, 0 is worst."""
        item = {"deployment": deployment, "interaction_id": interaction_id, "kind": kind, "value": value}
        item |= {"id": id, "event_time": event_time, "comment": comment}
        return self._delivery.send("/v1/feedback", [_complete(item)])[0]

    def label(
        self,
        *,
        deployment: str,
        interaction_id: str,
        metric: str,
        value: float,
        rater: str,
        id: str = "",  # noqa: A002 - the wire's own name
        event_time: EventTime | None = None,
        comment: str = "",
    ) -> Verdict:
        """Send a reviewer's judgement, in [0, 1], of one metric of one interaction."""
        item = {"deployment": deployment, "interaction_id": interaction_id, "metric": metric, "value": value}
        item |= {"rater": rater, "id": id, "event_time": event_time, "comment": comment}
        return self._delivery.send("/v1/labels", [_complete(item)])[0]


_REQUIRED = frozenset({"deployment", "release", "prompt", "response"})


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _complete(item: Mapping[str, Any]) -> dict[str, Any]:
    """Give `item` an id and a time before the first attempt, so that a repeated one is the same record."""
    complete = dict(item)
    if not complete.get("id"):
        complete["id"] = str(uuid.uuid4())
    if complete.get("event_time") is None:
        complete["event_time"] = _now_ms()
    return complete
