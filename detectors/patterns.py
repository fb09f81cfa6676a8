"""Regular expressions in linear time: the one door to RE2.

Everything that is run on user text goes through here, so no text, however hostile, makes a rule slow.
Positions are characters of the text that was handed in.
"""

import re
from collections.abc import Iterator, Mapping

import re2

_MAX_MEMORY_BYTES = 256 * 1024 * 1024
# ".{0,40}" makes an automaton count characters: hundreds of states more, most of them new in every new text.
_LONG_GAP = re.compile(r"([.\]])\{\d+,\d{2,}\}")
_SURROGATE = re.compile("[\ud800-\udfff]")

Match = tuple[int, int]


def well_formed(text: str) -> str:
    r"""Return `text` with every lone surrogate replaced by U+FFFD, one to one; RE2 reads UTF-8 only.

    Examples
    --------
    >>> well_formed("a\ud800b") == "a\ufffdb"
    True
    """
    if text.isascii():
        return text
    return _SURROGATE.sub("\ufffd", text)


class Pattern:
    r"""One RE2 pattern (https://github.com/google/re2/wiki/Syntax), found in time linear in the text.

    Parameters
    ----------
    expression
        The pattern, in RE2's syntax: no lookaround, no backreference.

    Raises
    ------
    ValueError
        If the expression cannot be compiled.

    Examples
    --------
    >>> list(Pattern(r"\bno\w*").spans("no, nobody"))
    [(0, 2), (4, 10)]
    """

    __slots__ = ("_compiled", "expression")

    def __init__(self, expression: str) -> None:
        self.expression = expression
        try:
            self._compiled = re2.compile(expression, _options())
        except re2.error as error:
            raise ValueError(f"not an RE2 pattern: {expression!r}: {error}") from error

    def found_in(self, text: str) -> bool:
        """Return whether the well-formed `text` holds a match."""
        return self._compiled.search(text) is not None

    def first(self, text: str) -> Match | None:
        """Return the leftmost match in the well-formed `text` as (start, end), or None."""
        match = self._compiled.search(text)
        return None if match is None else (match.start(), match.end())

    def spans(self, text: str, group: int = 0) -> Iterator[Match]:
        """Yield (start, end) of `group` for each match in the well-formed `text`, left to right."""
        for match in self._compiled.finditer(text):
            start, end = match.span(group)
            if start >= 0:
                yield start, end


class PatternSet:
    """Many patterns in one pass: which of them occur, at a cost that does not grow with their number.

    Parameters
    ----------
    expressions
        Rule id to RE2 expression.

    Raises
    ------
    ValueError
        If an expression cannot be compiled.

    Examples
    --------
    >>> rules = PatternSet({"greeting": "hello|hi", "thanks": "thank(s| you)"})
    >>> rules.found_in("hello and thank you")
    ('greeting', 'thanks')
    >>> rules.first("thanks", "hello and thank you")
    (10, 19)
    """

    def __init__(self, expressions: Mapping[str, str]) -> None:
        self._patterns = {rule: Pattern(expression) for rule, expression in expressions.items()}
        self._rules = tuple(expressions)
        # The one pass leaves the length of long gaps open; what it finds of such rules is looked at again.
        loose = {rule: _LONG_GAP.sub(r"\1*", expression) for rule, expression in expressions.items()}
        # Each such rule has a set of its own: it answers yes or no at a fraction of a search's cost.
        self._exact = {rule: _set_of(e) for rule, e in expressions.items() if loose[rule] != e}
        self._set = _set_of(*loose.values())

    def found_in(self, text: str) -> tuple[str, ...]:
        """Return the ids of the rules found in the well-formed `text`, in the order they were given."""
        found = self._set.Match(text)
        if len(found) == 1:
            return ()
        if not found:
            return tuple(rule for rule, pattern in self._patterns.items() if pattern.found_in(text))
        found.sort()
        rules = [self._rules[number] for number in found[:-1]]
        if self._exact.keys().isdisjoint(rules):
            return tuple(rules)
        return tuple(rule for rule in rules if rule not in self._exact or self._found_exactly(rule, text))

    def _found_exactly(self, rule: str, text: str) -> bool:
        found = len(self._exact[rule].Match(text))
        return found == 2 if found else self._patterns[rule].found_in(text)

    def first(self, rule: str, text: str) -> Match | None:
        """Return where `rule` is found first in the well-formed `text`, or None."""
        return self._patterns[rule].first(text)

    def spans(self, rule: str, text: str) -> Iterator[Match]:
        """Yield every place where `rule` is found in the well-formed `text`."""
        return self._patterns[rule].spans(text)


def _set_of(*expressions: str) -> re2.Set:
    """Return the compiled set of `expressions`, and of one more that is always found.

    RE2 reports "out of memory" like "nothing found"; the last rule tells them apart.
    """
    made = re2.Set.SearchSet(_options())
    for expression in (*expressions, ""):
        made.Add(expression)
    made.Compile()
    return made


def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = _MAX_MEMORY_BYTES
    options.log_errors = False
    return options
