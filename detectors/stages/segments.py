"""Slices of the traffic, evaluated once while scoring."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from detectors.features import Features
from detectors.records import Interaction

MAX_VALUE_CHARS: Final = 64
_FIELDS: Final = frozenset({"model", "prompt_version", "finish_reason"})


class SegmentRule(Struct, frozen=True):
    """Slice by `source`: a field (``model``), ``turn``, ``language``, or ``attributes.<key>``.

    The first `top` values seen at the close of a bucket are kept apart, the rest is ``other``.
    """

    name: str
    source: str
    top: int = 20


def segments_of(interaction: Interaction, features: Features, rules: Sequence[SegmentRule]) -> dict[str, str]:
    """Return the value of every segment that the interaction has one for.

    Values are lower-cased, stripped and cut at 64 characters.
    """
    found: dict[str, str] = {}
    for rule in rules:
        value = _value(interaction, features, rule.source).strip().casefold()[:MAX_VALUE_CHARS]
        if value:
            found[rule.name] = value
    return found


def check_source(source: str) -> None:
    """Raise ValueError unless `source` names something that an interaction has."""
    if source in _FIELDS or source in {"turn", "language"}:
        return
    if source.startswith("attributes.") and len(source) > len("attributes."):
        return
    known = ", ".join(sorted(_FIELDS | {"turn", "language", "attributes.<key>"}))
    raise ValueError(f"unknown segment source {source!r}; known: {known}")


def _value(interaction: Interaction, features: Features, source: str) -> str:
    if source.startswith("attributes."):
        return interaction.attributes.get(source.removeprefix("attributes."), "")
    if source == "turn":
        turns = sum(turn.role == "user" for turn in interaction.history)
        return str(turns + 1) if turns < 9 else "10+"
    if source == "language":
        return features.prompt.language.code
    return str(getattr(interaction, source))
