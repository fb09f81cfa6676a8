"""The term rules, compiled once: one RE2 pass per sentence, whatever their number."""

import hashlib
import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

import msgspec
from msgspec import Struct

from detectors.patterns import PatternSet

Side = Literal["request", "response"]


class Rule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule of the data file.

    It holds in a sentence in which a term of every list named in ``all_of`` stands and none of ``none_of``.
    ``side`` says which text it reads.
    """

    id: str
    category: str
    side: Side
    all_of: tuple[str, ...]
    none_of: tuple[str, ...] = ()


class _Policy(Struct, frozen=True, forbid_unknown_fields=True):
    terms: dict[str, tuple[str, ...]]
    rule: tuple[Rule, ...]


class RuleHit(Struct, frozen=True):
    """A rule that holds, its category, and where its last term stands in the text that was read."""

    rule: str
    category: str
    start: int
    end: int


def policy_version() -> str:
    """Return a hash of the rules: it changes exactly when the data does."""
    return hashlib.blake2b(_source(), digest_size=6).hexdigest()


def request_hits(text: str) -> tuple[RuleHit, ...]:
    """Return the rules for requests that hold in the folded `text` (a sentence, or a short prompt).

    Examples
    --------
    >>> [hit.category for hit in request_hits("how do i hack my neighbour's wi-fi")]
    ['hacking']
    >>> request_hits("where is the hackathon")
    ()
    """
    return _hits(text, "request")


def response_hits(text: str) -> tuple[RuleHit, ...]:
    """Return the rules for answers that hold in the folded `text` (a sentence)."""
    return _hits(text, "response")


def possible(text: str, side: Side) -> bool:
    """Return whether any rule of `side` could hold in some sentence of the folded `text`; one pass."""
    terms, rules = _compiled()
    present = frozenset(terms.found_in(text))
    return any(rule.side == side and present.issuperset(rule.all_of) for rule in rules) if present else False


def _hits(text: str, side: Side) -> tuple[RuleHit, ...]:
    terms, rules = _compiled()
    present = frozenset(terms.found_in(text))
    if not present:
        return ()
    hits: list[RuleHit] = []
    for rule in rules:
        if rule.side != side or not present.issuperset(rule.all_of) or not present.isdisjoint(rule.none_of):
            continue
        start, end = terms.first(rule.all_of[-1], text) or (0, len(text))
        hits.append(RuleHit(rule.id, rule.category, start, end))
    return tuple(hits)


@cache
def _source() -> bytes:
    return files("detectors.policy").joinpath("terms.toml").read_bytes()


@cache
def _compiled() -> tuple[PatternSet, tuple[Rule, ...]]:
    policy = msgspec.convert(tomllib.loads(_source().decode()), _Policy)
    named = {term for rule in policy.rule for term in (*rule.all_of, *rule.none_of)}
    if missing := sorted(named - policy.terms.keys()):
        raise ValueError(f"rules name unknown term lists: {', '.join(missing)}")
    return PatternSet(
        {name: f"(?s)(?:{'|'.join(words)})" for name, words in policy.terms.items()}
    ), policy.rule
