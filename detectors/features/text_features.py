"""One text, read once: folded, cut into sentences and words, with the cues and the language of each."""

import re
from functools import cached_property
from typing import NamedTuple

from detectors.features import folding
from detectors.features.cues import cue_rules, families_of
from detectors.features.languages import UNKNOWN, Language, language_of_text, language_of_words

_FENCE = re.compile(r"```[^`]*(?:```|\Z)")
# It begins with one class of characters, and asks only then which it was, so that the search is fast.
_BREAK = re.compile(
    r"[.!?\n。！？;:](?:(?<=[.!?])(?=[\s\"')*_]|\Z)[\"')*_]*\s*|(?<=[\n。！？])\s*|(?<=[;:])(?=\s*\n)\s*)"
)
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_MARKUP = re.compile(r"^(?:_|[^\w\"'(\[$€£¥<])*(?:\(?\d{1,2}[.)]\s+)?(?:_|[^\w\"'(\[$€£¥<])*")
_LIST_ITEM = re.compile(r"(?m)^[ \t]{0,12}(?:[-*+\u2022]|\(?\d{1,2}[.)]|step \d{1,2}\b)[ \t:]")
_ITEM_NUMBER_CHARACTERS = 6  # before its full stop
_ITEM_NUMBER = re.compile(r"\W{0,4}\d{1,2}\. *")
_NOISE = re.compile(r"https?://\S+|\[[A-Za-z_]{2,20}\]|`[^`\n]*`|/(?<!\w/)\S+")
_NOISE_AND_ADDRESSES = re.compile(rf"{_NOISE.pattern}|\S*@\S+")
_LANGUAGE_CHARACTERS = 500
_TRAILING_MARKUP = " \t\r\n*_~#|"
_NO_FAMILY: frozenset[str] = frozenset()
_ABBREVIATIONS = (
    "e.g.",
    "i.e.",
    "mr.",
    "mrs.",
    "ms.",
    "dr.",
    "vs.",
    "z.b.",
    "p.ej.",
    "u.s.",
    "approx.",
    "no.",
)


class Sentence(NamedTuple):
    """A sentence outside code: its place in the folded text, its cues and their families."""

    start: int
    end: int
    text: str
    cues: tuple[str, ...]
    families: frozenset[str]

    def has(self, *families: str) -> bool:
        """Return whether a cue of one of `families` stands in the sentence."""
        return not self.families.isdisjoint(families)

    @property
    def words(self) -> int:
        """The number of words."""
        return self.text.count(" ") + 1


