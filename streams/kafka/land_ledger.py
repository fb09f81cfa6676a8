"""The ledger of landing: what the group's commits say, and under which token a range is inserted. Pure.

Before a range is inserted, the group commits the offset where it begins with metadata that says where it
ends; when its rows are stored, the offset behind it, without metadata. The broker takes a commit from the
partition's owner only, so nobody else can begin a range meanwhile, and whoever owns the partition next reads
which range he must insert again, under the same token.
"""

from typing import Final

from msgspec import Struct

Where = tuple[str, int]
"""A partition: the Kafka name of its topic, and its number."""

_BEFORE: Final = "plumbline-land-1 before "


class LedgerError(RuntimeError):
    """The committed offsets cannot be gone on from; the text says which, and the remedy."""


class Range(Struct, frozen=True, order=True):
    """Whole Kafka records of one partition: offsets of the first and the last, both included."""

    first: int
    last: int


class Mark(Struct, frozen=True):
    """What the ledger says of one partition: where to go on reading, and which range may be half stored.

    ``unfinished`` is None where every insert that was begun is known to be done.
    """

    offset: int
    unfinished: Range | None = None


def before(chosen: Range) -> tuple[int, str]:
    """Return the commit, offset and metadata, that must stand before `chosen` may be inserted.

    Examples
    --------
    >>> before(Range(7, 9))
    (7, 'plumbline-land-1 before 9')
    """
    return chosen.first, f"{_BEFORE}{chosen.last}"


def after(chosen: Range) -> tuple[int, str]:
    """Return the commit, offset and metadata, that says that `chosen` is stored.

    Examples
    --------
    >>> after(Range(7, 9))
    (10, '')
    """
    return chosen.last + 1, ""


def read_mark(where: Where, committed: tuple[int, str]) -> Mark:
    """Return what a commit says.

    Parameters
    ----------
    where
        The partition, for errors.
    committed
        Offset and metadata as they were committed.

    Raises
    ------
    LedgerError
        If the metadata is not landing's: somebody else commits for this group.

    Examples
    --------
    >>> read_mark(("t", 0), (7, "plumbline-land-1 before 9"))
    Mark(offset=7, unfinished=Range(first=7, last=9))
    >>> read_mark(("t", 0), (10, ""))
    Mark(offset=10, unfinished=None)
    """
    offset, metadata = committed
    if not metadata:
        return Mark(offset)
    last = metadata.removeprefix(_BEFORE)
    if last == metadata or not (last.isascii() and last.isdigit()) or int(last) < offset:
        raise LedgerError(
            f"landing: the commit for {where[0]}/{where[1]} at offset {offset} is not landing's own: "
            "no other program may commit for this group; set its offset to where the store ends"
        )
    return Mark(offset, Range(offset, int(last)))


def forgotten(where: Where, stored: int, end: int) -> LedgerError:
    """Return the error of a partition with rows in the store and no commit: from its start all would double.

    Parameters
    ----------
    where
        The partition.
    stored, end
        The last offset of which there are rows, and the end of the log.

    Examples
    --------
    >>> print(forgotten(("plumbline.labels.v1", 2), 41, 60))
    landing: the group has no offset for plumbline.labels.v1/2, and the store has rows up to its offset 41: \
Kafka forgets the offsets of a group that is away (offsets.retention.minutes); set it to 42 with \
kafka-consumer-groups --reset-offsets --topic plumbline.labels.v1:2 --to-offset 42, and reconcile
    """
    name = f"{where[0]}/{where[1]}"
    if stored >= end:
        return LedgerError(
            f"landing: the store has rows up to offset {stored} of {name}, which ends at {end}: they are of "
            "another log; use another store, or let the rows stand and land this log beside them: "
            f"kafka-consumer-groups --reset-offsets --topic {where[0]}:{where[1]} --to-earliest"
        )
    return LedgerError(
        f"landing: the group has no offset for {name}, and the store has rows up to its offset {stored}: "
        "Kafka forgets the offsets of a group that is away (offsets.retention.minutes); set it to "
        f"{stored + 1} with kafka-consumer-groups --reset-offsets --topic {where[0]}:{where[1]} "
        f"--to-offset {stored + 1}, and reconcile"
    )


def token_of(topic_id: str, where: Where, chosen: Range, table: str) -> str:
    """Return the deduplication token of the rows of `chosen` in `table`; the same range, the same token.

    `topic_id` is the one that the cluster gave the topic when it was made: a topic that was deleted and made
    again counts from 0 again, and must not be taken for a repetition.

    Examples
    --------
    >>> token_of("n3w", ("plumbline.labels.v1", 2), Range(7, 9), "labels")
    'n3w/plumbline.labels.v1/2/7-9/labels'
    """
    return f"{topic_id}/{where[0]}/{where[1]}/{chosen.first}-{chosen.last}/{table}"
