"""One process per data directory, and nobody else's eyes in it."""

import fcntl
import os
import stat
from pathlib import Path
from typing import IO, Final

from streams.embedded.errors import StorageError

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def lock_directory(directory: Path) -> IO[str]:
    """Make `directory` and lock it for this process, for as long as the returned file is open.

    What is in it is private: the directory gets mode 0700, its files lose what groups and others may do, and
    from here on this process makes files that are private (``umask 077``), wherever it makes them.

    Raises
    ------
    StorageError
        If the directory cannot be written or made private, or another process holds it.
    """
    os.umask(0o077)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_private(directory)
        file = (directory / "lock").open("a+", encoding="ascii")
    except OSError as error:
        raise StorageError(
            f"{directory}: cannot be written ({error.strerror}): fix its owner, or set data_dir elsewhere"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise StorageError(
            f"{directory}: in use by another plumbline process (pid {owner}): "
            "stop it, or set data_dir elsewhere"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _make_private(directory: Path) -> None:
    """Take away what others may do; a directory that is meant for many is left alone and refused."""
    found = directory.stat()
    if found.st_mode & _OTHERS:
        if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
            raise StorageError(
                f"{directory}: others may look into it and it is not ours to close: "
                "set data_dir to a directory of its own"
            )
        directory.chmod(0o700)
    for entry in os.scandir(directory):
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISREG(mode) and mode & _OTHERS:
            Path(entry.path).chmod(stat.S_IMODE(mode) & ~_OTHERS)
