"""What is redacted: for each kind a pattern that finds candidates and a proof that one is real."""

import ipaddress
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from detectors.redaction.digits import find_card, find_iban, find_phone, find_ssn

Span = tuple[int, int]

_IPV4: Final = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.|\Z)){4}")


class Kind(NamedTuple):
    """One kind of redaction.

    ``expression`` finds candidates (RE2; the last capture group, if any, is what is replaced). ``prove``
    gets the text and a candidate and returns the span to replace, or None.
    """

    name: str
    expression: str
    prove: Callable[[str, int, int], Span | None]
    group: int = 0


def _accept(_: str, start: int, end: int) -> Span | None:
    return start, end


def _ip(text: str, start: int, end: int) -> Span | None:
    """Return the span of an address, unless it is glued to a word or said to be something else."""
    before = text[max(0, start - 10) : start].lower().rstrip(" :=")
    if before.endswith(("version", " v", "release", "section", "chapter")) or before == "v":
        return None
    if start and (text[start - 1].isalnum() or text[start - 1] in ".-"):
        return None
    if end < len(text) and (text[end].isalnum() or text[end : end + 1] == "-"):
        return None
    if text[end : end + 1] == "." and text[end + 1 : end + 2].isdigit():
        return None
    return start, end


def _ipv4(text: str, start: int, end: int) -> Span | None:
    return _ip(text, start, end) if _IPV4.fullmatch(text, start, end) else None


def _ipv6(text: str, start: int, end: int) -> Span | None:
    candidate = text[start:end]
    if candidate.count(":") < 3 or not any(map(str.isdigit, candidate)):
        return None
    try:
        ipaddress.IPv6Address(candidate)
    except ValueError:
        return None
    return _ip(text, start, end)


def _token(text: str, start: int, end: int) -> Span | None:
    if start and (text[start - 1].isalnum() or text[start - 1] in "_-"):
        return None
    return start, end


def _password(text: str, start: int, end: int) -> Span | None:
    value = text[start:end].rstrip(".,;:!?)'\"")
    if len(value) < 4 or value.lower() in _NO_PASSWORD:
        return None
    if text[max(0, start - 1) : start] == " " and value.isalpha() and value.islower():
        return None  # "the password is wrong" is a sentence
    return start, start + len(value)


_NO_PASSWORD: Final = frozenset(
    {
        "none",
        "null",
        "true",
        "false",
        "required",
        "optional",
        "string",
        "password",
        "reset",
        "your",
        "here",
        "link",
    }
)
_LABEL = (
    r"(?i)\b(?:password|passwd|passwort|pwd|contrasena|contraseña|mot de passe|passphrase|secret|"
    r"api[_ -]?key|access[_ -]?key|client[_ -]?secret|auth[_ -]?token|access[_ -]?token)[\"']?"
    r"(?:\s{0,3}[:=]\s{0,3}|\s{1,3}is\s{0,3}:?\s{1,3})[\"'`]?"
)

KINDS: Final[tuple[Kind, ...]] = (
    Kind(
        "PRIVATE_KEY",
        r"(?s)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:.*?-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|[A-Za-z0-9+/=\s\\:,-]*)",
        _accept,
    ),
    Kind("TOKEN", r"\beyJ[A-Za-z0-9_-]{5,}\.eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}", _token),
    Kind("TOKEN", r"(?i)\bbearer\s{1,3}([A-Za-z0-9._~+/-]{16,}=*)", _accept, 1),
    Kind(
        "API_KEY",
        r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b"
        r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{40,}|\bglpat-[A-Za-z0-9_-]{20,}"
        r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{20,}"
        r"|https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,}"
        r"|\b[srp]k_(?:live|test)_[A-Za-z0-9]{16,}|\bwhsec_[A-Za-z0-9]{20,}"
        r"|\bAIza[A-Za-z0-9_-]{35}|\bya29\.[A-Za-z0-9_-]{20,}"
        r"|\bsk-(?:ant-|proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,}"
        r"|\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|\bnpm_[A-Za-z0-9]{36}|\bpypi-[A-Za-z0-9_-]{30,}"
        r"|\bhf_[A-Za-z0-9]{30,}|\bdop_v1_[a-f0-9]{64}|\bSK[a-f0-9]{32}\b",
        _token,
    ),
    Kind("PASSWORD", _LABEL + r"([^\s\"'`<>\[\]{},]{4,})", _password, 1),
    Kind(
        "EMAIL",
        r"[\pL\pN_%+'-][\pL\pN._%+'-]{0,63}@(?:[\pL\pN](?:[\pL\pN-]{0,62})\.)+(?:\pL{2,24}|xn--[a-z0-9-]{2,40})",
        _accept,
    ),
    Kind("IBAN", r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{2,4}){3,8}(?:[ -]?[A-Za-z0-9]{1,3})?\b", find_iban),
    Kind("CARD", r"\d(?:[ -]?\d){12,30}", find_card),
    Kind(
        "SSN", r"\d{3}[- ]\d{2}[- ]\d{4}|(?i:\bssn|social security(?: number| no\.?)?)\D{0,12}\d{9}", find_ssn
    ),
    Kind("IP", r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", _ipv4),
    Kind("IP", r"(?i)(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}", _ipv6),
    Kind(
        "PHONE", r"(?:\+|\(|\b00|\d)[\d(]?(?:[ ./()-]{0,2}\d){6,16}(?: ?(?:x|ext\.?) ?\d{1,6})?", find_phone
    ),
)

SECRET: Final = ("PRIVATE_KEY", "TOKEN", "API_KEY", "PASSWORD")
"""Kinds that open something."""

PERSONAL: Final = ("EMAIL", "IBAN", "CARD", "SSN", "IP", "PHONE")
"""Kinds that name or reach a person."""

ALL: Final = (*SECRET, *PERSONAL)
"""Every kind there is."""
