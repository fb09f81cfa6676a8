"""Ids derived from content, so that a replay gives the same ones.

No id here comes from an offset, a clock or a random number.
"""

import hashlib
import uuid

_NAMESPACE = uuid.UUID("5a3c1f9e-6a55-5d0f-9a54-3f2c6f2f7b11")


def derive_id(kind: str, *parts: str) -> str:
    r"""Return the uuid5 of `kind` and `parts`, unambiguous whatever the parts contain.

    Parameters
    ----------
    kind
        What the id names (``interaction``, ``signal``).
    parts
        What identifies it; each part is length-prefixed, so ``("ab", "c")`` and ``("a", "bc")`` differ.

    Examples
    --------
    >>> derive_id("interaction", "support", "42") == derive_id("interaction", "support", "42")
    True
    >>> derive_id("x", "ab", "c") == derive_id("x", "a", "bc")
    False
    """
    name = "".join(f"{len(part)}:{part}" for part in (kind, *parts))
    digest = hashlib.sha1(
        _NAMESPACE.bytes + name.encode("utf-8", "surrogatepass"), usedforsecurity=False
    ).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def interaction_id(deployment: str, raw_id: str) -> str:
    """Return the stored id of a client's interaction id, which is scoped to its deployment."""
    return derive_id("interaction", deployment, raw_id)


def content_digest(payload: bytes) -> str:
    """Return a short digest that tells a repeated record from another one under the same id."""
    return hashlib.blake2b(payload, digest_size=16).hexdigest()


def partition_of(key: str, partitions: int) -> int:
    """Return the partition of `key`: murmur2 as Kafka's Java client computes it.

    The embedded journal and Kafka use the same hash, so a key lives in the same partition in both.

    Examples
    --------
    >>> [partition_of(key, 12) for key in ("a", "b", "support")]
    [4, 8, 4]
    """
    return (_murmur2(key.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """Murmur2 with Kafka's seed (Apache Kafka, ``org.apache.kafka.common.utils.Utils.murmur2``)."""
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    value = (0x9747B28C ^ length) & mask
    whole = length & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * multiplier & mask
        word = (word ^ (word >> 24)) * multiplier & mask
        value = (value * multiplier & mask) ^ word
    if tail := data[whole:]:
        value = (value ^ int.from_bytes(tail, "little")) * multiplier & mask
    value = (value ^ (value >> 13)) * multiplier & mask
    return value ^ (value >> 15)
