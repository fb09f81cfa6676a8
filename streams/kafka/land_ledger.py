"""The ledger of landing: what the group's commits say, and under which token a range is inserted. Pure.

Before a range is inserted, the group commits the offset where it begins with metadata that says where it
ends; when its rows are stored, the offset behind it. The broker takes a commit from the partition's owner
only, so nobody else can begin a range meanwhile, and whoever owns the partition next reads which range he
must insert again, under the same token. Either commit names the topic by the id that the cluster gave it, for
the offsets of a topic that was made anew say nothing of the one before it.
"""

import re
from typing import Final

from msgspec import Struct

Where = tuple[str, int]
"""A partition: the Kafka name of its topic, and its number."""

_FORMAT: Final = "plumbline-land-1"
_METADATA: Final = re.compile(rf"{_FORMAT}(?: before ([0-9]{{1,19}}))?(?: of ([\w-]+))?", re.ASCII)


class LedgerError(RuntimeError):
    """The committed offsets cannot be gone on from; the text says which, and the remedy."""


class Range(Struct, frozen=True, order=True):
    """Whole Kafka records of one partition: offsets of the first and the last, both included."""

    first: int
    last: int


class Mark(Struct, frozen=True):
    """What the ledger says of one partition: where to go on reading, and which range may be half stored.

    ``unfinished`` is None where every insert that was begun is known to be done; ``topic_id`` is empty where
    somebody set the offset by hand.
    """

    offset: int
    unfinished: Range | None = None
    topic_id: str = ""


def before(chosen: Range, topic_id: str) -> tuple[int, str]:
    """Return the commit, offset and metadata, that must stand before `chosen` may be inserted.

    Examples
    --------
    >>> before(Range(7, 9), "n3w")
    (7, 'plumbline-land-1 before 9 of n3w')
    """
    return chosen.first, f"{_FORMAT} before {chosen.last} of {topic_id}"


def after(chosen: Range, topic_id: str) -> tuple[int, str]:
    """Return the commit, offset and metadata, that says that `chosen` is stored.

    Examples
    --------
    >>> after(Range(7, 9), "n3w")
    (10, 'plumbline-land-1 of n3w')
    """
    return chosen.last + 1, f"{_FORMAT} of {topic_id}"


def read_mark(where: Where, committed: tuple[int, str]) -> Mark:
    """Return what a commit says.

    Parameters
    ----------
    where
        The partition, for errors.
    committed
        Offset and metadata as they were committed; without metadata it was set by hand.

    Raises
    ------
    LedgerError
        If the metadata is not landing's: somebody else commits for this group.

    Examples
    --------
    >>> read_mark(("t", 0), (7, "plumbline-land-1 before 9 of n3w"))
    Mark(offset=7, unfinished=Range(first=7, last=9), topic_id='n3w')
    >>> read_mark(("t", 0), (10, ""))
    Mark(offset=10, unfinished=None, topic_id='')
    """
    offset, metadata = committed
    if not metadata:
        return Mark(offset)
    found = _METADATA.fullmatch(metadata)
    last = offset if found is None or found[1] is None else int(found[1])
    if found is None or last < offset:
        raise LedgerError(
            f"landing: the commit for {where[0]}/{where[1]} at offset {offset} is not landing's own: "
            "no other program may commit for this group; set its offset to where the store ends"
        )
    return Mark(offset, None if found[1] is None else Range(offset, last), found[2] or "")


def check_topic(where: Where, mark: Mark, topic_id: str) -> None:
    """Return if `mark` is of the topic that has `topic_id`, or may be.

    Raises
    ------
    LedgerError
        If it is of a topic that had the same name: its offsets would pass records by, or blame retention.

    Examples
    --------
    >>> check_topic(("plumbline.labels.v1", 2), Mark(41, None, "0ld"), "n3w")
    Traceback (most recent call last):
    streams.kafka.land_ledger.LedgerError: landing: topic plumbline.labels.v1 was made anew after partition \
2 had landed up to offset 41: use another store, or let the rows stand and land the new log beside them: \
kafka-consumer-groups --reset-offsets --topic plumbline.labels.v1:2 --to-earliest
    """
    if mark.topic_id and mark.topic_id != topic_id:
        raise LedgerError(
            f"landing: topic {where[0]} was made anew after partition {where[1]} had landed up to offset "
            f"{mark.offset}: {_beside(where)}"
        )


def _beside(where: Where) -> str:
    return (
        "use another store, or let the rows stand and land the new log beside them: "
        f"kafka-consumer-groups --reset-offsets --topic {where[0]}:{where[1]} --to-earliest"
    )


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
kafka-consumer-groups --reset-offsets --topic plumbline.labels.v1:2 --to-offset 42, and reconcile; if the \
topic was made anew instead, use another store, or let the rows stand and land the new log beside them: \
kafka-consumer-groups --reset-offsets --topic plumbline.labels.v1:2 --to-earliest
    """
    name = f"{where[0]}/{where[1]}"
    if stored >= end:
        return LedgerError(
            f"landing: the store has rows up to offset {stored} of {name}, which ends at {end}: they are of "
            f"another log; {_beside(where)}"
        )
    return LedgerError(
        f"landing: the group has no offset for {name}, and the store has rows up to its offset {stored}: "
        "Kafka forgets the offsets of a group that is away (offsets.retention.minutes); set it to "
        f"{stored + 1} with kafka-consumer-groups --reset-offsets --topic {where[0]}:{where[1]} "
        f"--to-offset {stored + 1}, and reconcile; if the topic was made anew instead, {_beside(where)}"
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
