"""Text as rules want to read it, with the way back to the text as it was."""

import re
import unicodedata

_TYPOGRAPHY = {
    **dict.fromkeys("‘’‚‛ʼ′´", "'"),
    **dict.fromkeys("“”„‟«»″", '"'),
    **dict.fromkeys("‐‑‒–—―−", "-"),
}
# Letters that look like a Latin one: the confusables of Unicode UTS #39 that are met in practice.
_LOOKALIKES = dict(zip("авеіјкмнорсѕтухԁɡοαερτυν", "abeijkmhopcstyxdgoaeptuv", strict=True))
_CYRILLIC_OR_GREEK = re.compile("[\u0370-\u03ff\u0400-\u04ff]")
_LATIN = re.compile("[a-z]")
_LEET = str.maketrans("0134578@$!|", "oieastbasil")
_LEET_SIGN = re.compile(r"[0134578@$!|]")
_LEET_WORD = re.compile(r"[a-z0134578@$!|]+")
_SPACED_WORD = re.compile(r"\b\w(?:[ .*_-]\w){3,}\b")
_SEPARATORS = re.compile(r"[ .*_-]")
_INVISIBLE = frozenset({"Mn", "Me", "Cf"})
_ASCII = frozenset(map(chr, range(128)))
_NOT_ASCII = re.compile("[^\x00-\x7f]")
_NOT_ASCII_RUN = re.compile("[^\x00-\x7f]+")


class _FoldTable(dict[int, str]):
    """Folds characters on first sight and remembers them; a table of all of Unicode would be waste."""

    def __missing__(self, code: int) -> str:
        folded = _fold_character(chr(code))
        # Bounded by the number of code points; each entry is one short string.
        self[code] = folded
        return folded


def _fold_character(character: str) -> str:
    if "\ud800" <= character <= "\udfff":
        return "\ufffd"
    if (known := _TYPOGRAPHY.get(character)) is not None:
        return known
    category = unicodedata.category(character)
    if category in _INVISIBLE:
        return ""
    if category == "Zs":
        return " "
    if "\uac00" <= character <= "\ud7a3":
        return character  # decomposing Hangul would split syllables into jamo
    plain = (c for c in unicodedata.normalize("NFKD", character) if unicodedata.category(c) != "Mn")
    return "".join(plain).casefold()


_TABLE = _FoldTable()


def fold(text: str) -> str:
    """Return `text` case-folded and NFKD-normalised, without marks and invisible characters, quotes straight.

    Cyrillic and Greek look-alikes become Latin, but only in words that mix scripts: Russian stays Russian.
    The result is well-formed Unicode whatever came in.

    Examples
    --------
    >>> fold("I can’t – Ｈá\u200bck")
    "i can't - hack"
    >>> fold("pаypаl"), fold("да")
    ('paypal', 'да')
    """
    if text.isascii():
        return text.lower()
    # Only the runs outside ASCII go through the table; bytes.lower() lowers A to Z and nothing else.
    folded = _NOT_ASCII_RUN.sub(_fold_run, text).encode().lower().decode()
    if _CYRILLIC_OR_GREEK.search(folded) and _LATIN.search(folded):
        folded = _fold_mixed(folded)
    return folded


def _fold_run(match: re.Match[str]) -> str:
    return match.group().translate(_TABLE)


def _fold_mixed(text: str) -> str:
    def unmask(match: re.Match[str]) -> str:
        word = match.group()
        return "".join(_LOOKALIKES.get(c, c) for c in word) if _LATIN.search(word) else word

    return re.sub(r"[^\W\d_]+", unmask, text)


def offsets(text: str) -> list[int] | None:
    r"""Return the place in `text` of every character of ``fold(text)``, plus the end; None if places agree.

    Examples
    --------
    >>> offsets("a\u200bb")
    [0, 2, 3]
    >>> offsets("plain") is None
    True
    """
    if text.isascii() or all(len(_TABLE[ord(character)]) == 1 for character in set(text) - _ASCII):
        return None
    places: list[int] = []
    start = 0
    for match in _NOT_ASCII.finditer(text):
        place = match.start()
        width = len(_TABLE[ord(match.group())])
        if width != 1:
            places.extend(range(start, place))
            places.extend([place] * width)
            start = place + 1
    places.extend(range(start, len(text) + 1))
    return places


def unmask(folded: str) -> str:
    """Return folded text with leet spelling read as letters and spaced-out letters joined.

    Only words that mix letters and look-alike digits or signs change; positions do not survive.

    Examples
    --------
    >>> unmask("h4ck the w i f i in 2024!")
    'hack the wifi in 2024!'
    """
    joined = _SPACED_WORD.sub(lambda match: _SEPARATORS.sub("", match.group()), folded)
    return _LEET_WORD.sub(_unmask_word, joined) if _LEET_SIGN.search(joined) else joined


def _unmask_word(match: re.Match[str]) -> str:
    word = match.group()
    inner = word.rstrip("!|")
    if inner.isalpha() or not _LATIN.search(inner):
        return word
    return inner.translate(_LEET) + word[len(inner) :]
