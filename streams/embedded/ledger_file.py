"""The response ledger as a file of the data directory."""

from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from streams.embedded.errors import StorageError
from streams.response.ledger import Ledger


def open_ledger(path: Path) -> Ledger:
    """Return the ledger in the file at `path`; raises StorageError if it cannot be used."""
    try:
        return Ledger(f"sqlite:///{path}")
    except SQLAlchemyError as error:
        raise StorageError(
            f"{path}: the ledger of actions cannot be used ({type(error).__name__}): "
            "restore it from a backup; without it nobody knows what was rolled back"
        ) from error
