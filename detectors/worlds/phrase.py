"""Text patterns with alternatives and slots, from which many different sentences are drawn."""

import re
from collections.abc import Mapping
from random import Random

_PIECE = re.compile(r"[\[\]|]|\{[a-z_]+\}|[^\[\]|{}]+")


class Phrase:
    """A pattern such as ``"[Thanks|Thank you] for order {order}."``.

    Square brackets hold alternatives of equal weight, may be nested and may hold an empty one. Braces name a
    slot that the caller fills.

    Parameters
    ----------
    pattern
        The text; see above.

    Raises
    ------
    ValueError
        If brackets or braces do not match.

    Examples
    --------
    >>> Phrase("[Hello|Hi], {who}!").draw(Random(1), {"who": "Ada"})
    'Hello, Ada!'
    """

    def __init__(self, pattern: str) -> None:
        pieces = _PIECE.findall(pattern)
        if "".join(pieces) != pattern:
            raise ValueError(f"braces do not match in {pattern!r}")
        self._parts, rest = _parse(pieces, 0, top=True)
        if rest != len(pieces):
            raise ValueError(f"brackets do not match in {pattern!r}")

    def draw(self, rng: Random, slots: Mapping[str, str]) -> str:
        """Return one text of the pattern; raises KeyError for a slot that `slots` does not hold."""
        out: list[str] = []
        _draw(self._parts, rng, slots, out)
        return "".join(out)


class _Slot(str):
    """The name of a slot."""

    __slots__ = ()


def _parse(pieces: list[str], at: int, *, top: bool) -> tuple[list[object], int]:
    """Read one sequence from ``pieces[at]``; at the top a bar is plain text, inside it ends the sequence."""
    parts: list[object] = []
    while at < len(pieces):
        piece = pieces[at]
        if piece == "[":
            choice, at = _parse_choice(pieces, at + 1)
            parts.append(choice)
            continue
        if piece == "]" or (piece == "|" and not top):
            return parts, at
        parts.append(_Slot(piece[1:-1]) if piece.startswith("{") else piece)
        at += 1
    return parts, at


def _parse_choice(pieces: list[str], at: int) -> tuple[list[list[object]], int]:
    options: list[list[object]] = []
    while True:
        option, at = _parse(pieces, at, top=False)
        options.append(option)
        if at >= len(pieces):
            raise ValueError("brackets do not match: a '[' is not closed")
        if pieces[at] == "]":
            return options, at + 1
        at += 1


def _draw(parts: list[object], rng: Random, slots: Mapping[str, str], out: list[str]) -> None:
    for part in parts:
        if isinstance(part, list):
            _draw(part[int(rng.random() * len(part))], rng, slots, out)
        elif isinstance(part, _Slot):
            out.append(slots[part])
        else:
            out.append(str(part))
