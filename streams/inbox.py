"""The contract between the door and the journal: what is answered 202 is on disk."""

from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct

from detectors.records.codec import Record

Outcome = Literal["accepted", "duplicate", "conflict"]


class Entry(Struct, frozen=True, kw_only=True):
    """One validated, redacted record on its way into the log.

    ``identity`` is the id that makes it unique and ``digest`` tells a repetition (same digest) from a
    conflict (another one). ``key`` chooses the partition; None means every partition (control records).
    """

    topic: str
    key: str | None
    record: Record
    identity: str
    digest: str


class Inbox(Protocol):
    """Where the door puts what it admits."""

    async def admit(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        """Write all entries in one durable transaction and return the outcome of each, in order.

        Within one call, a second entry with the identity of a first is compared with it. When this returns,
        every accepted entry has been synced to disk.

        Raises
        ------
        OSError
            If nothing of this call could be written (disk full, shutting down); none was accepted.
        """
        ...
