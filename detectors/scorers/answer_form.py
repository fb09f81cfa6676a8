"""The form of the answer: version changes show here long before they show in its topics."""

import math
import re
from typing import Final

from detectors.features import Features
from detectors.patterns import Pattern
from detectors.records import Direction, Score
from detectors.scorers import scorer

_LONGEST_CHARACTERS: Final = 20_000
_MARKDOWN_LINE = re.compile(r"(?m)^[ \t]{0,12}(?:#{1,6} |>|\||(?:-{3,}|\*{3,})[ \t]*$)|\*\*\S|__\S|`\S|\]\(")
_ANY_MARKDOWN = Pattern(_MARKDOWN_LINE.pattern)


@scorer("answer_length")
class AnswerLength:
    """The answer's length on a log scale: 0 for empty, 1 for 20,000 characters or more.

    Examples
    --------
    >>> AnswerLength().score(Features.of(prompt="", response="x" * 20_000)).value
    1.0
    """

    name = "answer_length"
    direction: Direction = "neutral"
    version = "1"

    def score(self, features: Features) -> Score | None:
        """Return ``log(1 + n) / log(1 + 20000)`` of the number n of characters, at most 1."""
        length = len(features.interaction.response)
        value = min(1.0, math.log1p(length) / math.log1p(_LONGEST_CHARACTERS))
        return _form(self.name, self.version, value)


@scorer("answer_lists")
class AnswerLists:
    r"""The share of lines that are bullets or numbered steps.

    Examples
    --------
    >>> answer = "Do this:\n1. Open it.\n2. Close it.\nDone."
    >>> AnswerLists().score(Features.of(prompt="", response=answer)).value
    0.5
    """

    name = "answer_lists"
    direction: Direction = "neutral"
    version = "1"

    def score(self, features: Features) -> Score | None:
        """Return the share; None if the answer is empty."""
        response = features.response
        lines = _lines(response.prose)
        return _form(self.name, self.version, min(1.0, response.list_items / lines)) if lines else None


@scorer("answer_code")
class AnswerCode:
    """The share of characters within fenced code."""

    name = "answer_code"
    direction: Direction = "neutral"
    version = "1"

    def score(self, features: Features) -> Score | None:
        """Return the share; None if the answer is empty."""
        response = features.response
        if not response.folded:
            return None
        code = sum(end - start for start, end in response.code_spans)
        return _form(self.name, self.version, code / len(response.folded))


@scorer("answer_markdown")
class AnswerMarkdown:
    r"""The share of lines with markdown other than lists: headings, quotes, tables, emphasis, links.

    Examples
    --------
    >>> AnswerMarkdown().score(Features.of(prompt="", response="# Title\n\nPlain text")).value
    0.5
    """

    name = "answer_markdown"
    direction: Direction = "neutral"
    version = "1"

    def score(self, features: Features) -> Score | None:
        """Return the share; None if the answer is empty."""
        lines = [line for line in features.response.prose.split("\n") if line.strip()]
        if not lines:
            return None
        marked = 0
        if _ANY_MARKDOWN.found_in(features.response.prose):  # far faster than asking every line
            marked = sum(_MARKDOWN_LINE.search(line) is not None for line in lines)
        return _form(self.name, self.version, marked / len(lines))


def _lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.split("\n"))


def _form(name: str, version: str, value: float) -> Score:
    return Score(name=name, value=round(value, 6), direction="neutral", version=version)
