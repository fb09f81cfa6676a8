"""Numbers that prove themselves: check digits, number plans, and the words before them."""

import re

Span = tuple[int, int]

_DIGIT_GROUP = re.compile(r"\d+")
_PHONE_WORD = re.compile(
    r"(?i)(?:phone|tel|call|mobile|cell|fax|whatsapp|sms|text|dial|reach|ring|contact|telefon\w*|telefono|llam\w+|"
    r"handy|rufen?|appel\w+|numero|portable|hotline|nummer)\W{0,3}(?:number|no|nr|n|me|us|at|on|is|al|au|unter|"
    r"de|ist|es|est|:|\W){0,6}$"
)
_REFERENCE_WORD = re.compile(
    r"(?i)(?:order|invoice|ticket|case|ref\w*|tracking|id|isbn|version|sku|item|account|serial|part|model|booking|"
    r"confirmation|transaction|build|number)\W{0,3}(?:number|no|nr|is|\W){0,4}$"
)
_NORTH_AMERICAN = re.compile(r"(?:\+?1[ .-]{0,2})?(?:\(\d{3}\)[ .-]?|\d{3}[ .-])\d{3}[ .-]\d{4}")
_DATE = re.compile(r"\d{4}[-./ ]\d{1,2}[-./ ]\d{1,2}(?:\D|$)|\d{1,2}[-./]\d{1,2}[-./]\d{4}(?:\D|$)")
_BEFORE_CHARACTERS = 28
_MOST_CARD_GROUPS = 9
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18,
    "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24,
    "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24,
    "XK": 20,
}  # fmt: skip


def luhn_holds(digits: str) -> bool:
    """Return whether the last of `digits` is the Luhn check digit (ISO/IEC 7812-1) of the others.

    Examples
    --------
    >>> luhn_holds("4111111111111111"), luhn_holds("4111111111111112")
    (True, False)
    """
    total = 0
    for place, digit in enumerate(map(int, reversed(digits))):
        doubled = digit * (1 + place % 2)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def iban_holds(compact: str) -> bool:
    """Return whether `compact` (no spaces) is an IBAN: its country's length, and ISO 7064 mod 97-10.

    Examples
    --------
    >>> iban_holds("DE89370400440532013000"), iban_holds("DE89370400440532013001")
    (True, False)
    """
    compact = compact.upper()
    if _IBAN_LENGTHS.get(compact[:2]) != len(compact):
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def find_card(text: str, start: int, end: int) -> Span | None:
    """Return the payment card number within a run of digits: 12-19 of them that pass Luhn, or None."""
    if _glued(text, start, end):
        return None
    stops = [match.end() for match in _DIGIT_GROUP.finditer(text, start, end)]
    starts = [match.start() for match in _DIGIT_GROUP.finditer(text, start, end)]
    for first in starts[:8]:
        for stop in reversed(stops):
            digits = _digits(text, first, stop)
            if (
                13 <= len(digits) <= 19
                and digits[0] in "3456"
                and luhn_holds(digits)
                and len(set(digits)) > 1
            ):
                return first, stop
    return None


def find_iban(text: str, start: int, end: int) -> Span | None:
    """Return the IBAN that begins the candidate, or None."""
    length = _IBAN_LENGTHS.get(text[start : start + 2].upper())
    if length is None:
        return None
    seen = 0
    for place in range(start, end):
        seen += text[place].isalnum()
        if seen == length:
            compact = text[start : place + 1].replace(" ", "").replace("-", "")
            following = text[place + 1 : place + 2]
            return (start, place + 1) if iban_holds(compact) and not following.isalnum() else None
    return None


def find_ssn(text: str, start: int, end: int) -> Span | None:
    """Return the US social security number of the candidate if its number is one that is issued."""
    if _glued(text, start, end):
        return None
    while start < end and not text[start].isdigit():
        start += 1
    digits = _digits(text, start, end)
    issued = (
        digits[:3] not in {"000", "666"} and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"
    )
    return (start, end) if issued and len(digits) == 9 else None


def find_phone(text: str, start: int, end: int) -> Span | None:
    """Return the phone number of the candidate, or None.

    Proof is a plus sign or 00 with 8-15 digits, the North American form with its separators, or a word that
    announces a number. Dates, and numbers announced as something else, are not phones.
    """
    while start < end and (
        text[start] in "./)- " or (text[start] == "(" and ")" not in text[start : start + 7])
    ):
        start += 1
    if text.startswith("((", start):
        start += 1
    if _glued(text, start, end) or _DATE.match(text, start, min(end + 1, len(text))):
        return None
    candidate = text[start:end]
    digits = _digits(text, start, end)
    before = text[max(0, start - _BEFORE_CHARACTERS) : start]
    if candidate.startswith(("+", "(+", "00")) and 8 <= len(digits) <= 17:
        return start, end
    if (match := _NORTH_AMERICAN.match(text, start, end)) is not None and not _REFERENCE_WORD.search(before):
        first = _digits(text, *match.span())[-10:]
        if first[0] not in "01" and first[3] not in "01" and not _glued(text, start, match.end()):
            return match.span()
    if 7 <= len(digits) <= 15 and _PHONE_WORD.search(before):
        return start, end
    return None


def _digits(text: str, start: int, end: int) -> str:
    return "".join(c for c in text[start:end] if c.isdigit())


def _glued(text: str, start: int, end: int) -> bool:
    """Whether the candidate is only the middle of a longer word or number."""
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    if before.isalnum() or before in {"_", "#", "$", "€", "£"} or after.isalnum() or after == "_":
        return True
    decimal_before = before in {".", ","} and text[max(0, start - 2) : start - 1].isdigit()
    return decimal_before or (after in {".", ","} and text[end + 1 : end + 2].isdigit())
