"""What one statement is, read from the engine's canonical form of it.

The canonical form is what ``formatQuerySingleLine`` returns: no comments, no heredocs, strings in single
quotes with backslash escapes, identifiers bare or in back-quotes. So a short scanner reads it for certain.
"""

import re
from collections.abc import Container
from typing import Final

from msgspec import Struct

READONLY: Final = 164
"""ClickHouse's code for what a read-only handle refuses."""

_TOKEN: Final = re.compile(
    r"'(?:[^'\\]|\\.)*'|`(?P<quoted>(?:[^`\\]|\\.)*)`|\"(?P<double>(?:[^\"\\]|\\.)*)\""
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<other>[^'`\"\\])",
    re.DOTALL,
)
_READS: Final = {"SELECT", "WITH", "SHOW", "EXISTS", "DESCRIBE"}
_OUTSIDE: Final = {
    # Reads any file of the machine; read-only handles allow it.
    "file",
    # Write or read files, or start another statement.
    "outfile", "infile", "parallel",
    # Runs text as a query, which no screen could see.
    "eval",
    # Names objects of this process, and is looked up before the handle refuses it.
    "python",
    # Ask a service on the network.
    "aiclassify", "aiembed", "aiextract", "aifilter", "aigenerate", "airedact", "aisimilarity", "aitranslate",
}  # fmt: skip


class Statement(Struct, frozen=True):
    """One canonical statement: its text, its words in order, those before a bracket, the format it names.

    ``form`` is empty where it names none; ``has_brackets`` says whether there is any round bracket.
    """

    text: str
    words: tuple[str, ...]
    calls: tuple[str, ...]
    form: str
    has_brackets: bool


def statement_of(canonical: str) -> Statement:
    """Return what `canonical` says.

    Raises
    ------
    ValueError
        If it holds something the canonical form never does.

    Examples
    --------
    >>> statement_of("SELECT `a b`, 'FORMAT x' FROM t FORMAT JSON SETTINGS max_threads = 1").form
    'JSON'
    """
    words: list[str] = []
    bare: list[bool] = []
    calls: list[str] = []
    has_brackets, at, before = False, 0, None
    while at < len(canonical):
        found = _TOKEN.match(canonical, at)
        if found is None:
            raise ValueError("not in canonical form")
        at = found.end()
        word = found["word"] or found["quoted"] or found["double"]
        if word is not None:
            words.append(word)
            bare.append(found["word"] is not None)
        if found["other"] == "(":
            has_brackets = True
            calls += [before] if before is not None else []
        before = word
    return Statement(canonical, tuple(words), tuple(calls), _form(words, bare), has_brackets)


def _form(words: list[str], bare: list[bool]) -> str:
    """Return the format of the trailing clause ``FORMAT name [SETTINGS ...]``."""
    for at in range(len(words) - 2, -1, -1):
        ends = at + 2 == len(words) or words[at + 2] == "SETTINGS"
        if words[at] == "FORMAT" and bare[at] and bare[at + 1] and ends:
            return words[at + 1]
    return ""


def refusal(statement: Statement, functions: Container[str] = ()) -> str:
    """Return why a reader may not run `statement`; empty if it may.

    `functions` are table functions, in lower case, that it may not call: the handle would refuse them too,
    but after it has looked at what they name.

    Examples
    --------
    >>> refusal(statement_of("SELECT 1"))
    ''
    >>> refusal(statement_of("SELECT file('/etc/passwd')"))
    "a reader may not use 'file'"
    """
    first = statement.words[0].upper() if statement.words else ""
    if first not in _READS:
        return f"a reader may {', '.join(sorted(_READS))}, and nothing else"
    if first == "DESCRIBE" and statement.has_brackets:
        return "a reader may describe tables only"  # the engine would open what a table function names
    if ":Identifier}" in statement.text:
        return "a reader may not use parameters of type Identifier"  # they could name any of the words below
    named = [word for word in statement.words if word.lower() in _OUTSIDE]
    called = [word for word in statement.calls if word.lower() in functions]
    outside = next(iter(named + called), "")
    return f"a reader may not use '{outside.lower()}'" if outside else ""
