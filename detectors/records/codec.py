"""Bytes to records and back; the one place that knows which topic carries which record."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from detectors.records.decision import Action, Decision
from detectors.records.feedback import Feedback, Label
from detectors.records.interaction import Interaction
from detectors.records.reference import Reference
from detectors.records.release import Release
from detectors.records.scorecard import Scorecard
from detectors.records.signal import Signal
from detectors.records.tick import Tick

Record = Interaction | Release | Scorecard | Signal | Decision | Action | Feedback | Label | Reference | Tick

TOPICS: Final[Mapping[str, tuple[type[Record], ...]]] = {
    "interactions": (Interaction, Release, Reference, Tick),
    "scorecards": (Scorecard, Release, Reference, Tick, Feedback),
    "feedback": (Feedback,),
    "labels": (Label,),
    "releases": (Release,),
    "references": (Reference,),
    "signals": (Signal, Release),
    "decisions": (Decision, Signal, Release),
    "actions": (Action,),
}
"""Which records travel on a topic; control records (releases,
references, ticks) travel beside the data they govern."""

TYPES: Final[Mapping[str, type[Record]]] = {
    kind.__name__: kind
    for kind in (Interaction, Release, Scorecard, Signal, Decision, Action, Feedback, Label, Reference, Tick)
}
_ENCODER = msgspec.json.Encoder()
_DECODERS = {name: msgspec.json.Decoder(kind) for name, kind in TYPES.items()}


class CodecError(ValueError):
    """Bytes that are not the record they claim to be; the text says where and why."""


def encode(record: Record) -> bytes:
    """Return `record` as compact JSON; equal records give equal bytes."""
    return _ENCODER.encode(record)


def decode(kind: str, payload: bytes) -> Record:
    """Return the record of type name `kind` held by `payload`.

    Raises
    ------
    CodecError
        If `kind` is unknown or the payload does not fit it.

    Examples
    --------
    >>> decode("Tick", b'{"source_partition":0,"watermark_ms":7}')
    Tick(source_partition=0, watermark_ms=7)
    """
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise CodecError(f"unknown record type {kind!r}; known: {', '.join(sorted(_DECODERS))}")
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CodecError(f"not a {kind}: {error}") from error


def json_schemas() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of every record, by name, with shared definitions."""
    names = sorted(TYPES)
    schemas, definitions = msgspec.json.schema_components([TYPES[name] for name in names])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "records": dict(zip(names, schemas, strict=True)),
        "$defs": definitions,
    }
