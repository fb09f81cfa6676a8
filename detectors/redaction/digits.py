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
_EXTENSION = r"(?: ?(?:x|ext\.?) ?\d{1,6})?"
_NORTH_AMERICAN = re.compile(
    r"(?:\+?1[ .-]{0,2})?(?:\(\d{3}\)[ .-]?\d{3}[ .-]|\d{3}([.-])\d{3}\1|[2-9]\d{2} [2-9]\d{2}[ -])\d{4}"
    + _EXTENSION
)
# A trunk prefix 0 and groups, or an area code in parentheses: how most other countries write a number.
_NATIONAL = re.compile(
    r"(?:0\d{1,4}[ /-](?=(?:[ -]?\d){6,9}(?!\d))|\(\d{2,5}\)[ -]?(?=(?:[ -]?\d){5,9}(?!\d)))"
    r"\d{2,}(?:[ -]?\d{2,8}){0,4}" + _EXTENSION
)
_DATE = re.compile(r"\d{4}[-./ ]\d{1,2}[-./ ]\d{1,2}(?:\D|$)|\d{1,2}[-./]\d{1,2}[-./]\d{4}(?:\D|$)")
_BEFORE_CHARACTERS = 28
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")  # each digit doubled, and the digits of that added
_CARD_START = re.compile(r"[3-6]|2[ -]?[2-7]|1800|2131")
_LATER_CARD_START = re.compile(r"(?<!\d)(?:[3-6]\d|2[2-7]|1800|2131)")  # of a group of two digits or more
# ISO 13616: the length of an IBAN, and the countries that have it.
_IBAN_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL",
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU",
    31: "MT SC",
    32: "LC",
}
_IBAN_LENGTHS = {country: length for length, names in _IBAN_COUNTRIES.items() for country in names.split()}


def luhn_holds(digits: str) -> bool:
    """Return whether the last of `digits` is the Luhn check digit (ISO/IEC 7812-1) of the others.

    Examples
    --------
    >>> luhn_holds("4111111111111111"), luhn_holds("4111111111111112")
    (True, False)
    """
    codes = digits.encode()
    total = sum(codes[::-2]) + sum(codes[-2::-2].translate(_DOUBLED))
    return (total - ord("0") * len(codes)) % 10 == 0


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
    """Return the payment card number within a run of digits: 13-19 of them that pass Luhn, or None."""
    if _glued(text, start, end):
        return None
    if _CARD_START.match(text, start) and (found := _card_from(text, start, end)):
        return found
    for match in _LATER_CARD_START.finditer(text, start + 1, end):
        if found := _card_from(text, match.start(), end):
            return found
    return None


def _card_from(text: str, start: int, end: int) -> Span | None:
    """Return the longest card number that begins at `start` and ends with a group of digits."""
    digits, found = "", None
    for group in _DIGIT_GROUP.finditer(text, start, end):
        digits += group.group()
        if len(digits) > 19:
            break
        if len(digits) >= 13 and len(set(digits)) > 1 and luhn_holds(digits):
            found = start, group.end()
    return found


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
    if _DATE.match(text, start, min(end + 1, len(text))):
        return None
    digits = len(_digits(text, start, end))
    whole = not _glued(text, start, end)
    if whole and text.startswith(("+", "(+", "00"), start) and 8 <= digits <= 22:
        return start, end
    before = text[max(0, start - _BEFORE_CHARACTERS) : start]
    worded = any(map(str.isalpha, before))
    for form in (_NORTH_AMERICAN, _NATIONAL):
        match = form.match(text, start, end)
        if match is not None and not _glued(text, *match.span()):
            if worded and _REFERENCE_WORD.search(before):  # a slow search, and hardly any number has a form
                break
            return match.span()
    if whole and worded and 7 <= digits <= 15 and _PHONE_WORD.search(before):
        return start, end
    return None


def _digits(text: str, start: int, end: int) -> str:
    return "".join(filter(str.isdigit, text[start:end]))


def _glued(text: str, start: int, end: int) -> bool:
    """Whether the candidate is only the middle of a longer word or number."""
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    if before.isalnum() or before in {"_", "#", "$", "€", "£"} or after.isalnum() or after == "_":
        return True
    decimal_before = before in {".", ","} and text[max(0, start - 2) : start - 1].isdigit()
    return decimal_before or (after in {".", ","} and text[end + 1 : end + 2].isdigit())
