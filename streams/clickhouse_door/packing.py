"""Content-Encoding in both directions: what is unpacked never grows over a limit."""

import gzip
import importlib
import sys
from typing import Any, Final, Protocol

from streams.door.body import BodyError, unpack_gzip

_UNKNOWN: Final = "the door takes Content-Encoding gzip, lz4, zstd or none"
_ZSTD: Final = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
_WORTH_PACKING: Final = 1_024


class _Unpacker(Protocol):
    eof: bool
    unused_data: bytes | None

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def unpack(packed: bytes, encoding: str, *, max_bytes: int) -> bytes:
    """Return the content of `packed`, never holding more than `max_bytes` of it.

    Raises
    ------
    BodyError
        415 for another encoding, 400 for a damaged body, 413 for one over `max_bytes`.

    Examples
    --------
    >>> unpack(gzip.compress(b"one"), "gzip", max_bytes=3)
    b'one'
    """
    match encoding.strip().casefold():
        case "" | "identity":
            return packed
        case "gzip":
            return unpack_gzip(packed, max_bytes=max_bytes)
        case "lz4":
            return _unpack_frames(packed, _library("lz4.frame").LZ4FrameDecompressor, max_bytes)
        case "zstd":
            return _unpack_frames(packed, _library(_ZSTD).ZstdDecompressor, max_bytes)
    raise BodyError(415, "unknown_encoding", _UNKNOWN)


def _unpack_frames(packed: bytes, unpacker: Any, max_bytes: int) -> bytes:
    """Unpack frame after frame: clients end one with every block."""
    body, rest = bytearray(), packed
    while rest:
        frame: _Unpacker = unpacker()
        try:
            body += frame.decompress(rest, max_bytes - len(body) + 1)
        except Exception as error:
            raise BodyError(400, "malformed_body", "the body is not what Content-Encoding says") from error
        if len(body) > max_bytes:
            raise BodyError(
                413, "batch_too_large", f"the body is over {max_bytes} bytes; send smaller batches"
            )
        if not frame.eof:
            raise BodyError(400, "malformed_body", "the body ends too early")
        rest = frame.unused_data or b""
    return bytes(body)


def pack(body: bytes, accepts: str) -> tuple[bytes, dict[str, str]]:
    """Return the body, packed where the client takes gzip and it is worth it, with its headers.

    Examples
    --------
    >>> pack(b"short", "gzip")
    (b'short', {})
    """
    wanted = {name.partition(";")[0].strip() for name in accepts.casefold().split(",")}
    if "gzip" not in wanted or len(body) < _WORTH_PACKING:
        return body, {}
    return gzip.compress(body, compresslevel=1, mtime=0), {
        "Content-Encoding": "gzip",
        "Vary": "Accept-Encoding",
    }


def _library(name: str) -> Any:
    """Return a module that mostly comes with the ClickHouse driver; neither has types."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BodyError(415, "unknown_encoding", _UNKNOWN) from error
