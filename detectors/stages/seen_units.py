"""Which units of randomisation were counted already: the arm test counts each once."""

import hashlib
from collections.abc import Iterable
from typing import Final, Literal

Kind = Literal["user", "conversation"]

_HASH_BYTES: Final = 8


def kind_of(unit: str) -> Kind:
    """Return what was routed as one: a user comes back for weeks, a conversation for a day at most."""
    return "user" if unit.startswith("u:") else "conversation"


def hash_of(unit: str) -> bytes:
    """Return eight bytes that stand for `unit`: of 200,000 units, one pair in a billion is confused."""
    return hashlib.blake2b(unit.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).digest()


class SeenUnits:
    """The units of one kind and deployment, by the bucket in which each was counted last.

    Parameters
    ----------
    stored
        Bucket start -> the hashes of its units, one after the other, as :meth:`packed` gave them.
    """

    def __init__(self, stored: dict[int, bytes] | None = None) -> None:
        self._latest: dict[bytes, int] = {}
        self._buckets: dict[int, list[bytes]] = {}
        for bucket_ms, packed in sorted((stored or {}).items()):
            cuts = range(0, len(packed), _HASH_BYTES)
            self.remember(bucket_ms, [packed[cut : cut + _HASH_BYTES] for cut in cuts])

    def __len__(self) -> int:
        return len(self._latest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SeenUnits) and self._latest == other._latest

    __hash__ = None  # type: ignore[assignment] # it changes

    def last(self, unit: bytes) -> int | None:
        """Return the bucket in which `unit` was counted last, None if it is not known."""
        return self._latest.get(unit)

    def remember(self, bucket_ms: int, units: Iterable[bytes]) -> None:
        """Note that `units` are counted in the bucket, which is not older than any before."""
        kept = self._buckets.setdefault(bucket_ms, [])
        for unit in units:
            kept.append(unit)
            self._latest[unit] = bucket_ms

    def packed(self, bucket_ms: int) -> bytes:
        """Return the hashes counted in one bucket, for storage."""
        return b"".join(self._buckets.get(bucket_ms, ()))

    def forget_before(self, horizon_ms: int) -> list[int]:
        """Forget the units counted last before `horizon_ms`; return the buckets that are gone."""
        gone: list[int] = []
        for bucket_ms in self._buckets:  # in the order of time
            if bucket_ms >= horizon_ms:
                break
            gone.append(bucket_ms)
        for bucket_ms in gone:
            for unit in self._buckets.pop(bucket_ms):
                if self._latest.get(unit) == bucket_ms:
                    del self._latest[unit]
        return gone
