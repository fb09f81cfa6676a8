"""Bad input of every kind: a clear verdict without the sender's text, and nothing else harmed."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from starlette.applications import Starlette
from starlette.testclient import TestClient

from detectors.records.codec import decode, encode
from detectors.redaction import Redactor
from streams.door import (
    Admission,
    AdmissionContext,
    DoorCounters,
    Refusal,
    admit_payloads,
    door_routes,
    judge_payloads,
)
from streams.door.openapi import EXAMPLES, PATHS, describe_door
from streams.settings import DoorSettings

NOW_MS = 1_795_253_400_000
DAY_MS = 86_400_000
WELCOME = {"deployment": "support", "release": "r1", "prompt": "hi", "response": "hello"}
SECRET = "kaninchen"


def context(**options: Any) -> AdmissionContext:
    return AdmissionContext(
        settings=DoorSettings(**options), redactor=Redactor(), user_key=b"k" * 32, received_at_ms=NOW_MS
    )


def judge(payload: bytes, kind: Any = "interaction", **options: Any) -> Admission | Refusal:
    (verdict,) = judge_payloads([payload], kind, context(**options))
    return verdict


def with_raw(field: str, raw: bytes) -> bytes:
    """Return a welcome record with one more field, whose value is spelled `raw`."""
    return json.dumps(WELCOME).encode()[:-1] + b', "' + field.encode() + b'": ' + raw + b"}"


BAD: list[tuple[str, bytes, int, str]] = [
    ("empty", b"", 400, "malformed_json"),
    ("cut", b'{"deployment": "kaninchen', 400, "malformed_json"),
    ("two values", b"{} {}", 400, "malformed_json"),
    ("raw NUL", with_raw("x", b'"kaninchen\0"'), 400, "malformed_json"),
    ("escaped NUL", with_raw("x", b'"kaninchen\\u0000"'), 422, "nul_character"),
    ("escaped NUL in a key", with_raw("kaninchen\\\\\\u0000", b"1"), 422, "nul_character"),
    ("high surrogate", with_raw("x", b'"kaninchen\\ud800"'), 400, "malformed_json"),
    ("low surrogate", with_raw("x", b'"\\udc00kaninchen"'), 400, "malformed_json"),
    ("raw surrogate", with_raw("x", b'"\xed\xa0\x80"'), 400, "invalid_utf8"),
    ("latin-1", with_raw("x", b'"\xfc"'), 400, "invalid_utf8"),
    ("brackets", b"[" * 100_000, 400, "nesting_too_deep"),
    ("braces", b'{"a":' * 100_000, 400, "nesting_too_deep"),
    ("closed brackets", with_raw("x", b"[" * 900 + b"]" * 900), 422, "extra_too_deep"),
    ("deep prompt", b'{"prompt":' + b"[" * 900 + b"]" * 900 + b"}", 422, "field_invalid"),
    ("NaN", with_raw("latency_s", b"NaN"), 400, "malformed_json"),
    ("Infinity", with_raw("latency_s", b"-Infinity"), 400, "malformed_json"),
    ("1e999", with_raw("latency_s", b"1e999"), 422, "number_out_of_range"),
    ("huge latency", with_raw("latency_s", b"1e300"), 422, "field_invalid"),
    ("negative latency", with_raw("latency_s", b"-0.1"), 422, "field_invalid"),
    ("huge tokens", with_raw("input_tokens", b"9" * 30), 422, "field_invalid"),
    ("huge time", with_raw("event_time", b"9" * 30), 422, "event_time_out_of_range"),
    ("huge number elsewhere", with_raw("x", b"9" * 30), 422, "number_out_of_range"),
    ("number of 5000 digits", with_raw("x", b"9" * 5000), 422, "number_out_of_range"),
    ("float time", with_raw("event_time", b"1.5"), 422, "field_invalid"),
    ("time in words", with_raw("event_time", b'"kaninchen"'), 422, "field_invalid"),
    ("time without offset", with_raw("event_time", b'"2026-11-21T09:30:00"'), 422, "field_invalid"),
    ("time in seconds", with_raw("event_time", b"1795253400"), 422, "event_time_out_of_range"),
    ("year 1", with_raw("event_time", b'"0001-01-01T00:00:00+14:00"'), 422, "event_time_out_of_range"),
    ("year 9999", with_raw("event_time", b'"9999-12-31T23:59:59-14:00"'), 422, "event_time_out_of_range"),
    ("array", b"[]", 422, "array_refused"),
    ("text", b'"kaninchen"', 422, "not_an_object"),
    ("null", b"null", 422, "not_an_object"),
    ("missing", b'{"deployment":"d","release":"r","prompt":"kaninchen"}', 422, "field_missing"),
    ("wrong type", with_raw("prompt", b'["kaninchen"]'), 422, "field_invalid"),
    ("empty deployment", with_raw("deployment", b'""'), 422, "field_invalid"),
    ("long deployment", with_raw("deployment", b'"' + b"k" * 65 + b'"'), 422, "field_invalid"),
    ("deployment with newline", with_raw("deployment", b'"kaninchen\\n"'), 422, "field_invalid"),
    ("arm name", with_raw("arm", b'{"name":"kanin chen"}'), 422, "field_invalid"),
    ("arm share", with_raw("arm", b'{"name":"a","share":1}'), 422, "field_invalid"),
    ("unknown role", with_raw("history", b'[{"role":"kaninchen","text":""}]'), 422, "field_invalid"),
    ("attribute", with_raw("attributes", b'{"kaninchen":1}'), 422, "field_invalid"),
    (
        "long attribute key",
        with_raw("attributes", b'{"' + b"kaninchen" * 20 + b'":"v"}'),
        422,
        "key_too_long",
    ),
    ("long unknown field", with_raw("kaninchen" * 20, b"1"), 422, "key_too_long"),
    ("large unknown field", with_raw("x", b'"' + b"k" * 70_000 + b'"'), 422, "extra_too_large"),
    ("empty id", with_raw("id", b'""'), 422, "field_invalid"),
    ("long id", with_raw("id", b'"' + b"k" * 129 + b'"'), 422, "field_invalid"),
    ("id of 129 bytes", with_raw("id", '"{}k"'.format("é" * 64).encode()), 422, "id_invalid"),
    ("2 MiB", with_raw("x", b'"' + b"k" * 2_097_152 + b'"'), 413, "record_too_large"),
    ("grown by redaction", with_raw("system", b'"' + b"a@b.co " * 149_000 + b'"'), 413, "record_too_large"),
]


@pytest.mark.parametrize(("name", "payload", "status", "code"), BAD, ids=[name for name, *_ in BAD])
def test_bad_record_is_refused_without_its_text_and_its_neighbours_are_kept(
    name: str, payload: bytes, status: int, code: str
) -> None:
    good = json.dumps(WELCOME).encode()
    before, bad, after = judge_payloads([good, payload, good], "interaction", context())
    assert isinstance(before, Admission)
    assert isinstance(after, Admission)
    assert isinstance(bad, Refusal)
    assert (bad.status, bad.code) == (status, code)
    assert "kanin" not in bad.message
    assert len(bad.message) < 250


def test_refusal_names_the_field() -> None:
    refusal = judge(with_raw("history", b'[{"role":"user","text":"a"},{"role":"x","text":"b"}]'))
    assert isinstance(refusal, Refusal)
    assert refusal.message.startswith("history[1].role: ")


@pytest.mark.parametrize(
    "payload",
    [
        with_raw("release", b'"r2"'),  # the last of two equal keys wins
        with_raw("x", rb'"C:\\u0000"'),  # an escaped backslash, not a NUL
        with_raw("prompt", rb'"\ud83d\ude00"'),
        with_raw("prompt", '"\u202e\x1b[31m<script>\u2028"'.replace("\x1b", "\\u001b").encode()),
        with_raw("id", b'"' + b"k" * 128 + b'"'),
        with_raw("latency_s", b"1"),
        with_raw("system", b'"' + b"k " * 520_000 + b'"'),
        with_raw("x", b'{"a":{"b":{"c":{"d":{"e":{"f":[1]}}}}}}'),
    ],
)
def test_strange_but_valid_record_is_admitted_and_survives_the_codec(payload: bytes) -> None:
    verdict = judge(payload)
    assert isinstance(verdict, Admission)
    record = verdict.entries[0].record
    assert decode("Interaction", encode(record)) == record


@pytest.mark.parametrize("offset_ms", [-8 * DAY_MS, 2 * 3_600_000, -30 * 365 * DAY_MS])
def test_clamp_refuses_strange_times_and_replay_without_it_takes_them(offset_ms: int) -> None:
    payload = with_raw("event_time", str(NOW_MS + offset_ms).encode())
    refusal = judge(payload)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "event_time_out_of_range"
    assert isinstance(judge(payload, clamp=False), Admission)
    assert isinstance(judge(with_raw("event_time", b"-1"), clamp=False), Refusal)


def test_release_may_have_started_long_ago_but_not_far_ahead() -> None:
    declared = {"deployment": "d", "release": "r", "role": "stable"}
    long_ago = json.dumps({**declared, "started_at": NOW_MS - 400 * DAY_MS}).encode()
    ahead = json.dumps({**declared, "started_at": NOW_MS + DAY_MS}).encode()
    assert isinstance(judge(long_ago, "release"), Admission)
    refusal = judge(ahead, "release")
    assert isinstance(refusal, Refusal)
    assert refusal.code == "started_at_out_of_range"


def test_replay_gets_flat_entries_and_refusals_and_the_same_ones_again() -> None:
    declared = json.dumps({"deployment": "d", "release": "r", "role": "stable", "started_at": 1}).encode()
    verdicts = admit_payloads([declared, b"{", declared], "release", context())
    assert [isinstance(verdict, Refusal) for verdict in verdicts] == [False, False, True, False, False]
    assert verdicts == admit_payloads([declared, b"{", declared], "release", context())


PLANTED = {
    "email": "ann.lee@example.com",
    "phone": "+1 415 555 0132",
    "card": "4111 1111 1111 1111",
    "key": "sk-proj-Zx9Qw3Er7Ty1Ui5Op2As4Df6Gh8Jk0LzXcVb",
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED.keys())
def test_personal_data_in_any_field_is_never_in_an_entry(planted: str) -> None:
    text = f"write to {planted} please"
    interaction = {
        **WELCOME,
        "id": planted,
        "prompt": text,
        "response": text,
        "system": text,
        "history": [{"role": "user", "text": text}],
        "context": [text],
        "tools": [{"name": text, "arguments": text, "result": text}],
        "user": planted,
        "conversation": planted,
        "model": text,
        "prompt_version": text,
        "finish_reason": text,
        "attributes": {text: text, planted: planted},
        "annotations": {"reference_answer": text},
        "unknown": {text: [text, {planted: text}], "number": 4111111111111111, "time": 1_795_253_400_000},
        planted: 1,
    }
    about = {"deployment": "d", "id": planted, "interaction_id": planted, "value": 1, "comment": text}
    release = {
        "deployment": "d",
        "release": "r",
        "role": "stable",
        "started_at": 1,
        "notes": text,
        "digest": text,
    }
    sent = {
        "interaction": interaction,
        "feedback": {**about, "kind": "ticket"},
        "label": {**about, "metric": "m", "rater": planted},
        "release": release,
    }
    for kind, fields in sent.items():
        verdict = judge(json.dumps(fields).encode(), kind)
        assert isinstance(verdict, Admission), verdict
        stored = msgspec.json.encode(verdict).decode()
        assert planted not in stored
        assert "4111111111111111" not in stored
    (entry,) = judge(json.dumps(interaction).encode()).entries
    assert entry.record.extra["unknown"]["time"] == 1_795_253_400_000
    found = {redaction.field for redaction in entry.record.redactions}
    assert {"id", "prompt", "response", "system", "history[0]", "context[0]", "tools[0].result"} <= found
    assert {"model", "attributes", "annotations.reference_answer", "extra"} <= found
    prompt = next(r for r in entry.record.redactions if r.field == "prompt")
    assert entry.record.prompt[prompt.start : prompt.end] not in planted


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    [
        "id",
        "event_time",
        "history",
        "tools",
        "arm",
        "attributes",
        "annotations",
        "final",
        "x",
        "user",
        "share",
    ]
)
BODIES = st.binary(max_size=200) | st.builds(
    lambda extra: json.dumps({**WELCOME, **extra}).encode(), st.dictionaries(FIELDS, JSON_VALUES, max_size=4)
)


class AcceptingInbox:
    """Accepts everything, after encoding it as a journal does."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    async def admit(self, entries: Any) -> Any:
        self.payloads += [encode(entry.record) for entry in entries]
        return ["accepted"] * len(entries)


