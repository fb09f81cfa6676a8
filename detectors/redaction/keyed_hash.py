"""User ids as keyed hashes: joinable by us, meaningless without the key."""

import hashlib
import hmac


def keyed_hash(raw: str, key: bytes) -> str:
    """Return HMAC-SHA256 (RFC 2104) of `raw` under `key`: 32 hexadecimal characters (128 bits).

    Raises
    ------
    ValueError
        If `key` is shorter than 16 bytes.

    Examples
    --------
    >>> keyed_hash("user-1", b"0123456789abcdef") == keyed_hash("user-1", b"0123456789abcdef")
    True
    >>> len(keyed_hash("user-1", b"0123456789abcdef"))
    32
    """
    _check(key)
    return hmac.new(key, raw.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def key_id(key: bytes) -> str:
    """Return a short public name of `key` (8 hexadecimal characters) that does not give it away.

    Raises
    ------
    ValueError
        If `key` is shorter than 16 bytes.
    """
    _check(key)
    return hmac.new(key, b"plumbline key id", hashlib.sha256).hexdigest()[:8]


def _check(key: bytes) -> None:
    if len(key) < 16:
        raise ValueError("a key has at least 16 bytes")
