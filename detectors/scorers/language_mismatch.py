"""Whether the answer is in the language the user asked in, or asked for, to its end."""

import tomllib
from functools import cache
from importlib.resources import files

from detectors.features import Features
from detectors.features.languages import Language, has_function_words, language_of_text, language_of_words
from detectors.features.text_features import Sentence, TextFeatures, words_of
from detectors.patterns import PatternSet
from detectors.records import Direction, Score
from detectors.scorers import scorer
from detectors.scorers.readings import span_of

_LEAST_CONFIDENCE = 0.6
_LEAST_SENTENCE_LETTERS = 20
_MODEL_SENTENCES = 3


@scorer("language_mismatch")
class LanguageMismatch:
    """The share of the answer that is in another language than the user asked in, or asked for.

    Translation and language-learning requests are exempt. Code, addresses and placeholders are ignored.

    Examples
    --------
    >>> asked = "¿Cómo puedo restablecer mi contraseña?"
    >>> answer = "You can reset it on the sign-in page."
    >>> LanguageMismatch().score(Features.of(prompt=asked, response=answer)).value
    1.0
    >>> LanguageMismatch().score(Features.of(prompt=asked + " Answer in English.", response=answer)).value
    0.0
    """

    name = "language_mismatch"
    direction: Direction = "lower"
    version = "1"

    def score(self, features: Features) -> Score | None:
        """Return the share; None for translations and where either language is not clear."""
        if is_about_language(features):
            return None
        wanted, sure = self._wanted(features)
        if not wanted:
            return None
        response = features.response
        foreign, own = _told_apart(response, wanted)
        letters, own_letters = (sum(len(sentence.text) for sentence in part) for part in (foreign, own))
        got = response.language
        if letters or own_letters:
            value = letters / (letters + own_letters)
        elif got.confidence >= _LEAST_CONFIDENCE:
            value = float(got.code not in wanted)
        else:
            return None
        return Score(
            name=self.name,
            value=round(value, 6),
            direction=self.direction,
            confidence=round(sure * max(got.confidence, 0.5), 4),
            label=got.code,
            spans=tuple(span_of(response, "response", s, "other_language") for s in foreign[:5]),
            version=self.version,
        )

    def _wanted(self, features: Features) -> tuple[frozenset[str], float]:
        """Return the languages that are right, and how sure we are; empty if that is not clear."""
        prompt = features.prompt
        asked = _rules()[0].found_in(prompt.folded)
        if asked:
            return frozenset(asked), 0.95
        language = prompt.language
        if language.confidence >= _LEAST_CONFIDENCE:
            return frozenset({language.code}), language.confidence
        earlier = " ".join(turn.text for turn in features.interaction.history[-6:] if turn.role == "user")
        if earlier:
            language = TextFeatures(f"{earlier}\n{prompt.raw}").language
            if language.confidence >= _LEAST_CONFIDENCE:
                return frozenset({language.code}), language.confidence
        return frozenset(), 0.0


def _told_apart(response: TextFeatures, wanted: frozenset[str]) -> tuple[list[Sentence], list[Sentence]]:
    """Return the sentences in another language and those in a wanted one; unclear ones are in neither."""
    foreign: list[Sentence] = []
    own: list[Sentence] = []
    codes, asked = tuple(wanted), 0
    whole = response.language
    for sentence in response.sentences:
        if len(sentence.text) < _LEAST_SENTENCE_LETTERS:
            continue
        words = sentence.text.split()
        if any(has_function_words(words, code) for code in codes):
            own.append(sentence)
            continue
        language = language_of_words(words_of(sentence.text))
        doubtful = whole.code not in wanted or not sentence.text.isascii()
        if not language.code and doubtful and asked < _MODEL_SENTENCES:
            raw = response.raw[slice(*response.raw_span(sentence.start, sentence.end))]
            language = _clear(language_of_text(raw))
            asked += 1
        elif not language.code and doubtful:
            language = whole
        if language.code:
            (own if language.code in wanted else foreign).append(sentence)
    return foreign, own


def is_about_language(features: Features) -> bool:
    """Return whether the prompt asks for a translation, or to learn a language."""
    return bool(_rules()[1].found_in(features.prompt.folded))


@cache
def _rules() -> tuple[PatternSet, PatternSet]:
    """Return the rules by asked language, and those of requests that are exempt."""
    source = files("detectors.scorers").joinpath("language_requests.toml")
    data = tomllib.loads(source.read_text(encoding="utf-8"))
    return PatternSet(data["asked"]), PatternSet(data["exempt"])


def _clear(language: Language) -> Language:
    return language if language.confidence >= 0.9 else Language("", 0.0)
