"""The bytes of a request: read up to a limit, unpacked up to a limit, cut into lines."""

import zlib
from collections.abc import AsyncIterable
from typing import Final

MAX_LINES: Final = 50_000

_GZIP_WINDOW: Final = 31  # zlib's wbits for gzip with its header and checksum
_JSON_SPACE: Final = b" \t\r"


class BodyError(ValueError):
    """A body that is refused as a whole, with the HTTP status, code and message of the answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


async def read_body(chunks: AsyncIterable[bytes], *, declared: str | None, max_bytes: int) -> bytes:
    """Return the whole body, or stop reading as soon as it is known to be too large.

    Parameters
    ----------
    chunks
        The body as it arrives.
    declared
        The Content-Length header, if there is one; it may lie.
    max_bytes
        The limit.

    Raises
    ------
    BodyError
        413, if there is more than `max_bytes`.
    """
    if declared is not None and declared.isdecimal() and (len(declared) > 18 or int(declared) > max_bytes):
        raise _too_large(max_bytes)
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def unpack_gzip(packed: bytes, *, max_bytes: int) -> bytes:
    """Return the content of the gzip member `packed`, never holding more than `max_bytes` of it.

    Raises
    ------
    BodyError
        400 if it is damaged, cut short or followed by anything; 413 if there is more than `max_bytes`.

    Examples
    --------
    >>> import gzip
    >>> unpack_gzip(gzip.compress(b"{}"), max_bytes=2)
    b'{}'
    """
    unpacker = zlib.decompressobj(wbits=_GZIP_WINDOW)
    try:
        body = unpacker.decompress(packed, max_bytes + 1)
    except zlib.error:
        raise BodyError(400, "malformed_gzip", "the body is not gzip; check Content-Encoding") from None
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    if not unpacker.eof or unpacker.unused_data:
        raise BodyError(
            400, "malformed_gzip", "the body is not one complete gzip member; send it again whole"
        )
    return body


def cut_lines(body: bytes) -> list[tuple[int, bytes]]:
    r"""Return the lines of an NDJSON `body` with their numbers, from 1; blank ones are left out.

    Raises
    ------
    BodyError
        400 if there is no line at all, 413 if there are more than 50,000.

    Examples
    --------
    >>> cut_lines(b'{}\n\n{"a":1}\n')
    [(1, b'{}'), (3, b'{"a":1}')]
    """
    if body.count(b"\n") > MAX_LINES:
        raise BodyError(413, "too_many_lines", f"the batch has over {MAX_LINES} lines; send several")
    lines = [(at, line) for at, line in enumerate(body.split(b"\n"), start=1) if line.strip(_JSON_SPACE)]
    if not lines:
        raise BodyError(400, "empty_body", "the body has no record; send one JSON object per line")
    return lines


def _too_large(max_bytes: int) -> BodyError:
    return BodyError(413, "batch_too_large", f"the body is over {max_bytes} bytes; send smaller batches")
