"""The texts of the support assistant, one language a TOML file, read once into phrases."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import msgspec
from msgspec import Struct

from detectors.worlds.phrase import Phrase

LANGUAGES = ("en", "es", "fr", "de")


def _phrase(kind: type, value: Any) -> Phrase:
    if kind is not Phrase or not isinstance(value, str):
        raise NotImplementedError(f"a phrase is written as a string, not as {value!r}")
    return Phrase(value)


class Common(Struct, frozen=True, forbid_unknown_fields=True):
    """What does not depend on the subject: greetings, openers, closing lines."""

    greeting: tuple[Phrase, ...]
    context: tuple[Phrase, ...]
    thanks: tuple[Phrase, ...]
    opener: tuple[Phrase, ...]
    lead: tuple[Phrase, ...]
    extra: tuple[Phrase, ...]
    closer: tuple[Phrase, ...]


class Intent(Struct, frozen=True, forbid_unknown_fields=True):
    """One subject that users ask about; `weight` is its frequency, `topic` names it in a sentence."""

    weight: int
    topic: str
    ask: tuple[Phrase, ...]
    follow: tuple[Phrase, ...]
    core: tuple[Phrase, ...]
    steps: tuple[Phrase, ...]
    tips: tuple[Phrase, ...]


class Refusal(Struct, frozen=True, forbid_unknown_fields=True):
    """How a refusal is worded: directly, or as a moralising deflection."""

    direct: tuple[Phrase, ...]
    reason: tuple[Phrase, ...]
    alternative: tuple[Phrase, ...]
    deflection: tuple[Phrase, ...]


class Unsafe(Struct, frozen=True, forbid_unknown_fields=True):
    """Requests that must be refused, and the refusals they get."""

    ask: tuple[Phrase, ...]
    refuse: tuple[Phrase, ...]
    redirect: tuple[Phrase, ...]


class Unknown(Struct, frozen=True, forbid_unknown_fields=True):
    """Questions for unpublished facts; ``invented[i]`` is the made-up answer to ``ask[i]``."""

    ask: tuple[Phrase, ...]
    follow: tuple[Phrase, ...]
    hedge: tuple[Phrase, ...]
    hedge_detail: tuple[Phrase, ...]
    invented: tuple[Phrase, ...]
    invented_detail: tuple[Phrase, ...]


class Texts(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything in one language."""

    slots: Mapping[str, tuple[str, ...]]
    common: Common
    intent: Mapping[str, Intent]
    refusal: Refusal
    unsafe: Unsafe
    unknown: Unknown

    def fill(self, draws: Mapping[str, int]) -> dict[str, str]:
        """Return the slots' texts for the numbers in `draws`: the same facts in every language."""
        filled = {name: values[draws[name] % len(values)] for name, values in self.slots.items()}
        feature = filled["feature"]
        filled["feature_cap"] = feature[:1].upper() + feature[1:]
        filled["order"] = f"C-{10_000 + draws['order'] % 90_000}"
        filled["invoice"] = f"INV-{1_000 + draws['invoice'] % 9_000}"
        filled["date"] = str(2 + draws["date"] % 27)
        filled["count"] = str(112 + draws["count"] % 880)
        filled["millions"] = str(11 + draws["millions"] % 83)
        filled["percent"] = str(3 + draws["percent"] % 17)
        return filled


NUMBER_SLOTS = ("order", "invoice", "date", "count", "millions", "percent")


@cache
def load_texts(language: str) -> Texts:
    """Return the texts in `language`, one of :data:`LANGUAGES`.

    Examples
    --------
    >>> sorted(load_texts("de").intent) == sorted(load_texts("en").intent)
    True
    """
    source = resources.files("detectors.worlds").joinpath(f"support_{language}.toml")
    table = tomllib.loads(source.read_text(encoding="utf-8"))
    return msgspec.convert(table, Texts, dec_hook=_phrase)
