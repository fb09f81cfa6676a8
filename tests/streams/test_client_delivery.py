"""The client against a door that keeps the published contract, and against its failures."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.client import Client, ClientError, Refused, Unauthorised, Unavailable, Verdict

Handler = Callable[[httpx2.Request], httpx2.Response]


class FakeDoor:
    """Keeps what it accepted by id and answers line by line, as the door does."""

    def __init__(self, *, token: str = "", max_bytes: int = 1_000_000) -> None:
        self.token = token
        self.max_bytes = max_bytes
        self.kept: dict[tuple[str, str], dict[str, Any]] = {}
        self.requests: list[httpx2.Request] = []
        self.trouble: list[Handler] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return httpx2.Response(401, json={"code": "unauthorised", "message": "a token is required"})
        if len(request.content) > self.max_bytes:
            return httpx2.Response(413, json={"code": "batch_too_large", "message": "send smaller batches"})
        if self.trouble and (handler := self.trouble.pop(0)) is not None:
            return handler(request)
        return self.answer(request)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        results = [
            {"line": at, **self.admit(request.url.path, line)}
            for at, line in enumerate(request.content.split(b"\n"), 1)
            if line.strip()
        ]
        counts = {
            kind: sum(one["verdict"] == kind for one in results)
            for kind in ("accepted", "duplicate", "refused")
        }
        status = 202 if counts["accepted"] or counts["duplicate"] else results[0]["status"]
        return httpx2.Response(status, json={**counts, "results": results})

    def admit(self, path: str, line: bytes) -> dict[str, Any]:
        record = json.loads(line)
        if path == "/v1/interactions" and "prompt" not in record:
            return {"status": 422, "verdict": "refused", "code": "field_missing", "message": "prompt"}
        key = (path, record.get("id") or f"{record['release']}@{record['started_at']}")
        known = self.kept.setdefault(key, record)
        if known != record:
            return {
                "status": 409,
                "verdict": "refused",
                "id": key[1],
                "code": "id_conflict",
                "message": "other",
            }
        first = known is record
        return {
            "status": 202 if first else 200,
            "verdict": "accepted" if first else "duplicate",
            "id": key[1],
        }


def item(at: int = 0, **more: Any) -> dict[str, Any]:
    return {"deployment": "support", "release": "2.3", "prompt": f"q{at}", "response": "a", **more}


def client(door: FakeDoor, waits: list[float] | None = None, **more: Any) -> Client:
    sleep = (waits if waits is not None else []).append
    return Client("http://door", transport=httpx2.MockTransport(door), sleep=sleep, **more)


def test_one_record_arrives_with_every_field_that_was_given() -> None:
    door = FakeDoor()
    with client(door) as sender:
        verdict = sender.record(
            deployment="support",
            release="2.3",
            prompt="Hi",
            response="",
            id="42",
            event_time=datetime(2026, 11, 21, tzinfo=UTC),
            history=[{"role": "user", "text": "Before"}],
            final=True,
            arm={"name": "canary", "share": 0.2, "unit": "conversation"},
            latency_s=0.0,
            annotations={"fact_known": False},
        )
    assert verdict == Verdict(line=1, status=202, verdict="accepted", id="42")
    assert door.kept["/v1/interactions", "42"] == {
        "deployment": "support",
        "release": "2.3",
        "prompt": "Hi",
        "response": "",
        "id": "42",
        "event_time": "2026-11-21T00:00:00Z",
        "history": [{"role": "user", "text": "Before"}],
        "final": True,
        "arm": {"name": "canary", "share": 0.2, "unit": "conversation"},
        "latency_s": 0.0,
        "annotations": {"fact_known": False},
    }
    assert door.requests[0].headers["content-type"] == "application/json"


def test_a_batch_goes_in_chunks_and_keeps_its_order() -> None:
    door = FakeDoor()
    verdicts = client(door, batch_lines=4).send(item(at, id=f"i{at}") for at in range(10))
    assert [verdict.line for verdict in verdicts] == list(range(1, 11))
    assert [verdict.id for verdict in verdicts] == [f"i{at}" for at in range(10)]
    assert [len(request.content.split(b"\n")) for request in door.requests] == [4, 4, 2]
    assert door.requests[0].headers["content-type"] == "application/x-ndjson"
    assert client(door).send([]) == []


def test_an_answer_that_got_lost_counts_nothing_twice() -> None:
    door = FakeDoor()

    def accept_then_break(request: httpx2.Request) -> httpx2.Response:
        door.answer(request)
        raise httpx2.ReadError("connection reset")

    door.trouble = [accept_then_break]
    verdicts = client(door).send([item(1), item(2)])
    assert [verdict.verdict for verdict in verdicts] == ["duplicate", "duplicate"]
    assert len(door.kept) == 2
    assert door.requests[0].content == door.requests[1].content


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_door_is_asked_again_after_the_time_it_names(status: int) -> None:
    door, waits = FakeDoor(), list[float]()
    door.trouble = [lambda _: httpx2.Response(status, headers={"retry-after": "7"})]
    assert client(door, waits).send([item()])[0].verdict == "accepted"
    assert waits == [7.0]


def test_pauses_grow_and_end() -> None:
    door, waits = FakeDoor(), list[float]()
    door.trouble = [lambda _: httpx2.Response(503)] * 9
    with pytest.raises(Unavailable, match="status 503 at the last of 5 attempts"):
        client(door, waits, attempts=5).send([item()])
    assert len(waits) == 4
    assert len(door.requests) == 5
    for attempt, wait_s in enumerate(waits):
        assert 0.1 * 2**attempt <= wait_s <= 0.2 * 2**attempt


@pytest.mark.parametrize("answer", ["soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "9" * 400])
def test_a_strange_retry_after_never_stops_the_client(answer: str) -> None:
    door, waits = FakeDoor(), list[float]()
    door.trouble = [lambda _: httpx2.Response(429, headers={"retry-after": answer})]
    assert client(door, waits).send([item()])[0].status == 202
    assert 0.0 < waits[0] <= 30.0


def test_a_wrong_token_is_said_at_once_and_never_shown() -> None:
    door = FakeDoor(token="right-token")
    with pytest.raises(Unauthorised) as caught:
        client(door, token="wrong-token").send([item()])
    assert len(door.requests) == 1
    assert "wrong-token" not in f"{caught.value!r}{client(door, token='wrong-token')!r}"
    assert client(door, token="right-token").send([item()])[0].status == 202


def test_a_refused_line_does_not_hold_back_the_others() -> None:
    door = FakeDoor()
    batch = [item(id="a"), {"deployment": "support", "id": "b"}, item(id="c"), item(9, id="a", event_time=1)]
    verdicts = client(door, batch_lines=2).send(batch)
    assert [(one.line, one.verdict, one.status) for one in verdicts] == [
        (1, "accepted", 202),
        (2, "refused", 422),
        (3, "accepted", 202),
        (4, "refused", 409),
    ]
    with pytest.raises(Refused, match="1 of 2 records refused: field_missing") as caught:
        client(FakeDoor(), strict=True).send(batch[:2])
    assert [one.verdict for one in caught.value.verdicts] == ["accepted", "refused"]


def test_a_batch_that_is_too_large_is_halved_until_it_fits() -> None:
    door = FakeDoor(max_bytes=700)
    batch = [item(at, id=str(at)) for at in range(9)] + [item(9, id="9", system="x" * 900)]
    verdicts = client(door).send(batch)
    assert [one.verdict for one in verdicts] == ["accepted"] * 9 + ["refused"]
    assert (verdicts[9].status, verdicts[9].code) == (413, "batch_too_large")
    assert len(door.kept) == 9


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"code":7}', b"\xff"])
def test_an_answer_without_verdicts_is_never_taken_for_success(body: bytes) -> None:
    door = FakeDoor()
    door.trouble = [
        lambda _: httpx2.Response(400, content=body),
        lambda _: httpx2.Response(202, content=body),
    ]
    assert [one.code for one in client(door).send([item(1), item(2)])] == ["request_refused"] * 2
    with pytest.raises(ClientError, match="answered 202 without a verdict for each record"):
        client(door).send([item(1), item(2)])


def test_nothing_that_was_sent_stands_in_an_error() -> None:
    def broken(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no route")

    door = FakeDoor()
    door.trouble = [broken] * 6
    with pytest.raises(Unavailable) as caught:
        client(door).send([item(prompt="my secret question")])
    assert "secret" not in repr(caught.value)
    assert caught.value.__context__ is None


def test_releases_feedback_and_labels_take_their_own_paths() -> None:
    door = FakeDoor()
    sender = client(door)
    sender.declare_release(deployment="support", release="2.4", role="candidate", started_at=5, share=0.2)
    sender.feedback(deployment="support", interaction_id="42", kind="thumb", value=0.0, id="f1", event_time=6)
    sender.label(
        deployment="support",
        interaction_id="42",
        metric="refusal",
        value=1.0,
        rater="r1",
        id="l1",
        event_time=7,
    )
    assert door.kept["/v1/releases", "2.4@5"]["share"] == 0.2
    assert door.kept["/v1/feedback", "f1"]["value"] == 0.0
    assert door.kept["/v1/labels", "l1"]["metric"] == "refusal"


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=60))
def test_any_text_arrives_with_lone_surrogates_replaced(text: str) -> None:
    door = FakeDoor()
    assert client(door).send([item(id="x", response=text, history=[{"role": "user", "text": text}])])
    kept = door.kept["/v1/interactions", "x"]
    assert kept["response"] == kept["history"][0]["text"]
    if text.isascii():
        assert kept["response"] == text
    assert len(kept["response"].encode("utf-16-le")) == len(text.encode("utf-16-le", "surrogatepass"))


@pytest.mark.parametrize("bad", [{"attempts": 0}, {"batch_lines": 0}, {"batch_bytes": 0}])
def test_impossible_settings_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        client(FakeDoor(), **bad)
