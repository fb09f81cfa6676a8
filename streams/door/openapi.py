"""The description of the door, generated from the structs that read and answer requests."""

from typing import Any, Final

import msgspec

from streams.door.answer import Answer, Problem
from streams.door.submission import SUBMISSIONS, Kind
from streams.settings import DoorSettings

PATHS: Final[dict[str, Kind]] = {
    "/v1/interactions": "interaction",
    "/v1/releases": "release",
    "/v1/references": "reference",
    "/v1/feedback": "feedback",
    "/v1/labels": "label",
}

EXAMPLES: Final[dict[Kind, dict[str, Any]]] = {
    "interaction": {
        "deployment": "support",
        "id": "chat-42/7",
        "release": "2026.11.2",
        "prompt": "I forgot my password",
        "response": "Open Settings, choose Security, then Reset password.",
        "history": [{"role": "user", "text": "Hello"}, {"role": "assistant", "text": "How can I help?"}],
        "user": "customer-17",
        "conversation": "chat-42",
        "arm": {"name": "candidate", "share": 0.1, "unit": "conversation"},
        "model": "small-2",
        "latency_s": 0.8,
        "attributes": {"region": "eu", "language": "en"},
    },
    "release": {
        "deployment": "support",
        "release": "2026.11.2",
        "role": "candidate",
        "started_at": "2026-11-20T09:00:00Z",
        "share": 0.1,
    },
    "reference": {
        "deployment": "support",
        "release": "2026.11.2",
        "metric": "helpful",
        "n": 2000,
        "mean": 0.91,
        "variance": 0.08,
        "first_at": "2026-11-20T09:00:00Z",
        "last_at": "2026-11-21T09:00:00Z",
        "approved_at": "2026-11-21T10:00:00Z",
    },
    "feedback": {"deployment": "support", "interaction_id": "chat-42/7", "kind": "thumb", "value": 1.0},
    "label": {
        "deployment": "support",
        "interaction_id": "chat-42/7",
        "metric": "helpful",
        "value": 1.0,
        "rater": "rater-1",
    },
}

_PROBLEMS: Final = {
    "400": "The body is not JSON, not UTF-8, not complete gzip, or has no record.",
    "401": "The bearer token is missing or wrong.",
    "408": "The body did not arrive in time.",
    "409": "Another record is stored under the id of the first record.",
    "413": "The first record, or the whole body, is too large, or the body has too many lines.",
    "415": "The content type or content encoding is not supported.",
    "422": "The first record is not what this path takes; each result names the field and the remedy.",
    "503": "The journal could not be written. Send it all again: what is stored already is a duplicate.",
}
_ONLY_PROBLEM: Final = frozenset({"401", "408", "415", "503"})
_SUMMARIES: Final[dict[Kind, str]] = {
    "interaction": "Send interactions",
    "release": "Declare which part a release plays",
    "reference": "Approve a new normal",
    "feedback": "Send what people said about interactions",
    "label": "Send reviewers' labels",
}
_RULES: Final = (
    "One JSON object, or one per line. A record has at most {settings.max_record_bytes} bytes, a body "
    "{settings.max_batch_bytes} (unpacked, if it is sent as gzip). Each record has its own verdict; a bad "
    "one does not hold up the others. The same id and content again is a duplicate."
)
_INFO: Final = {
    "title": "Plumbline ingest",
    "version": "1",
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "description": "Texts are redacted and users are hashed before anything is stored. "
    "A 202 means that the records are on disk.",
}
_TOKEN: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "Required unless the door listens on a loopback address only.",
}
_SELF: Final = {
    "operationId": "describe",
    "summary": "This document",
    "security": [],
    "responses": {
        "200": {
            "description": "OpenAPI 3.1.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
}
_TEMPLATE: Final = "#/components/schemas/{name}"


def describe_door(settings: DoorSettings) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the door as it is configured.

    Examples
    --------
    >>> sorted(describe_door(DoorSettings())["paths"])[0]
    '/v1/feedback'
    """
    shapes = [*SUBMISSIONS.values(), Answer, Problem]
    _, schemas = msgspec.json.schema_components(shapes, ref_template=_TEMPLATE)
    paths: dict[str, Any] = {path: {"post": _operation(kind, settings)} for path, kind in PATHS.items()}
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": _INFO,
        # An empty entry: the door needs no token while it listens on this machine only.
        "security": [{"token": []}, {}],
        "paths": {**paths, "/v1/openapi.json": {"get": _SELF}},
        "components": {"schemas": schemas, "securitySchemes": {"token": _TOKEN}},
    }


def _operation(kind: Kind, settings: DoorSettings) -> dict[str, Any]:
    schema = {"$ref": _TEMPLATE.format(name=SUBMISSIONS[kind].__name__)}
    operation: dict[str, Any] = {
        "operationId": f"send_{kind}",
        "summary": _SUMMARIES[kind],
        "description": _RULES.format(settings=settings),
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema, "example": EXAMPLES[kind]},
                "application/x-ndjson": {
                    "schema": {
                        "type": "string",
                        "description": "One object of the schema above per line; blank lines are skipped.",
                    },
                    "example": msgspec.json.encode(EXAMPLES[kind]).decode() + "\n",
                },
            },
        },
        "responses": _responses(),
    }
    if kind not in {"release", "reference"}:
        operation["parameters"] = [_IDEMPOTENCY_KEY]
    return operation


_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The id of a single record that has none; ignored with application/x-ndjson.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}


def _responses() -> dict[str, Any]:
    answer = {"$ref": _TEMPLATE.format(name="Answer")}
    problem = {"$ref": _TEMPLATE.format(name="Problem")}
    responses: dict[str, Any] = {
        "202": {
            "description": "At least one record is stored, by this request or before it.",
            "content": {"application/json": {"schema": answer}},
        }
    }
    for status, text in _PROBLEMS.items():
        shape = problem if status in _ONLY_PROBLEM else {"anyOf": [answer, problem]}
        responses[status] = {"description": text, "content": {"application/json": {"schema": shape}}}
    seconds = {"type": "integer", "minimum": 0}
    responses["503"]["headers"] = {
        "Retry-After": {"description": "Seconds to wait before the next try.", "schema": seconds}
    }
    responses["401"]["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return responses
