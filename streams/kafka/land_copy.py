"""Landing's ledger, kept twice: in the group's commits, which only an owner may write, and in a topic.

Kafka forgets the commits of a group that is away for ``offsets.retention.minutes``. And a broker may not know
them though its log does: a Kafka 4.3 that was killed on an overloaded machine came back with a coordinator
that had not loaded all of ``__consumer_offsets``, and answered without them until its next start ("the state
machine of the coordinator is out of sync with the underlying log"). To go on from an older commit would land
rows again under other tokens. So each commit is copied to a compacted topic before anything follows from it,
and of the two the one that is further is believed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

import msgspec

from streams.kafka.land_ledger import LedgerError, Where, read_mark
from streams.kafka.land_ports import Group
from streams.kafka.layout import state_name
from streams.kafka.transactions import Outgoing, PlainWriter, read_partitions
from streams.settings import KafkaSettings

Commit = tuple[int, str]
"""Offset and metadata."""
Read = Callable[[Collection[Where]], Awaitable[Mapping[Where, Commit]]]
Write = Callable[[Mapping[Where, Commit]], Awaitable[None]]
_STAGE: Final = "land"


class CopiedGroup:
    """A group whose commits are copied, and made good from the copy; otherwise the group itself.

    Parameters
    ----------
    group
        The consumer.
    read, write
        Of the copy; both durable when they return.
    """

    def __init__(self, group: Group, *, read: Read, write: Write) -> None:
        self._group, self._read, self._write = group, read, write
        self.leaving = group.leaving
        self.seek, self.positions, self.bounds = group.seek, group.positions, group.bounds

    async def commit(self, offsets: Mapping[Where, Commit]) -> None:
        """Commit, then copy; raises if they are no longer ours, and copies nothing then."""
        await self._group.commit(offsets)
        await self._write(offsets)

    async def committed(self, where: set[Where]) -> Mapping[Where, Commit | None]:
        """Return what is committed, or the copy where that is further; None where there is neither.

        Both are brought up to it first, the group for whoever looks at its lag. A commit without metadata
        was set by hand, and holds.
        """
        told, kept = await asyncio.gather(self._group.committed(where), self._read(where))
        believed = {one: _further(one, at, kept.get(one)) for one, at in told.items()}
        newer = {one: at for one, at in believed.items() if at is not None and at != kept.get(one)}
        if newer:
            await self._write(newer)
        if forgotten := {one: at for one, at in believed.items() if at is not None and at != told[one]}:
            await self._group.commit(forgotten)
        return believed


def _further(where: Where, told: Commit | None, kept: Commit | None) -> Commit | None:
    if told is None or kept is None or not told[1]:
        return told or kept
    try:
        mark, copy = read_mark(where, told), read_mark(where, kept)
    except LedgerError:
        return told  # not landing's own; whoever reads it complains
    if copy.topic_id and mark.topic_id and copy.topic_id != mark.topic_id:
        return told
    stale = (mark.offset, mark.unfinished is not None) < (copy.offset, copy.unfinished is not None)
    return kept if stale else told


class LedgerTopic:
    """The copy: under the name of a topic, in the partition with its number, what was committed last.

    Parameters
    ----------
    settings
        Where the brokers are.
    writer
        Writes it, once connected.
    """

    def __init__(self, settings: KafkaSettings, writer: PlainWriter) -> None:
        self._settings, self._writer = settings, writer
        self._name = state_name(_STAGE, settings.topic_prefix)

    async def write(self, offsets: Mapping[Where, Commit]) -> None:
        """Return when the brokers have all of `offsets`.

        Raises
        ------
        BrokerError
            If they may not have them.
        """
        await self._writer.write(
            [
                Outgoing(self._name, partition, msgspec.json.encode(at), key=topic.encode())
                for (topic, partition), at in offsets.items()
            ]
        )

    async def read(self, places: Collection[Where]) -> dict[Where, Commit]:
        """Return what was written last of `places`; those of which nothing was are left out.

        Raises
        ------
        BrokerError
            If it cannot be read.
        """
        rows = await read_partitions(self._settings, {(self._name, partition) for _, partition in places})
        found = {
            (topic, partition): rows[self._name, partition].get(topic.encode()) for topic, partition in places
        }
        return {where: msgspec.json.decode(row, type=Commit) for where, row in found.items() if row}
