"""Records on disk until a broker has them: append-only segments, synced, bounded, sent in order.

A spool is a directory that one process holds at a time. It holds what was sent as it was sent, unredacted:
its files can be read by their owner alone, and go once the broker has acknowledged what is in them.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Final, Self

import msgspec
from msgspec import Struct

from plumbline.delivery import ClientError
from plumbline.frames import check_frames, frame, goes_on, read_frame
from plumbline.keys import Kind

_SEGMENT_BYTES: Final = 8_388_608
_MOST_PROCESSES: Final = 10_000
_CURSOR, _LOCK, _REFUSED = "cursor", "lock", "refused"


class SpoolError(ClientError):
    """A spool that cannot be used; the text names the file and what to do."""


class SpoolFullError(SpoolError):
    """The spool has reached its bound; nothing of what was to be added was kept."""


class Waiting(Struct, frozen=True, array_like=True):
    """One submission on its way, as the broker gets it; not in its repr."""

    kind: Kind
    key: bytes
    value: bytes

    def __repr__(self) -> str:
        """Return its kind and size."""
        return f"Waiting({self.kind}, {len(self.value)} bytes)"


_DECODER = msgspec.msgpack.Decoder(Waiting)


class Spool:
    """The queue in one directory; a context manager, safe to use from several threads.

    Parameters
    ----------
    directory
        Made if absent. What is left in it from before comes first.
    max_bytes
        The bound on all of its segments.
    segment_bytes
        At this size a new segment begins.

    Raises
    ------
    SpoolError
        If a segment is damaged. The last one may end within a record: nobody was told that this one was kept,
        and it is cut off. One that goes on with whole records behind such a place is damaged.
    BlockingIOError
        If another process holds it.
    OSError
        If the directory cannot be used.
    """

    def __init__(self, directory: Path, *, max_bytes: int, segment_bytes: int = _SEGMENT_BYTES) -> None:
        self.directory = directory
        self._max_bytes = max_bytes
        self._segment_bytes = max(1, min(segment_bytes, max_bytes // 4))
        self._mutex = threading.RLock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._writing: FileIO | None = None
            self._position = self._read_cursor()
            self._ends: list[tuple[int, int]] = []
            self._waiting = 0
            self._sizes = self._scan()
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let another process have it."""
        self.close()

    def __len__(self) -> int:
        """Return how many records wait."""
        return self._waiting

    def close(self) -> None:
        """Let another process have it; what waits stays on disk."""
        with self._mutex:
            if self._writing is not None:
                self._writing.close()
                self._writing = None
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def append(self, records: Sequence[Waiting]) -> None:
        """Keep `records` after all others; when this returns they are on disk.

        Raises
        ------
        SpoolFullError
            If they do not fit; none was kept.
        SpoolError
            If the disk refuses; none was kept.
        """
        blob = b"".join(map(_frame, records))
        with self._mutex:
            held = sum(self._sizes.values())
            if held + len(blob) > self._max_bytes:
                raise SpoolFullError(
                    f"{self.directory}: {held} bytes wait for the broker, the bound is {self._max_bytes}: "
                    "bring the broker back, or allow more; nothing was dropped, and this was not taken"
                )
            try:
                self._write(blob)
            except OSError as error:
                raise SpoolError(
                    f"{self.directory}: cannot be written ({error.strerror}): free space; this was not taken"
                ) from error
            self._waiting += len(records)

    def _write(self, blob: bytes) -> None:
        number = max(self._sizes, default=0)
        if self._writing is None or self._sizes[number] >= self._segment_bytes:
            number = max(number, self._position[0]) + 1  # never a number that was used: a cursor may name it
            if self._writing is not None:
                self._writing.close()
            self._writing = _create(self._segment(number))
            _sync_directory(self.directory)
            self._sizes[number] = 0
        start = self._sizes[number]
        try:
            left = memoryview(blob)
            while left:
                left = left[self._writing.write(left) :]
            os.fsync(self._writing.fileno())
        except OSError:
            # What is on disk now is not known: it is cut off, and the next record begins a new segment.
            with contextlib.suppress(OSError):
                os.truncate(self._segment(number), start)
            self._writing.close()
            self._writing = None
            raise
        self._sizes[number] = start + len(blob)

    def peek(self, *, records: int, max_bytes: int) -> list[Waiting]:
        """Return the oldest records, at most so many and about so many bytes; they go on waiting.

        Raises
        ------
        SpoolError
            If what comes next is damaged: it stays where it is, and so does all behind it.
        """
        with self._mutex:
            self._ends = []
            found: list[Waiting] = []
            for segment, end, framed in self._frames():
                if framed is None:
                    if found:
                        break  # these first
                    raise _damaged(self._segment(segment), end)
                found.append(_DECODER.decode(framed))
                self._ends.append((segment, end))
                max_bytes -= len(framed)
                if len(found) >= records or max_bytes <= 0:
                    break
            return found

    def _frames(self) -> Iterator[tuple[int, int, bytes | None]]:
        """Yield segment, end and content of all that waits; None and where it begins for what is damaged."""
        number, offset = self._position
        for segment in sorted(one for one in self._sizes if one >= number):
            end = offset if segment == number else 0
            with self._segment(segment).open("rb") as file:
                file.seek(end)
                while end < self._sizes[segment]:
                    framed = read_frame(file)
                    end = end if framed is None else file.tell()
                    yield segment, end, framed

    def acknowledge(self, count: int) -> None:
        """Forget the first `count` records of the last :meth:`peek`."""
        if not count:
            return
        with self._mutex:
            self._position = self._ends[count - 1]
            del self._ends[:count]
            self._waiting -= count
            number, offset = self._position
            # Not synced: an older cursor only sends again what the door knows.
            draft = self.directory / f"{_CURSOR}.draft"
            draft.write_text(f"{number} {offset}", encoding="ascii")
            draft.replace(self.directory / _CURSOR)
            if not self._waiting and self._writing is not None:
                self._writing.close()
                self._writing = None
            for done in [one for one in self._sizes if one < number or not self._waiting]:
                self._segment(done).unlink()
                del self._sizes[done]

    def set_aside(self, record: Waiting) -> None:
        """Keep `record`, which the broker will never take, in a file of its own."""
        with open(self.directory / _REFUSED, "ab", opener=_private) as file:
            file.write(_frame(record))
            file.flush()
            os.fsync(file.fileno())

    def _segment(self, number: int) -> Path:
        return self.directory / f"{number:016d}.segment"

    def _read_cursor(self) -> tuple[int, int]:
        try:
            number, offset = (self.directory / _CURSOR).read_text(encoding="ascii").split()
            return int(number), int(offset)
        except (FileNotFoundError, ValueError):
            return 0, 0

    def _scan(self) -> dict[int, int]:
        """Return the size of every segment, checked; remove those that are done with and cut the last one."""
        sizes = {}
        numbers = sorted(int(path.stem) for path in self.directory.glob("*.segment"))
        for number in numbers:
            path = self._segment(number)
            if number < self._position[0]:
                path.unlink()
                continue
            start = self._position[1] if number == self._position[0] else 0
            count, end = check_frames(path, start)
            if end < path.stat().st_size:
                if number != numbers[-1] or goes_on(path, end):
                    raise _damaged(path, end)
                os.truncate(path, end)
            self._waiting += count
            sizes[number] = end
        return sizes


