"""Replaces personal data and secrets by typed placeholders, and says where they stood."""

import re
import unicodedata
from functools import cache
from typing import Final

from detectors.patterns import Pattern, PatternSet
from detectors.records import Redaction
from detectors.redaction.kinds import ALL, KINDS

_INVISIBLE: Final = re.compile("[\u00ad\u200b\u200c\u200d\u2060\ufeff]")
_NOT_ASCII: Final = re.compile("[^\x00-\x7f]+")
_HYPHENS: Final = frozenset("‐‑‒–−")

Hit = tuple[int, int, str]


class Redactor:
    """Redacts e-mails, phones, cards, IBANs, US SSNs, IP addresses, keys, tokens and passwords.

    Every pattern runs in linear time; a candidate counts only if it proves itself (Luhn, mod 97, number
    plan). Redacting twice changes nothing.

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
        while hits := self._hits(text):
            text, found = _replace(text, found, hits)
        redactions = (Redaction(kind=kind, field=field, start=start, end=end) for start, end, kind in found)
        return text, tuple(redactions)

    def _hits(self, text: str) -> list[Hit]:
        """Return what is to be replaced in `text`, in order and without overlap."""
        if len(text) < 4:
            return []
        view, places = _view(text)
        hits: list[Hit] = []
        rules, patterns = _compiled()
        for rule in rules.found_in(view):
            kind = KINDS[int(rule)]
            if kind.name not in self.kinds:
                continue
            for start, end in patterns[int(rule)].spans(view, kind.group):
                if (span := kind.prove(view, start, end)) is not None:
                    hits.append((*span, kind.name))
        hits.sort(key=lambda hit: (hit[0], -hit[1]))
        return _mapped(_apart(hits), places)


@cache
def _compiled() -> tuple[PatternSet, tuple[Pattern, ...]]:
    expressions = [kind.expression for kind in KINDS]
    return PatternSet({str(n): e for n, e in enumerate(expressions)}), tuple(map(Pattern, expressions))


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
