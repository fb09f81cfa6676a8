"""How much of the question is outside the words we know: the traffic on which the other scorers are blind."""

import gzip
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from detectors.features import Features
from detectors.records import Direction, Score, Span
from detectors.scorers import scorer

_ENDINGS: Final = ("'s", "s", "ed", "ing", "er", "ly", "d", "r", "es")


class Novel(NamedTuple):
    """How many words of two letters a prompt has, and those of them that are unknown."""

    words: int
    novel: list[str]

    @property
    def confidence(self) -> float:
        """From ten words on 1."""
        return round(min(1.0, self.words / 10), 4)


@scorer("novelty")
class Novelty:
    """The share of the prompt's words that the reference vocabulary does not know.

    The vocabulary is English (SCOWL, see ``vocabulary.LICENSE.txt``): other languages and scripts, slang and
    invented words are novel. Numbers and one-letter words are not counted. A stream of it watches how novel
    the traffic is on average; how much of it is a blind spot is a stream of ``blind_spot``.

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
        found = features.once(read_novelty)
        if not found.words:
            return None
        return Score(
            name=self.name,
            value=round(len(found.novel) / found.words, 6),
            direction=self.direction,
            confidence=found.confidence,
            spans=_spans(features, found.novel[:5]),
            version=self.version,
        )


def read_novelty(features: Features) -> Novel:
    """Return the words of the prompt that the vocabulary does not know; for ``features.once``."""
    words = [word for word in features.prompt.words if len(word) > 1 and not word[0].isdigit()]
    known = _vocabulary()
    return Novel(len(words), [word for word in words if word not in known and not _derived(word, known)])


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
