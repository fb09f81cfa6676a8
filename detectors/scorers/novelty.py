"""How much of the question is outside the words we know: the traffic on which the other scorers are blind."""

import gzip
from functools import cache
from importlib.resources import files
from typing import Final

from detectors.features import Features
from detectors.records import Direction, Score, Span
from detectors.scorers import scorer

_ENDINGS: Final = ("'s", "s", "ed", "ing", "er", "ly", "d", "r", "es")


@scorer("novelty")
class Novelty:
    """The share of the prompt's words that the reference vocabulary does not know.

    The vocabulary is English (SCOWL, see ``vocabulary.LICENSE.txt``): other languages and scripts, slang and
    invented words are novel. Numbers and one-letter words are not counted.

    Examples
    --------
    >>> Novelty().score(Features.of(prompt="Where is my invoice?", response="")).value
    0.0
    >>> Novelty().score(Features.of(prompt="my blorfed snarkle", response="")).value > 0.6
    True
    """

    name = "novelty"
    direction: Direction = "neutral"
    version = "1"

    def score(self, features: Features) -> Score | None:
        """Return the share; None if the prompt has no word of two letters."""
        words = [word for word in features.prompt.words if len(word) > 1 and not word[0].isdigit()]
        if not words:
            return None
        known = _vocabulary()
        novel = [word for word in words if word not in known and not _derived(word, known)]
        return Score(
            name=self.name,
            value=round(len(novel) / len(words), 6),
            direction=self.direction,
            confidence=round(min(1.0, len(words) / 10), 4),
            spans=_spans(features, novel[:5]),
            version=self.version,
        )


def _derived(word: str, known: frozenset[str]) -> bool:
    """Whether the word is a known one with an ending, or a hyphenation of known ones."""
    if "-" in word:
        return all(part in known or len(part) < 2 for part in word.split("-"))
    return word.endswith(_ENDINGS) and any(
        word.endswith(ending) and word[: -len(ending)] in known for ending in _ENDINGS
    )


def _spans(features: Features, words: list[str]) -> tuple[Span, ...]:
    prompt = features.prompt
    spans: list[Span] = []
    for word in dict.fromkeys(words):
        start = prompt.folded.find(word)
        if start >= 0:
            spans.append(Span("prompt", *prompt.raw_span(start, start + len(word)), "unknown_word"))
    return tuple(spans)


@cache
def _vocabulary() -> frozenset[str]:
    folder = files("detectors.scorers")
    packed = folder.joinpath("vocabulary.txt.gz").read_bytes()
    # Words of the trade that are younger than the word list.
    recent = folder.joinpath("recent_words.txt").read_text(encoding="utf-8")
    return frozenset(gzip.decompress(packed).decode().split()).union(recent.split())
