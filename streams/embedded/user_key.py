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
            _write_new(path, secrets.token_bytes(32))
        key = path.read_bytes().strip() if named else path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: the key of the user hashes cannot be used ({error.strerror})") from error
    if len(key) < 16:
        raise StorageError(
            f"{path}: the key of the user hashes must have at least 16 bytes: restore it from a backup"
        )
    return key


def _write_new(path: Path, content: bytes) -> None:
    """Write the file whole or not at all: half a key after a crash would bar every later start."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(handle)
    draft.replace(path)
