"""What one payload is judged with, and what every kind needs: times in range, and a digest of the content."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct

from detectors.records import Feedback, Interaction, Label, Reference, Release
from detectors.records.ids import content_digest
from streams.door.screen import TextRedactor
from streams.door.submission import RefusedError
from streams.inbox import Entry
from streams.settings import DoorSettings

# Without the clamp a time must still be one that every store can hold: 1970 to the end of 2199.
_LAST_MS: Final = 7_258_118_399_999
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Placeholders may be longer than what they replace, but a record must not grow without bound.
_REDACTION_ROOM_BYTES: Final = 65_536
_CANONICAL = msgspec.json.Encoder(order="deterministic")
NO_TIME: Final = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class AdmissionContext:
    """What one request's payloads are judged with.

    ``received_at_ms`` is stamped once for all of them. ``idempotency_key`` is the id of a single record
    that has none. The key of the hashes never shows in a repr.
    """

    settings: DoorSettings
    redactor: TextRedactor
    user_key: bytes = field(repr=False)
    received_at_ms: int
    idempotency_key: str | None = field(default=None, repr=False)


class Admission(Struct, frozen=True, kw_only=True):
    """An admitted payload: its entries, written together, and the ids to answer with.

    ``client_id`` is the redacted id of the client (or the one that was derived), ``interaction_id`` the
    stored id of the interaction it is or speaks of; empty for a release or reference.
    """

    entries: tuple[Entry, ...]
    client_id: str
    interaction_id: str = ""


def digest_of(draft: Interaction | Release | Reference | Feedback | Label, context: AdmissionContext) -> str:
    """Return the digest of the redacted record without arrival and ids: equal for every sending of it."""
    payload = _CANONICAL.encode(draft)
    if len(payload) > context.settings.max_record_bytes + _REDACTION_ROOM_BYTES:
        raise RefusedError(
            413, "record_too_large", "the record is too large once redacted; split it or shorten its texts"
        )
    return content_digest(payload)


def read_time_ms(
    sent: int | datetime | None, name: str, context: AdmissionContext, *, past: bool = True
) -> int:
    """Return a client's time in Unix milliseconds, or :data:`NO_TIME`; refuse what is out of range."""
    if sent is None:
        return NO_TIME
    at_ms = (sent - _EPOCH) // timedelta(milliseconds=1) if isinstance(sent, datetime) else sent
    first, last = 0, _LAST_MS
    if context.settings.clamp:
        last = context.received_at_ms + round(context.settings.max_future_s * 1000)
        if past:
            first = context.received_at_ms - round(context.settings.max_past_s * 1000)
    if first <= at_ms <= last:
        return at_ms
    raise RefusedError(
        422,
        f"{name}_out_of_range",
        f"{name}: outside the accepted times; check the clock, and that an integer is in milliseconds",
    )
