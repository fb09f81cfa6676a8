"""The key of the user hashes."""

import os
import secrets
from pathlib import Path

from streams.embedded.errors import StorageError


def load_user_key(directory: Path, named: str) -> bytes:
    """Return the key in the file `named`, or else in ``user.key`` of `directory`, made on first use.

    Raises
    ------
    StorageError
        If the file cannot be read or written, or holds fewer than 16 bytes.
    """
    path = Path(named) if named else directory / "user.key"
    try:
        if not named and not path.exists():
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(32))
        key = path.read_bytes().strip() if named else path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: the key of the user hashes cannot be used ({error.strerror})") from error
    if len(key) < 16:
        raise StorageError(f"{path}: the key of the user hashes must have at least 16 bytes")
    return key