class TextFeatures:
    """What the scorers share about one text; each property is computed on first use and kept.

    Parameters
    ----------
    raw
        The text as it was stored.

    Examples
    --------
    >>> text = TextFeatures("I’m not sure. Please check the status page!")
    >>> [sentence.text for sentence in text.sentences]
    ["i'm not sure.", 'please check the status page!']
    >>> text.raw_span(0, 3), text.language.code
    ((0, 3), 'en')
    """

    def __init__(self, raw: str) -> None:
        self.raw = raw

    @cached_property
    def folded(self) -> str:
        """The text for rules: see :func:`detectors.features.folding.fold`."""
        return folding.fold(self.raw)

    @cached_property
    def unmasked(self) -> str:
        """The folded text with leet and spaced-out spelling undone; its positions are its own."""
        return folding.unmask(self.folded)

    @cached_property
    def code_spans(self) -> tuple[tuple[int, int], ...]:
        """Where fenced code blocks stand in the folded text."""
        if "```" not in self.folded:
            return ()
        return tuple(match.span() for match in _FENCE.finditer(self.folded))

    @cached_property
    def sentences(self) -> tuple[Sentence, ...]:
        """The sentences outside fenced code, in order; a line break ends one, list markers are left out."""
        rules = cue_rules()
        found: list[Sentence] = []
        for start, end, text in self.sentence_texts:
            cues = rules.found_in(text)
            found.append(Sentence(start, end, text, cues, families_of(cues) if cues else _NO_FAMILY))
        return tuple(found)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The folded words outside fenced code."""
        return tuple(words_of(self.prose))

    @cached_property
    def word_count(self) -> int:
        """The number of pieces between white space outside fenced code: roughly the words."""
        return len(self.prose.split())

    @cached_property
    def prose(self) -> str:
        """The folded text without fenced code."""
        return _FENCE.sub(" ", self.folded) if self.code_spans else self.folded

    @cached_property
    def list_items(self) -> int:
        """The number of bullets and numbered steps outside fenced code."""
        return len(_LIST_ITEM.findall(self.prose))

    @cached_property
    def families(self) -> frozenset[str]:
        """The families of all cues in the text."""
        return _NO_FAMILY.union(*(sentence.families for sentence in self.sentences))

    @cached_property
    def language(self) -> Language:
        """The language of the prose; code, addresses and placeholders are ignored."""
        sample = _without_noise(self.prose[:_LANGUAGE_CHARACTERS])
        by_words = language_of_words(self.words if sample is self.prose else words_of(sample))
        if by_words.confidence >= 0.8:
            return by_words
        prose = _without_noise(_FENCE.sub(" ", self.raw)[:_LANGUAGE_CHARACTERS])
        by_model = language_of_text(prose)
        if by_words is UNKNOWN or by_words.code == by_model.code:
            return max(by_words, by_model, key=lambda language: language.confidence)
        return Language(by_words.code, min(by_words.confidence, 0.7))

    def raw_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the place in the raw text of ``folded[start:end]``."""
        places = self._places
        if places is None:
            return start, end
        return places[start], places[end - 1] + 1 if end > start else places[start]

    @cached_property
    def _places(self) -> list[int] | None:
        return folding.offsets(self.raw)

    @cached_property
    def sentence_texts(self) -> tuple[tuple[int, int, str], ...]:
        """The places and texts of `sentences`, where their cues are not wanted."""
        found: list[tuple[int, int, str]] = []
        start = 0
        for code_start, code_end in (*self.code_spans, (len(self.folded), len(self.folded))):
            found.extend(_cut(self.folded, start, code_start))
            start = code_end
        return tuple(found)


def _without_noise(text: str) -> str:
    # Looking for noise at every character is slow, for an address most of all, and few texts have any.
    if "@" not in text and "/" not in text and "[" not in text and "`" not in text:
        return text
    return (_NOISE_AND_ADDRESSES if "@" in text else _NOISE).sub(" ", text)


def words_of(folded: str) -> list[str]:
    """Return the words of folded text; an apostrophe or hyphen within a word is part of it.

    Examples
    --------
    >>> words_of("don't re-open ticket 7!")
    ["don't", 're-open', 'ticket', '7']
    """
    return _WORD.findall(folded)


def _cut(text: str, start: int, stop: int) -> list[tuple[int, int, str]]:
    """Return (start, end, text) of the sentences in ``text[start:stop]``."""
    found: list[tuple[int, int, str]] = []
    for match in _BREAK.finditer(text, start, stop):
        at, end = match.span()
        if text[at] == ".":
            if text.endswith(_ABBREVIATIONS, start, at + 1):
                continue
            if (
                at - start <= _ITEM_NUMBER_CHARACTERS
                and end < stop
                and _ITEM_NUMBER.fullmatch(text, start, end)
            ):
                continue
        _append(found, text, start, end)
        start = end
    _append(found, text, start, stop)
    return found


def _append(found: list[tuple[int, int, str]], text: str, start: int, stop: int) -> None:
    begins = text[start : start + 1].isalpha()
    if not begins and (lead := _MARKUP.match(text[start:stop])) is not None:
        start += lead.end()
    piece = text[start:stop].rstrip(_TRAILING_MARKUP)
    if begins or any(map(str.isalnum, piece[:40])):
        found.append((start, start + len(piece), piece))
