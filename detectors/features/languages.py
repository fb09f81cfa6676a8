"""Which language a text is in: function words and scripts first, a model where they are silent."""

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import repeat
from typing import NamedTuple

from py3langid.langid import LanguageIdentifier

_SAMPLE_CHARACTERS = 300
_MODEL_CHARACTERS = 16
_HITS_BYTES = 4
_SCRIPTS = {
    "ko": re.compile("[\uac00-\ud7a3]"),
    "ja": re.compile("[\u3040-\u30ff]"),
    "zh": re.compile("[\u4e00-\u9fff]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
    "el": re.compile("[\u0370-\u03ff]"),
    "he": re.compile("[\u0590-\u05ff]"),
}
_UNSPACED = frozenset({"ko", "ja", "zh", "th"})


class Language(NamedTuple):
    """A language (ISO 639-1, empty if unknown) and how sure we are, in [0, 1]."""

    code: str
    confidence: float


UNKNOWN = Language("", 0.0)
_NO_WORDS: frozenset[str] = frozenset()


def language_of_words(words: Sequence[str]) -> Language:
    """Return the language whose function words the folded `words` hold, or `UNKNOWN` if they do not decide.

    Knows English, Spanish, French, German, Italian, Portuguese and Dutch.

    Examples
    --------
    >>> language_of_words("the invoice is in your account".split()).code
    'en'
    >>> language_of_words("la factura esta en su cuenta y no se puede".split()).code
    'es'
    >>> language_of_words(["ok"])
    Language(code='', confidence=0.0)
    """
    languages, table = _packed_words()
    packed = sum(map(table.get, words, repeat(0)))
    if not packed:
        return UNKNOWN
    hits = memoryview(packed.to_bytes(_HITS_BYTES * len(languages), "little")).cast("I").tolist()
    second, count = sorted(hits)[-2:]
    if count < 2 or count < 0.15 * len(words) or count < 1.4 * second:
        return UNKNOWN
    margin = (count - second) / count
    return Language(
        languages[hits.index(count)], round(min(0.99, 0.6 + 0.1 * margin + 0.06 * min(count, 5)), 4)
    )


def language_of_text(text: str) -> Language:
    """Return the language of raw `text` by script, else by py3langid's model on its first 300 characters.

    Fewer than 16 letters of an alphabet many languages share give `UNKNOWN`.

    Examples
    --------
    >>> language_of_text("Пожалуйста, проверьте страницу состояния").code
    'ru'
    >>> language_of_text("請查看狀態頁面").code
    'zh'
    """
    sample = text[:_SAMPLE_CHARACTERS]
    letters = sum(map(str.isalpha, sample))
    if not letters:
        return UNKNOWN
    for code, script in () if sample.isascii() else _SCRIPTS.items():
        found = len(script.findall(sample))
        if found * (3 if code in _UNSPACED else 2) > letters and found >= 2:
            return Language(code, 0.95)
    if letters < _MODEL_CHARACTERS:
        return UNKNOWN
    code, confidence = _identifier().classify(sample)
    return Language(code, round(float(confidence), 4))


def has_function_words(words: Sequence[str], language: str) -> bool:
    """Return whether at least two, and one in eight, of the folded `words` are function words of `language`.

    Only function words that no other known language shares count.

    Examples
    --------
    >>> has_function_words("the invoice is in your account".split(), "en")
    True
    """
    found = len(_own_words().get(language, _NO_WORDS).intersection(words))
    return found >= 2 and found * 8 >= len(words)


@cache
def _packed_words() -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the languages, and per function word a number: the sum over words counts all languages at once.

    Each language has 32 bits of its own, so that a count cannot reach its neighbour's.
    """
    table = _function_words()
    languages = tuple(sorted({language for shared in table.values() for language in shared}))
    ones = {language: 1 << (8 * _HITS_BYTES * n) for n, language in enumerate(languages)}
    return languages, {word: sum(ones[language] for language in shared) for word, shared in table.items()}


@cache
def _own_words() -> dict[str, frozenset[str]]:
    own: dict[str, set[str]] = {}
    for word, languages in _function_words().items():
        if len(languages) == 1:
            own.setdefault(languages[0], set()).add(word)
    return {language: frozenset(words) for language, words in own.items()}


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(_model_file(), norm_probs=True)


def _model_file() -> str:
    from py3langid.langid import MODEL_FILE  # noqa: PLC0415  (its name is py3langid's, and may change)

    return str(MODEL_FILE)


@cache
def _function_words() -> dict[str, tuple[str, ...]]:
    lists = tomllib.loads(
        files("detectors.features").joinpath("function_words.toml").read_text(encoding="utf-8")
    )
    table: dict[str, tuple[str, ...]] = {}
    for language, words in lists.items():
        for word in words.split():
            table[word] = (*table.get(word, ()), language)
    return table
