"""Facts: which questions nobody can answer, and which figures an answer states."""

import re
import tomllib
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files

from detectors.features import Features
from detectors.features.folding import fold
from detectors.features.text_features import Sentence
from detectors.patterns import Pattern, PatternSet

_FIGURE = re.compile(r"\d\d*(?:[.,]\d+)*")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_MONTH_OR_DAY = re.compile(
    r"\b(jan(?:uary)?|feb(?:ruary)?|march|april|june|july|august|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|"
    r"dec(?:ember)?|monday|tuesday|wednesday|thursday|friday|saturday|sunday|tomorrow|tonight|"
    r"next (?:week|month|quarter|year|release|version|update|sprint))\b"
)
_ANY_MONTH_OR_DAY = Pattern(_MONTH_OR_DAY.pattern)
_FOLLOW_UP_WORDS = 12


def unknowable(features: Features) -> bool:
    """Return whether the question asks for what nobody outside can know: plans, the future, private figures.

    A figure of a past year is published, and so knowable.
    """
    if not _rules()[0].found_in(features.prompt.folded):
        return _asked_before(features)
    return not _published(features)


def _published(features: Features) -> bool:
    """Whether the prompt asks about years that are over."""
    years = [int(year) for year in _YEAR.findall(features.prompt.folded)]
    now = datetime.fromtimestamp(features.interaction.event_time_ms / 1000, UTC).year
    return bool(years) and max(years) < now


def _asked_before(features: Features) -> bool:
    """Whether the prompt is a short follow-up to a question that nobody can answer."""
    if not features.interaction.history:
        return False
    first = features.prompt.sentence_texts[:1]
    if not first or first[0][2].count(" ") >= _FOLLOW_UP_WORDS:
        return False
    earlier = [turn.text for turn in features.interaction.history if turn.role == "user"][-2:]
    return any(_rules()[0].found_in(fold(text)) for text in earlier)


def announces(features: Features) -> bool:
    """Return whether the answer announces a release or states a company's results, with a figure."""
    if "figure" not in features.response.families:
        return False
    return not _published(features) and any(
        sentence.has("figure") and not sentence.has("hedge", "unsure") and _rules()[1].found_in(sentence.text)
        for sentence in features.response.sentences
    )


@cache
def _rules() -> tuple[PatternSet, PatternSet]:
    """Return the rules for questions and those for answers."""
    data = tomllib.loads(files("detectors.scorers").joinpath("facts.toml").read_text(encoding="utf-8"))
    return PatternSet(data["question"]), PatternSet(data["answer"])


def figures_of(text: str) -> tuple[str, ...]:
    """Return the numbers, months and days the folded `text` states, separators removed.

    Examples
    --------
    >>> figures_of("$4,200,000 on march 3rd")
    ('4200000', '3', 'march')
    """
    numbers = (number.replace(",", "").rstrip(".") for number in _FIGURE.findall(text))
    # One look of RE2 at the whole text is ten times as fast as findall, and most texts name no month.
    return (*numbers, *(_MONTH_OR_DAY.findall(text) if _ANY_MONTH_OR_DAY.found_in(text) else ()))


def contradicted(features: Features) -> list[Sentence] | None:
    """Return the sentences that state other figures than the reference answer; None if none do."""
    reference = features.interaction.annotations.reference_answer
    if not reference:
        return None
    wanted = set(figures_of(features.known.folded))
    if not wanted or wanted & set(figures_of(features.response.folded)):
        return None
    known = wanted | set(figures_of(features.prompt.folded))
    wrong = [
        sentence
        for sentence in features.response.sentences
        if not sentence.has("hedge", "unsure", "courtesy") and set(figures_of(sentence.text)) - known
    ]
    return wrong or None
