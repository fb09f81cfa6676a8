"""What a client may send: the wire form of each kind, and the reading of one payload.

A payload is decoded once into plain values and then converted, so that a field we do not know is kept
(in ``extra``) and never lost. An error names a field and a reason and never repeats what was sent.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from detectors.records import Annotations, Cell, Role, ToolCall, Turn
from detectors.records.interaction import Share

Kind = Literal["interaction", "release", "reference", "feedback", "label"]

MAX_ID_BYTES: Final = 128
MAX_KEY_CHARS: Final = 128
MAX_EXTRA_BYTES: Final = 65_536
MAX_EXTRA_DEPTH: Final = 8

# `$` alone would let a trailing newline through.
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._:/+-]{1,64}(?!\n)$",
        description="1 to 64 characters of A-Z a-z 0-9 . _ : / + -",
    ),
]
ClientId = Annotated[
    str,
    Meta(
        min_length=1, max_length=MAX_ID_BYTES, description="The client's own id, at most 128 bytes of UTF-8."
    ),
]
Time = Annotated[
    int | Annotated[datetime, Meta(tz=True)],
    Meta(description="RFC 3339 with an offset, or Unix milliseconds as an integer; absent: when it arrived."),
]
RequiredTime = Annotated[
    int | Annotated[datetime, Meta(tz=True)],
    Meta(description="RFC 3339 with an offset, or Unix milliseconds as an integer."),
]
Count = Annotated[int, Meta(ge=0, le=2_147_483_647)]
Seconds = Annotated[float, Meta(ge=0, le=1_000_000)]
Unit = Annotated[float, Meta(ge=0, le=1, description="in [0, 1], 1 is best")]
Opaque = Annotated[str, Meta(description="Stored as a keyed hash only.")]


class Submission(Struct, frozen=True, kw_only=True):
    """What every kind of submission has."""

    deployment: Name


class ArmSubmission(Struct, frozen=True):
    """The experiment arm, stamped by the router; without ``share`` the arm test is blind."""

    name: Name
    share: Share | None = None
    unit: Literal["conversation", "user"] = "conversation"


class InteractionSubmission(Submission, frozen=True, kw_only=True):
    """One exchange: what was asked, what the user was shown, and what is needed to slice it.

    Without ``id`` and without an ``Idempotency-Key`` the id comes from the content and ``event_time``: two
    equal submissions are then one. Fields that are not named here are kept.
    """

    release: Name
    prompt: str
    response: str
    id: ClientId | None = None
    event_time: Time | None = None
    system: str = ""
    history: tuple[Turn, ...] = ()
    context: tuple[str, ...] = ()
    tools: tuple[ToolCall, ...] = ()
    user: Opaque = ""
    conversation: Opaque = ""
    final: bool = False
    arm: ArmSubmission | None = None
    model: str = ""
    prompt_version: str = ""
    finish_reason: str = ""
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    latency_s: Seconds | None = None
    attributes: dict[str, str] = {}
    annotations: Annotations = Annotations()


class ReleaseSubmission(Submission, frozen=True, kw_only=True):
    """Which part a release plays from ``started_at`` on.

    The same declaration twice is a duplicate. ``started_at`` is required, so that going back to an earlier
    release is a new declaration.
    """

    release: Name
    role: Role
    started_at: RequiredTime
    digest: Annotated[str, Meta(max_length=256)] = ""
    share: Share | None = None
    notes: str = ""


class ReferenceSubmission(Submission, frozen=True, kw_only=True):
    """What is normal from ``approved_at`` on, for one metric and segment: the anchor of every release.

    ``segment`` is ``all`` or ``name=value``. ``mean`` and ``variance`` are over ``n`` units. ``cells`` of
    ``all`` are the same units by slice: number, sum and sum of squares. ``plumbline reference export`` writes
    this form.
    """

    release: Name
    metric: Name
    n: Annotated[int, Meta(ge=1, le=2_147_483_647)]
    mean: Unit
    variance: Annotated[float, Meta(ge=0, le=0.5)]
    first_at: RequiredTime
    last_at: RequiredTime
    approved_at: RequiredTime
    segment: Annotated[str, Meta(min_length=1, max_length=129)] = "all"
    scorer_version: Name = "1"
    cells: Annotated[dict[str, Cell], Meta(max_length=1_000)] = {}


class FeedbackSubmission(Submission, frozen=True, kw_only=True):
    """A thumb, rating, ticket or outcome about the interaction whose own id was ``interaction_id``."""

    interaction_id: ClientId
    kind: Literal["thumb", "rating", "ticket", "outcome"]
    value: Unit
    id: ClientId | None = None
    event_time: Time | None = None
    comment: str = ""


class LabelSubmission(Submission, frozen=True, kw_only=True):
    """A reviewer's judgement of one metric of the interaction whose own id was ``interaction_id``."""

    interaction_id: ClientId
    metric: Name
    value: Unit
    rater: Annotated[str, Meta(min_length=1, max_length=128)]
    id: ClientId | None = None
    event_time: Time | None = None
    comment: str = ""


