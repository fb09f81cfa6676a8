"""What can be sent to a monitor, whatever the way: interactions, releases, feedback and labels."""

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from plumbline.delivery import Verdict
from plumbline.keys import Kind

EventTime = int | str | datetime
"""Unix milliseconds, an RFC 3339 text, or an aware datetime."""


class Sender(Protocol):
    """What takes records to where they are read."""

    def send(self, path: str, items: Iterable[Mapping[str, Any]]) -> list[Verdict]:
        """Send `items` to the door's `path` and return the verdict on each, in order."""
        ...


class Recorder:
    """The calls of every client; `delivery` is how what they say gets there."""

    def __init__(self, delivery: Sender) -> None:
        self._delivery = delivery

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
        return self.submit("interaction", (_complete(item) for item in batch))

    def submit(self, kind: Kind, batch: Iterable[Mapping[str, Any]]) -> list[Verdict]:
        """Send records of `kind` in the door's wire form as they are, and return one verdict each, in order.

        Unlike :meth:`send` it gives them neither ids nor times.

        Raises
        ------
        Unavailable, Unauthorised, Refused
            See the classes; the last only where the client is strict, after everything was sent.
        """
        return self._delivery.send(_PATHS[kind], batch)

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
        return self.submit("release", [item])[0]

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
        return self.submit("feedback", [_complete(item)])[0]

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
        return self.submit("label", [_complete(item)])[0]


_PATHS: Mapping[Kind, str] = {
    "interaction": "/v1/interactions",
    "release": "/v1/releases",
    "reference": "/v1/references",
    "feedback": "/v1/feedback",
    "label": "/v1/labels",
}
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
