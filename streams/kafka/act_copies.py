"""What became of decisions, copied from the ledger to ``actions``: once, whatever dies in between."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from detectors.records import Action
from detectors.records.ids import partition_of
from streams.acting import Copies, fresh_copies, key_of_action
from streams.kafka.dead_letters import DeadLetter, dead_letter_record
from streams.kafka.envelope import Origin, seal
from streams.kafka.errors import BrokerError
from streams.kafka.layout import dead_letter_name, largest_record_bytes, state_name, topic_name
from streams.kafka.state_records import Position, StateFormatError, StateRecords
from streams.kafka.transactions import Outgoing, TransactionalWriter, read_partitions
from streams.response.copies import START, CopiedTable
from streams.response.machine import ResponseMachine
from streams.settings import KafkaSettings

_COPIED: Final = "copied"
_BURIED: Final = "buried"
_PARTITION: Final = 0
"""Of ``state.act``: there is one act worker, and its state is one."""


class ActionCopies:
    """Copies the ledger of `machine` to the log, exactly once.

    How far it has come stands in ``state.act``, beside what was copied: the ledger may be read again after a
    crash, and nothing is copied twice. Whoever starts later under the same name ends this one.

    Parameters
    ----------
    settings
        Where the brokers are, and the topics' prefix.
    machine
        Whose transitions and ended pages are copied.
    """

    def __init__(self, settings: KafkaSettings, machine: ResponseMachine) -> None:
        self._settings, self._machine = settings, machine
        prefix = settings.topic_prefix
        self._state = state_name("act", prefix)
        self._actions = topic_name("actions", prefix)
        self._writer = TransactionalWriter(settings, f"{prefix}.act")
        self._turn = asyncio.Lock()
        self._records = StateRecords({})
        self._copied: dict[CopiedTable, int] = dict(START)
        self._buried: dict[str, int] = {}
        self.written = 0

    async def start(self) -> None:
        """Take over from whoever copied before.

        Raises
        ------
        BrokerError
            If the ledger is not the one that was copied from: somebody else's, or an old copy of it. Then
            nobody is ended.
        """
        await self._restore()
        await self._writer.start()
        await self._restore()  # what the one before committed last

    async def _restore(self) -> None:
        where = (self._state, _PARTITION)
        rows = (await read_partitions(self._settings, [where]))[where]
        try:
            self._records = StateRecords(rows)
            copied = msgspec.json.decode(self._records.blobs.get(_COPIED, b"{}"), type=dict[str, int])
            buried = msgspec.json.decode(self._records.blobs.get(_BURIED, b"{}"), type=dict[str, int])
        except (StateFormatError, msgspec.DecodeError) as error:
            raise BrokerError(
                f"kafka: {self._state} cannot be read ({type(error).__name__}): run the version that wrote it"
            ) from error
        self._copied = {name: copied.get(name, row_id) for name, row_id in START.items()}
        self._buried = buried
        await asyncio.to_thread(self._refuse_foreign_ledger)

    def _refuse_foreign_ledger(self) -> None:
        """A ledger that holds less than was copied from it would act on everything again."""
        before: dict[CopiedTable, int] = {name: row_id - 1 for name, row_id in self._copied.items()}
        known = fresh_copies(self._machine, before)
        if any(row_id > 0 and known.reached[name] < row_id for name, row_id in self._copied.items()):
            raise BrokerError(
                "act: the ledger in this data_dir holds less than what was copied from it to "
                f"{self._actions}: it is another one, or an old copy; start the worker where the ledger is, "
                "or bring that ledger here"
            )

    async def copy(self, fresh: Copies) -> int:
        """Append the actions of `fresh` and remember how far that is; return how many."""
        if not fresh.actions:
            return 0
        changes = {_COPIED: msgspec.json.encode(fresh.reached)}
        await self._write(self._sealed(fresh), changes)
        self._copied = dict(fresh.reached)
        self.written += len(fresh.actions)
        return len(fresh.actions)

    def fresh(self) -> Copies:
        """Return what is to be copied next; it waits for the disk."""
        return fresh_copies(self._machine, self._copied)

    async def bury(self, partition: int, next_place: int, letters: Sequence[DeadLetter]) -> None:
        """Write the dead letters of what stands in `partition` before `next_place`; again does nothing."""
        if self._buried.get(str(partition), 0) >= next_place:
            return
        buried = {**self._buried, str(partition): next_place}
        outgoing = []
        for letter in letters:
            limit_bytes = largest_record_bytes(dead_letter_name(letter.topic), self._settings)
            raw = dead_letter_record(letter, self._settings.partitions, limit_bytes=limit_bytes)
            outgoing.append(Outgoing(raw.topic, raw.partition, raw.value, raw.key, raw.headers))
        await self._write(outgoing, {_BURIED: msgspec.json.encode(buried)})
        self._buried = buried

    async def _write(self, outgoing: Sequence[Outgoing], changes: Mapping[str, bytes | None]) -> None:
        async with self._turn:
            rows = [
                Outgoing(self._state, _PARTITION, value, key)
                for key, value in self._records.rows(changes, Position(place=0))
            ]
            await self._writer.write([*outgoing, *rows])

    def _sealed(self, fresh: Copies) -> list[Outgoing]:
        by_partition: dict[int, list[Action]] = defaultdict(list)
        for action in fresh.actions:
            by_partition[partition_of(key_of_action(action), self._settings.partitions)].append(action)
        origin = Origin("act", "ledger", 0, sum(fresh.reached.values()))
        return [
            Outgoing(self._actions, partition, envelope.value, None, envelope.headers)
            for partition, actions in sorted(by_partition.items())
            for envelope in seal(actions, origin)
        ]

    async def stop(self) -> None:
        """Let go of the connection."""
        await self._writer.stop()
