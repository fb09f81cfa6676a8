"""The door over HTTP: statuses, verdicts, limits, the token, and what the journal is given."""

import asyncio
import gzip
import json
import threading
from collections.abc import Iterator, Sequence
from typing import ClassVar

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.types import Message

from detectors.records import Feedback, Interaction, Label, Redaction, Release
from detectors.records.ids import interaction_id
from detectors.redaction import Redactor
from streams.door import DoorCounters, door_routes
from streams.inbox import Entry, Outcome
from streams.settings import DoorSettings

NOW_MS = 1_795_253_400_000  # 2026-11-21T09:30:00Z
NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}


class MemoryInbox:
    """An inbox that keeps its entries in memory and compares identities as the contract says."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.calls = 0
        self.failures: list[OSError] = []
        self._digests: dict[str, str] = {}

    async def admit(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        self.calls += 1
        if self.failures:
            raise self.failures.pop()
        return [self._admit(entry) for entry in entries]

    def _admit(self, entry: Entry) -> Outcome:
        known = self._digests.setdefault(entry.identity, entry.digest)
        if known != entry.digest:
            return "conflict"
        if any(entry.identity == kept.identity for kept in self.entries):
            return "duplicate"
        self.entries.append(entry)
        return "accepted"


class Door:
    """A client, the inbox behind the door, and its counters."""

    def __init__(self, settings: DoorSettings, token: str | None = None) -> None:
        self.inbox = MemoryInbox()
        self.counters = DoorCounters()
        self.now_ms = NOW_MS
        routes = door_routes(
            inbox=self.inbox,
            settings=settings,
            redactor=Redactor(),
            user_key=b"k" * 32,
            now_ms=lambda: self.now_ms,
            counters=self.counters,
            token=token,
        )
        self.client = TestClient(Starlette(routes=routes))

    def send(self, body: object, path: str = "/v1/interactions", **headers: str):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(path, content=content, headers={**JSON, **headers})

    def batch(self, *lines: object, path: str = "/v1/interactions"):
        texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        return self.client.post(path, content=b"\n".join(texts), headers=NDJSON)


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door(DoorSettings())
    with made.client:
        yield made


def exchange(**fields: object) -> dict[str, object]:
    return {"deployment": "support", "release": "r1", "prompt": "hi", "response": "hello", **fields}


def only(response) -> dict[str, object]:
    (result,) = response.json()["results"]
    return result


def test_one_interaction_is_accepted_and_stored_with_derived_ids_and_times(door: Door) -> None:
    response = door.send(exchange(id="a", user="u1", conversation="c1", event_time=NOW_MS - 1000))
    assert response.status_code == 202
    assert response.json() == {
        "accepted": 1,
        "duplicate": 0,
        "refused": 0,
        "results": [
            {
                "line": 1,
                "status": 202,
                "verdict": "accepted",
                "id": "a",
                "interaction_id": interaction_id("support", "a"),
            }
        ],
    }
    (entry,) = door.inbox.entries
    record = entry.record
    assert isinstance(record, Interaction)
    assert (record.event_time_ms, record.received_at_ms) == (NOW_MS - 1000, NOW_MS)
    assert record.raw_id == "a"
    assert "u1" not in record.user
    assert record.user_key_id
    assert record.conversation
    assert record.conversation != "c1"
    assert entry.topic == "interactions"
    assert entry.key == f"support/{record.user}"


def test_partition_key_falls_back_to_conversation_and_then_to_the_interaction(door: Door) -> None:
    door.batch(exchange(id="a", conversation="c"), exchange(id="b"))
    first, second = door.inbox.entries
    assert first.key == f"support/{first.record.conversation}"
    assert second.key == f"support/{interaction_id('support', 'b')}"


def test_same_id_and_content_is_a_duplicate_even_later_and_other_content_a_conflict(door: Door) -> None:
    assert door.send(exchange(id="a", extra_field={"b": 1, "a": 2})).status_code == 202
    door.now_ms += 60_000
    again = door.send(exchange(id="a", extra_field={"a": 2, "b": 1}))
    assert (again.status_code, only(again)["verdict"], only(again)["status"]) == (202, "duplicate", 200)
    other = door.send(exchange(id="a", prompt="other"))
    assert (other.status_code, only(other)["code"]) == (409, "id_conflict")
    assert only(other)["interaction_id"] == interaction_id("support", "a")
    assert len(door.inbox.entries) == 1
    assert door.counters.snapshot() == {"accepted": 1, "duplicate": 1, "id_conflict": 1}


def test_same_instant_spelled_in_two_ways_is_a_duplicate(door: Door) -> None:
    spellings = [NOW_MS, "2026-11-21T09:30:00Z", "2026-11-21T10:30:00.000+01:00"]
    response = door.batch(*(exchange(id="a", event_time=at) for at in spellings))
    assert [result["verdict"] for result in response.json()["results"]] == [
        "accepted",
        "duplicate",
        "duplicate",
    ]
    assert door.inbox.entries[0].record.event_time_ms == NOW_MS


def test_absent_id_comes_from_the_idempotency_key_else_from_content_and_client_time(door: Door) -> None:
    keyed = only(door.send(exchange(), **{"idempotency-key": "k-1"}))
    assert (keyed["id"], keyed["interaction_id"]) == ("k-1", interaction_id("support", "k-1"))
    one, same, later = (only(door.send(exchange(event_time=NOW_MS + at))) for at in (0, 0, 1))
    assert (one["verdict"], same["verdict"], later["verdict"]) == ("accepted", "duplicate", "accepted")
    # The answer's id is good for feedback.
    assert one["interaction_id"] == interaction_id("support", str(one["id"]))


def test_batch_keeps_the_neighbours_of_bad_lines_and_numbers_them_with_blank_ones(door: Door) -> None:
    body = b"\n".join(
        [
            json.dumps(exchange(id="a")).encode(),
            b"",
            b"{nonsense",
            b"  \r",
            json.dumps(exchange(id="b")).encode() + b"\r",
        ]
    )
    response = door.client.post("/v1/interactions", content=body, headers=NDJSON)
    assert response.status_code == 202
    assert [(r["line"], r["verdict"], r["status"]) for r in response.json()["results"]] == [
        (1, "accepted", 202),
        (3, "refused", 400),
        (5, "accepted", 202),
    ]
    assert door.inbox.calls == 1


def test_batch_without_a_good_line_has_the_status_of_its_first(door: Door) -> None:
    assert door.batch(b"{", exchange(deployment="")).status_code == 400
    assert door.batch(exchange(deployment=""), b"{").status_code == 422
    assert door.client.post("/v1/interactions", content=b"\n \n", headers=NDJSON).status_code == 400


def test_long_batch_is_written_in_pieces_of_a_thousand_in_order(door: Door) -> None:
    response = door.batch(*(exchange(id=str(at)) for at in range(2_500)))
    assert response.json()["accepted"] == 2_500
    assert door.inbox.calls == 3
    assert [entry.record.raw_id for entry in door.inbox.entries] == [str(at) for at in range(2_500)]


def test_large_request_is_judged_off_the_event_loop_and_a_small_one_on_it() -> None:
    class Watcher:
        threads: ClassVar[set[int]] = set()

        def redact(self, text: str, field: str) -> tuple[str, tuple[Redaction, ...]]:
            self.threads.add(threading.get_ident())
            return text, ()

    class Loop(MemoryInbox):
        async def admit(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
            self.thread = threading.get_ident()
            return await super().admit(entries)

    inbox, watcher = Loop(), Watcher()
    routes = door_routes(
        inbox=inbox,
        settings=DoorSettings(),
        redactor=watcher,
        user_key=b"k" * 32,
        now_ms=lambda: NOW_MS,
        counters=DoorCounters(),
        token=None,
    )
    with TestClient(Starlette(routes=routes)) as client:
        assert client.post("/v1/interactions", json=exchange()).status_code == 202
        assert watcher.threads == {inbox.thread}
        watcher.threads.clear()
        assert client.post("/v1/interactions", json=exchange(system="s" * 100_000)).status_code == 202
        assert watcher.threads
        assert inbox.thread not in watcher.threads


def test_journal_that_cannot_write_is_503_with_retry_after_and_the_retry_repairs_it(door: Door) -> None:
    door.inbox.failures.append(OSError(28, "No space left on device"))
    response = door.send(exchange(id="a"))
    assert (response.status_code, response.json()["code"]) == (503, "not_written")
    assert int(response.headers["retry-after"]) > 0
    assert door.send(exchange(id="a")).json()["accepted"] == 1


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content-type": "text/plain"}, 415, "unsupported_media_type"),
        ({"content-type": ""}, 415, "unsupported_media_type"),
        ({"content-type": "application/json", "content-encoding": "br"}, 415, "unsupported_encoding"),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 400, "malformed_gzip"),
        ({"content-type": "application/x-ndjson", "content-length": "99999999999"}, 413, "batch_too_large"),
    ],
)
def test_request_is_refused_as_a_whole(door: Door, headers: dict[str, str], status: int, code: str) -> None:
    response = door.client.post("/v1/interactions", content=b"{}", headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert door.counters.snapshot() == {code: 1}


def test_chunked_body_over_the_limit_is_refused_without_reading_it_all() -> None:
    door = Door(DoorSettings(max_batch_bytes=10_000))
    sent: list[Message] = []
    read = 0

    async def receive() -> Message:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b" " * 1_000, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/interactions",
        "query_string": b"",
        "headers": [(b"content-type", b"application/x-ndjson"), (b"content-length", b"5")],
    }
    asyncio.run(door.client.app(scope, receive, send))
    assert (sent[0]["status"], read) == (413, 11)
    assert json.loads(sent[1]["body"])["code"] == "batch_too_large"


def test_gzip_is_unpacked_up_to_the_limit_only(door: Door) -> None:
    packed = gzip.compress(json.dumps(exchange(id="a")).encode())
    assert door.send(packed, **{"content-encoding": "gzip"}).json()["accepted"] == 1
    bomb = door.send(gzip.compress(b" " * 40_000_000), **{"content-encoding": "gzip"})
    assert (bomb.status_code, bomb.json()["code"]) == (413, "batch_too_large")
    for damaged in (packed[:-4], packed + b"x", packed + packed):
        assert door.send(damaged, **{"content-encoding": "gzip"}).json()["code"] == "malformed_gzip"


def test_too_many_lines_are_refused(door: Door) -> None:
    response = door.client.post("/v1/interactions", content=b"1\n" * 60_000, headers=NDJSON)
    assert (response.status_code, response.json()["code"]) == (413, "too_many_lines")


def test_token_is_required_and_compared_whole() -> None:
    door = Door(DoorSettings(), token="geheim-ü")
    with door.client:
        for sent in (
            {},
            {"authorization": "Bearer"},
            {"authorization": "Bearer geheim"},
            {"authorization": "Basic geheim-ü".encode()},
        ):
            response = door.client.post("/v1/interactions", content=b"{}", headers={**JSON, **sent})
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
        assert door.inbox.calls == 0
        right = {**JSON, "authorization": "bearer geheim-ü".encode()}
        assert (
            door.client.post("/v1/interactions", content=json.dumps(exchange()), headers=right).status_code
            == 202
        )


def test_release_is_declared_once_and_reaches_every_partition(door: Door) -> None:
    declared = {
        "deployment": "support",
        "release": "r2",
        "role": "candidate",
        "started_at": NOW_MS,
        "share": 0.1,
    }
    assert only(door.send(declared, "/v1/releases"))["verdict"] == "accepted"
    assert only(door.send(declared, "/v1/releases"))["verdict"] == "duplicate"
    batch = door.batch(declared, {**declared, "role": "stable"}, declared, path="/v1/releases")
    assert [result["verdict"] for result in batch.json()["results"]] == ["duplicate", "accepted", "duplicate"]
    places = [(entry.topic, entry.key) for entry in door.inbox.entries]
    assert places == [("releases", "support"), ("interactions", None)] * 2
    assert all(isinstance(entry.record, Release) for entry in door.inbox.entries)
    assert len({entry.identity for entry in door.inbox.entries}) == 4


def test_feedback_and_labels_join_by_the_clients_id_and_never_collide(door: Door) -> None:
    about = {"deployment": "support", "id": "a", "interaction_id": "a", "value": 0.5}
    answers = [
        door.send(exchange(id="a")),
        door.send({**about, "kind": "thumb"}, "/v1/feedback"),
        door.send({**about, "metric": "helpful", "rater": "ann@example.com"}, "/v1/labels"),
    ]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({only(answer)["interaction_id"] for answer in answers}) == 1
    said, feedback, label = door.inbox.entries
    assert (feedback.topic, label.topic, feedback.key) == ("feedback", "labels", "support")
    assert isinstance(feedback.record, Feedback)
    assert isinstance(label.record, Label)
    assert feedback.record.interaction_id == said.record.interaction_id
    assert "ann@" not in label.record.rater
    assert len({entry.identity for entry in door.inbox.entries}) == 3
