"""Slices of the traffic, evaluated once while scoring."""

import unicodedata
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from detectors.features import Features
from detectors.records import Interaction
from detectors.records.wording import is_plain

OTHER: Final = "other"
"""The value of everything that must not be shown, and of what is beyond a segment's `top`."""

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

    Values are written by clients and shown to people, so they are composed (NFKC), lower-cased, stripped and
    kept only if they are plain (:func:`detectors.records.wording.is_plain`): at most 64 letters and digits of
    any script, ``._:/+-`` and spaces. Every other value is ``other``.
    """
    found: dict[str, str] = {}
    for rule in rules:
        value = _folded(_value(interaction, features, rule.source))
        if value:
            found[rule.name] = value if is_plain(value) else OTHER
    return found


def _folded(value: str) -> str:
    """Return `value` such that what reads alike is alike; folding may undo composition, so compose twice."""
    folded = unicodedata.normalize("NFKC", value).casefold()
    return unicodedata.normalize("NFKC", folded).strip()


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
