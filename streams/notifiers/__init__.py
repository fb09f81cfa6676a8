"""Notifiers tell a person. A file here is one notifier; retries and deduplication live in the outbox."""

from typing import Protocol

from msgspec import Struct

from detectors.records import Action, Decision
from detectors.registry import Registry


class Notice(Struct, frozen=True, kw_only=True):
    """One message: stable `notice_id` across retries, and no user text anywhere in it."""

    notice_id: str
    decision: Decision
    transition: str
    summary: str
    action: Action | None = None
    links: dict[str, str] = {}


class Retryable(Exception):  # noqa: N818 - a verdict, not a failure of ours
    """The receiver may accept the same notice later; `after_s` is its own wish, where it gave one."""

    def __init__(self, message: str, *, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class Permanent(Exception):  # noqa: N818 - a verdict, not a failure of ours
    """The receiver will never accept this notice."""


class Notifier(Protocol):
    """What every notifier offers."""

    name: str

    async def notify(self, notice: Notice) -> None:
        """Deliver `notice` once.

        Raises
        ------
        Retryable
            If the same notice may be accepted later.
        Permanent
            If it never will be.
        """
        ...


NOTIFIERS = Registry[Notifier]("notifier", "streams.notifiers")
notifier = NOTIFIERS.register