def take_spools(directory: Path, *, max_bytes: int) -> list[Spool]:
    """Return a spool of this process in `directory`, and after it those that ended processes left there.

    Raises
    ------
    SpoolError
        If the directory cannot be used, or a spool is damaged.
    """
    taken: list[Spool] = []
    try:
        _take(directory, max_bytes, taken)
    except OSError as error:
        _close(taken)
        raise SpoolError(f"{directory}: cannot be used as a spool ({error.strerror})") from error
    except SpoolError:
        _close(taken)
        raise
    return taken


def _take(directory: Path, max_bytes: int, taken: list[Spool]) -> None:
    for number in range(_MOST_PROCESSES):
        path = directory / f"queue-{number:04d}"
        if taken and not path.exists():
            return
        try:
            spool = Spool(path, max_bytes=max_bytes)
        except BlockingIOError:
            continue
        if taken and not len(spool):
            spool.close()
        else:
            taken.append(spool)
    if not taken:
        raise SpoolError(
            f"{directory}: {_MOST_PROCESSES} processes hold a spool here: name other directories"
        )


def _close(spools: Sequence[Spool]) -> None:
    for spool in spools:
        spool.close()


def _frame(record: Waiting) -> bytes:
    return frame(msgspec.msgpack.encode(record))


def _damaged(path: Path, end: int) -> SpoolError:
    return SpoolError(
        f"{path}: damaged at byte {end}: check the disk, keep a copy and move the file away; "
        "the records after that byte cannot be sent"
    )


def _create(path: Path) -> FileIO:
    return open(path, "xb", buffering=0, opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
