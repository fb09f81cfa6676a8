"""What can go wrong with the embedded runner, told in one line, traced without text."""

import logging
import traceback
from pathlib import Path

from streams.store_connection import StoreError


class StorageError(Exception):
    """The data directory cannot be used as it is; the text names the file and the remedy."""


def told(error: BaseException) -> str:
    """Return `error` as one line that quotes no record: our own errors' text, of all others the kind only.

    Examples
    --------
    >>> told(StorageError("journal.db: free space on its disk"))
    'StorageError: journal.db: free space on its disk'
    >>> told(ValueError("text of a user"))
    'ValueError'
    """
    kind = type(error).__name__
    return f"{kind}: {error}" if isinstance(error, StorageError | StoreError) else kind


def log_failure(log: logging.Logger, part: str, error: BaseException) -> None:
    """Write what failed and where, as a trace of our code: no values, and no foreign error's own words.

    Our own errors say everything in their one line, which the program repeats as its last.
    """
    if isinstance(error, StorageError | StoreError):
        log.info("%s failed: %s", part, told(error))
        return
    lines = [f"{part} failed: {told(error)}"]
    seen: BaseException | None = error
    while seen is not None:
        lines += [
            f"  {Path(frame.filename).name}:{frame.lineno} in {frame.name}"
            for frame in traceback.extract_tb(seen.__traceback__)
        ]
        seen = seen.__cause__
        if seen is not None:
            lines.append(f"  caused by {type(seen).__name__}")
    log.error("\n".join(lines))
