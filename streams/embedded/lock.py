"""One process per data directory."""

import fcntl
import os
from pathlib import Path
from typing import IO

from streams.embedded.errors import StorageError


def lock_directory(directory: Path) -> IO[str]:
    """Make `directory` and lock it for this process, for as long as the returned file is open.

    Raises
    ------
    StorageError
        If the directory cannot be written, or another process holds it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
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
