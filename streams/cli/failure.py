"""Known failures become one line on standard error and an exit code."""

from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, TypeVar, cast

import click

from streams.embedded.errors import StorageError
from streams.kafka.errors import BrokerError
from streams.kafka.shadow import BackfillError
from streams.listener import PortError
from streams.mapping import MappingError
from streams.settings import SettingsError
from streams.store import StoreError

F = TypeVar("F", bound=Callable[..., Any])

FAILED, MISUSED = 1, 2


def told_in_one_line(command: F) -> F:
    """Return `command`, whose known failures end it with one line and an exit code other than 0."""

    @wraps(command)
    def guarded(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except (SettingsError, MappingError) as error:
            _end(str(error), MISUSED)
        except (StorageError, StoreError, PortError, BrokerError, BackfillError, OSError) as error:
            _end(str(error), FAILED)

    return cast(F, guarded)


def _end(message: str, exit_code: int) -> NoReturn:
    click.echo(f"plumbline: {one_line(message)}", err=True)
    raise SystemExit(exit_code)


def one_line(text: str) -> str:
    """Return `text` as one line that does nothing to a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
