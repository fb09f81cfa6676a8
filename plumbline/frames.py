"""Records in a file, one behind the other: each with its length and its checksum, so that damage shows."""

import zlib
from pathlib import Path
from struct import Struct as Layout
from typing import IO, Final

_HEAD: Final = Layout("<II")  # length and CRC-32 of what follows
_LONGEST_BYTES: Final = 67_108_864


def frame(payload: bytes) -> bytes:
    r"""Return `payload` as it stands in a file.

    Examples
    --------
    >>> import io
    >>> read_frame(io.BytesIO(frame(b"one")))
    b'one'
    """
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def read_frame(file: IO[bytes]) -> bytes | None:
    """Return the next payload of `file`; None at its end, or where there is none that is whole."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length, checksum = _HEAD.unpack(head)
    if not 0 < length <= _LONGEST_BYTES:
        return None
    payload = file.read(length)
    return payload if len(payload) == length and zlib.crc32(payload) == checksum else None


def check_frames(path: Path, start: int) -> tuple[int, int]:
    """Return how many whole frames follow `start`, and where they end."""
    count, end = 0, start
    with path.open("rb") as file:
        file.seek(start)
        while read_frame(file) is not None:
            count, end = count + 1, file.tell()
    return count, end


def goes_on(path: Path, end: int) -> bool:
    """Return whether a whole frame follows what stands at `end`, which is none and then not the last."""
    with path.open("rb") as file:
        file.seek(end)
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return False
        file.seek(_HEAD.unpack(head)[0], 1)
        return read_frame(file) is not None