@pytest.fixture(scope="module")
def client() -> Any:
    routes = door_routes(
        inbox=AcceptingInbox(),
        settings=DoorSettings(),
        redactor=Redactor(),
        user_key=b"k" * 32,
        now_ms=lambda: NOW_MS,
        counters=DoorCounters(),
        token=None,
    )
    with TestClient(Starlette(routes=routes)) as made:
        yield made


@settings(max_examples=150, deadline=None, derandomize=True)
@given(bodies=st.lists(BODIES, max_size=3), path=st.sampled_from(sorted(PATHS)))
def test_any_bytes_give_no_server_error_and_valid_neighbours_are_accepted(
    client: Any, bodies: list[bytes], path: str
) -> None:
    valid = json.dumps(EXAMPLES[PATHS[path]]).encode()
    body = b"\n".join([valid, *bodies, valid])
    response = client.post(path, content=body, headers={"content-type": "application/x-ndjson"})
    assert response.status_code == 202
    results = response.json()["results"]
    assert results[0]["status"] == 202
    assert results[-1]["status"] == 202
    for alone in bodies:
        single = client.post(path, content=alone, headers={"content-type": "application/json"})
        assert single.status_code in {202, 400, 413, 422}


def test_openapi_document_holds_what_the_door_does(client: Any) -> None:
    document = client.get("/v1/openapi.json").json()
    assert document == json.loads(json.dumps(describe_door(DoorSettings())))
    assert document["openapi"].startswith("3.1.")
    assert set(document["paths"]) == {*PATHS, "/v1/openapi.json"}
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for path, kind in PATHS.items():
        operation = document["paths"][path]["post"]
        contents = operation["requestBody"]["content"]
        validator = Draft202012Validator({**contents["application/json"]["schema"], **_components(document)})
        validator.validate(contents["application/json"]["example"])
        assert not validator.is_valid({**EXAMPLES[kind], "deployment": "a b"})
        assert {"202", "400", "401", "408", "409", "413", "415", "422", "503"} == set(operation["responses"])
        for media_type, content in contents.items():
            example = content["example"]
            sent = example if isinstance(example, str) else json.dumps(example)
            response = client.post(path, content=sent, headers={"content-type": media_type})
            assert response.status_code == 202
            answers = {"$ref": "#/components/schemas/Answer", **_components(document)}
            Draft202012Validator(answers).validate(response.json())


def _components(document: dict[str, Any]) -> dict[str, Any]:
    return {"components": document["components"]}


def test_every_reference_of_the_document_resolves() -> None:
    document = describe_door(DoorSettings())
    pending: list[Any] = [document]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if reference := node.get("$ref"):
                assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
            pending += node.values()
        elif isinstance(node, list):
            pending += node