SUBMISSIONS: Final[dict[Kind, type[Submission]]] = {
    "interaction": InteractionSubmission,
    "release": ReleaseSubmission,
    "reference": ReferenceSubmission,
    "feedback": FeedbackSubmission,
    "label": LabelSubmission,
}

_DECODER = msgspec.json.Decoder()
_KNOWN = {kind: frozenset(shape.__struct_fields__) for kind, shape in SUBMISSIONS.items()}
# The text \u0000 is a NUL unless its backslash is itself escaped.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_BYTE = re.compile(r"\(byte (\d+)\)")
_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")
_SAFE_REASONS = (
    "Expected `",
    "Object missing required field `",
    "Invalid RFC3339",
    "Integer value",
    "Number out",
)


class RefusedError(ValueError):
    """A payload that the door does not admit.

    Parameters
    ----------
    status
        The HTTP status of the verdict: 400, 409, 413 or 422.
    code
        A stable word for programs and counters.
    message
        What, where and the remedy; holds nothing of what was sent.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def read_submission(payload: bytes, kind: Kind, *, max_bytes: int) -> tuple[Submission, dict[str, Any]]:
    r"""Return the submission held by `payload`, and the fields it has that `kind` does not name.

    Parameters
    ----------
    payload
        One JSON object in UTF-8.
    kind
        What it should be.
    max_bytes
        The largest payload that is read.

    Raises
    ------
    RefusedError
        If it is too large (413), not JSON (400), or not what `kind` asks for (422).

    Examples
    --------
    >>> line = b'{"deployment":"d","release":"r","prompt":"p","response":"","mood":1}'
    >>> read_submission(line, "interaction", max_bytes=1000)[1]
    {'mood': 1}
    >>> read_submission(b'{"deployment":"a b"}', "release", max_bytes=1000)
    Traceback (most recent call last):
        ...
    streams.door.submission.RefusedError: deployment: Expected `str` matching regex ...
    """
    if len(payload) > max_bytes:
        raise RefusedError(
            413,
            "record_too_large",
            f"the record is over {max_bytes} bytes; shorten its texts or send a part of them",
        )
    fields = _decode(payload)
    if b"\\u0000" in payload and _NUL.search(payload):
        raise RefusedError(422, "nul_character", "a text holds U+0000, which cannot be stored; remove it")
    try:
        submission = msgspec.convert(fields, SUBMISSIONS[kind])
    except msgspec.ValidationError as error:
        raise _explain(error) from None
    known = _KNOWN[kind]
    if len(fields) == len(known & fields.keys()):
        return submission, {}
    extra = {key: value for key, value in fields.items() if key not in known}
    _check_extra(extra)
    return submission, extra


def check_id(raw_id: str, field: str) -> None:
    """Refuse an id of more than 128 bytes, or one that cannot be stored.

    Raises
    ------
    RefusedError
        If it is empty, too long or holds a NUL; the text names `field`.
    """
    if not raw_id or len(raw_id.encode()) > MAX_ID_BYTES:
        raise RefusedError(422, "id_invalid", f"{field}: an id has 1 to {MAX_ID_BYTES} bytes of UTF-8")
    if "\0" in raw_id:
        raise RefusedError(422, "nul_character", f"{field}: holds U+0000, which cannot be stored; remove it")


def _decode(payload: bytes) -> dict[str, Any]:
    try:
        fields = _DECODER.decode(payload)
    except UnicodeDecodeError:
        raise RefusedError(400, "invalid_utf8", "the record is not UTF-8; encode it as UTF-8") from None
    except RecursionError:
        raise RefusedError(400, "nesting_too_deep", "the record is nested too deeply; flatten it") from None
    except msgspec.ValidationError:
        raise RefusedError(
            422, "number_out_of_range", "a number is beyond what can be stored; send it as text"
        ) from None
    except msgspec.DecodeError as error:
        raise _malformed(payload, str(error)) from None
    if isinstance(fields, dict):
        return fields
    if isinstance(fields, list):
        raise RefusedError(
            422, "array_refused", "an array is not accepted; send one object per line as application/x-ndjson"
        )
    raise RefusedError(422, "not_an_object", "a record is one JSON object; wrap the value in its fields")


def _malformed(payload: bytes, reason: str) -> RefusedError:
    found = _BYTE.search(reason)
    where = f"at byte {found[1]}" if found else "or is cut short"
    text = (
        f"the record is not valid JSON {where}; JSON has no NaN, Infinity, comments or raw control characters"
    )
    if _SURROGATE.search(payload):
        text += ", and an escaped surrogate must be one of a pair"
    return RefusedError(400, "malformed_json", text)


def _explain(error: msgspec.ValidationError) -> RefusedError:
    """Turn msgspec's text into ours; some of its texts quote the value, so only known ones pass."""
    text = str(error)
    place = _PLACE.search(text)
    where = place[1] if place and place[1] else "record"
    reason = text[: place.start()] if place else text
    if reason.startswith("Object missing required field `"):
        name = reason.split("`")[1]
        return RefusedError(422, "field_missing", f"{where}: the field {name} is required; add it")
    if not reason.startswith(_SAFE_REASONS):
        reason = "not one of the allowed values"
    return RefusedError(422, "field_invalid", f"{where}: {reason}; see /v1/openapi.json")


