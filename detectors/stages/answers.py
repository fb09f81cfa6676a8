"""What the router did with the units of randomisation of one bucket, as their answers show it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

from msgspec import Struct

from detectors.stages.seen_units import hash_of
from detectors.stages.units import Entry, coin_of

_ANSWER = attrgetter("unit", "release", "share")
_Answer = tuple[str, str, float | None]


class Routed(Struct, frozen=True):
    """What the router did with one unit: the releases that answered, and the shares that are known."""

    unit: str
    hashed: bytes
    releases: frozenset[str]
    shares: frozenset[float]


class Answers(Struct, frozen=True):
    """The units with a known share; by release the interactions it answered, and those with such a share."""

    routed: Sequence[Routed]
    served: Mapping[str, int]
    stamped: Mapping[str, int]


def answers_of(entries: Iterable[Entry]) -> Answers:
    """Return what the router did with the units in `entries`.

    Examples
    --------
    >>> answers_of([Entry("i", "2.4", "c:1", "canary", 0.25, {}, ())]).stamped
    Counter({'2.4': 1})
    """
    answered = Counter(map(_ANSWER, entries))
    return Answers(_routed(answered), *_served(answered))


def _served(answered: Mapping[_Answer, int]) -> tuple[Counter[str], Counter[str]]:
    """Return how many interactions each release answered, and how many of them bear a known share."""
    served: Counter[str] = Counter()
    stamped: Counter[str] = Counter()
    for (_, release, share), count in answered.items():
        served[release] += count
        if coin_of(share) is not None:
            stamped[release] += count
    return served, stamped


def _routed(answered: Iterable[_Answer]) -> list[Routed]:
    """Return the units with a known share; those that several releases answered are seen, and no coin."""
    releases: dict[str, set[str]] = defaultdict(set)
    shares: dict[str, set[float]] = defaultdict(set)
    for unit, release, share in answered:
        releases[unit].add(release)
        if (coin := coin_of(share)) is not None:
            shares[unit].add(coin)
    return [
        Routed(unit, hash_of(unit), frozenset(releases[unit]), frozenset(known))
        for unit, known in shares.items()
    ]
