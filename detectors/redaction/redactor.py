"""Replaces personal data and secrets by typed placeholders, and says where they stood."""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from functools import cache
from itertools import count
from operator import itemgetter
from typing import Final

from detectors.patterns import Pattern, PatternSet
from detectors.records import Redaction
from detectors.redaction.kinds import ALL, KINDS

_INVISIBLE: Final = re.compile("[\u00ad\u200b\u200c\u200d\u2060\ufeff]")
_NOT_ASCII: Final = re.compile("[^\x00-\x7f]+")
# What a replacement can uncover: the rest of a word, or of figures with single spaces between them.
_RUN: Final = re.compile(r"[\d(+./)-][^\s\[\]]*(?: {1,2}[\d(+./)-][^\s\[\]]*)*|[^\s\[\]]+")
_LONG_RUN_CHARACTERS: Final = 64
_LAST_TURN: Final = 12
_HYPHENS: Final = frozenset("‐‑‒–−")

_start_of, _end_of = itemgetter(0), itemgetter(1)

Hit = tuple[int, int, str]


class Redactor:
    """Redacts e-mails, phones, cards, IBANs, US SSNs, IP addresses, keys, tokens and passwords.

    Every pattern runs in linear time; a candidate counts only if it proves itself (Luhn, mod 97, number
    plan). Redacting twice changes nothing. The text is read again until nothing is found, 13 times at most:
    a text in which every replacement uncovers another is made to slow us down, and is replaced whole.

    Parameters
    ----------
    kinds
        Which kinds to redact, of `detectors.redaction.ALL`.

    Raises
    ------
    ValueError
        For a kind that is not known.

    Examples
    --------
    >>> Redactor().redact("Mail ada@example.org or call +1 (415) 555-0132.", "prompt")[0]
    'Mail [EMAIL] or call [PHONE].'
    """

    def __init__(self, *, kinds: tuple[str, ...] = ALL) -> None:
        unknown = sorted(set(kinds) - set(ALL))
        if unknown:
            raise ValueError(f"unknown kinds {', '.join(unknown)}; known: {', '.join(ALL)}")
        self.kinds = tuple(kinds)
        self._rules = _rules(frozenset(kinds))

    def redact(self, text: str, field: str) -> tuple[str, tuple[Redaction, ...]]:
        """Return `text` with placeholders, and one record per placeholder, in order.

        Parameters
        ----------
        text
            Any text.
        field
            The name of the interaction's field it comes from; stands in the records.
        """
        found: list[Hit] = []
        for turn in count():
            hits = self._hits(text)
            if not hits:
                break
            if turn >= _LAST_TURN:
                hits = [(0, len(text), hits[0][2])]
            elif turn:
                hits = _widened(text, hits)
            text, found = _replace(text, found, hits)
        redactions = (Redaction(kind=kind, field=field, start=start, end=end) for start, end, kind in found)
        return text, tuple(redactions)

    def _hits(self, text: str) -> list[Hit]:
        """Return what is to be replaced in `text`, in order and without overlap."""
        if len(text) < 4:
            return []
        view, places = _view(text)
        hits: list[Hit] = []
        patterns = _patterns()
        for rule in self._rules.found_in(view):
            kind = KINDS[int(rule)]
            for start, end in patterns[int(rule)].spans(view, kind.group):
                if (span := kind.prove(view, start, end)) is not None:
                    hits.append((*span, kind.name))
        hits.sort(key=lambda hit: (hit[0], -hit[1]))
        return _mapped(_apart(hits), places)


@cache
def _rules(kinds: frozenset[str]) -> PatternSet:
    return PatternSet({str(n): kind.expression for n, kind in enumerate(KINDS) if kind.name in kinds})


@cache
def _patterns() -> tuple[Pattern, ...]:
    return tuple(Pattern(kind.expression) for kind in KINDS)


def _view(text: str) -> tuple[str, list[int] | None]:
    """Return `text` as patterns read it (narrowed, invisible removed), and its places in `text`."""
    if text.isascii():
        return text, None
    view = _NOT_ASCII.sub(lambda match: match.group().translate(_PLAIN), text)
    if len(view) == len(text):  # characters are only replaced one to one, or removed
        return view, None
    places: list[int] = []
    start = 0
    for match in _INVISIBLE.finditer(text):
        places.extend(range(start, match.start()))
        start = match.end()
    places.extend(range(start, len(text) + 1))
    return view, places


class _PlainTable(dict[int, str]):
    """Narrows characters on first sight and remembers them: bounded by the number of code points."""

    def __missing__(self, code: int) -> str:
        plain = _plain(chr(code))
        self[code] = plain
        return plain


_PLAIN: Final = _PlainTable()


def _plain(character: str) -> str:
    if _INVISIBLE.match(character):
        return ""
    if "\ud800" <= character <= "\udfff":
        return "\ufffd"
    if character in _HYPHENS:
        return "-"
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    if unicodedata.category(character) == "Zs":
        return " "
    folded = unicodedata.normalize("NFKC", character)
    return folded if len(folded) == 1 else character


def _apart(hits: list[Hit]) -> list[Hit]:
    kept: list[Hit] = []
    for hit in hits:
        if not kept or hit[0] >= kept[-1][1]:
            kept.append(hit)
    return kept


def _widened(text: str, hits: list[Hit]) -> list[Hit]:
    """Return `hits` with every long run that one touches taken whole.

    In such a run each replacement shifts what is read after it and can uncover the next candidate, one per
    turn; nobody writes that, and taking it whole keeps the number of turns from growing with the text.
    """
    runs = [run.span() for run in _RUN.finditer(text) if run.end() - run.start() > _LONG_RUN_CHARACTERS]
    wide: list[Hit] = []
    for start, end, kind in hits:
        touched = runs[bisect_right(runs, start, key=_end_of) : bisect_left(runs, end, key=_start_of)]
        wide.append(
            (min(start, touched[0][0]), max(end, touched[-1][1]), kind) if touched else (start, end, kind)
        )
    return _apart(wide)


def _mapped(hits: list[Hit], places: list[int] | None) -> list[Hit]:
    if places is None:
        return hits
    return [(places[start], places[end - 1] + 1, kind) for start, end, kind in hits]


def _replace(text: str, found: list[Hit], hits: list[Hit]) -> tuple[str, list[Hit]]:
    """Return `text` with `hits` replaced, and its placeholders: those of `found`, shifted, and new ones."""
    pieces: list[str] = []
    placed: list[Hit] = []
    earlier = iter([*found, (len(text) + 1, len(text) + 1, "")])
    old = next(earlier)
    at = length = 0
    for start, end, kind in hits:
        while old[1] <= start:
            placed.append((old[0] - at + length, old[1] - at + length, old[2]))
            old = next(earlier)
        while old[0] < end:  # a longer hit swallows an earlier placeholder
            old = next(earlier)
        placeholder = f"[{kind}]"
        pieces += (text[at:start], placeholder)
        length += start - at
        placed.append((length, length + len(placeholder), kind))
        length += len(placeholder)
        at = end
    while old[2]:
        placed.append((old[0] - at + length, old[1] - at + length, old[2]))
        old = next(earlier)
    pieces.append(text[at:])
    return "".join(pieces), placed