def _check_extra(extra: dict[str, Any]) -> None:
    """Bound what we keep without knowing it: depth first, so that the encoding below cannot run away."""
    _check_tree(extra, MAX_EXTRA_DEPTH)
    if len(msgspec.json.encode(extra)) > MAX_EXTRA_BYTES:
        raise RefusedError(
            422, "extra_too_large", f"unknown fields hold over {MAX_EXTRA_BYTES} bytes; use the named fields"
        )


def _check_tree(value: Any, depth: int) -> None:
    if isinstance(value, dict | list):
        if depth == 0:
            raise RefusedError(
                422, "extra_too_deep", f"an unknown field is nested deeper than {MAX_EXTRA_DEPTH}; flatten it"
            )
        if isinstance(value, dict):
            for key in value:
                check_key(key, "an unknown field")
        for child in value.values() if isinstance(value, dict) else value:
            _check_tree(child, depth - 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise RefusedError(
            422, "number_out_of_range", "an integer of an unknown field is beyond 64 bits; send it as text"
        )


def check_key(key: str, field: str) -> None:
    """Refuse a key of more than 128 characters; the text names `field`, never the key.

    Raises
    ------
    RefusedError
        If it is longer.
    """
    if len(key) > MAX_KEY_CHARS:
        raise RefusedError(
            422, "key_too_long", f"{field}: a key has over {MAX_KEY_CHARS} characters; shorten it"
        )
