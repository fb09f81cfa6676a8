"""Snappy for kafka-python, which knows one library for it only; without it a topic of ours cannot be read."""

from types import SimpleNamespace
from typing import Any, Final

import cramjam
from kafka import codec

_CODEC: Final = SimpleNamespace(
    compress=lambda plain: bytes(cramjam.snappy.compress_raw(plain)),
    decompress=lambda packed: bytes(cramjam.snappy.decompress_raw(packed)),
)


def teach_snappy() -> None:
    """Let every kafka-python client of this process read and write snappy, if none can yet.

    Examples
    --------
    >>> teach_snappy()
    >>> codec.snappy_decode(codec.snappy_encode(b"often, often, often"))
    b'often, often, often'
    """
    door: Any = codec
    if not codec.has_snappy():
        door.snappy = _CODEC
