"""Partitions of a stage are opened: who had them is fenced, their state is read, their position checked."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final

import msgspec

from streams.kafka.envelope import place_of, split_place
from streams.kafka.errors import BrokerError
from streams.kafka.faust_transport import ConsumerApp, Where
from streams.kafka.layout import state_place
from streams.kafka.port import Lane, PortSettings
from streams.kafka.state_records import Position, StateFormatError, StateRecords
from streams.kafka.topics import TopicAdmin
from streams.kafka.transactions import TransactionalWriter, read_partitions
from streams.settings import Settings
from streams.stage_loop import UnusableStateError

_OPEN_S: Final = 180.0
_START_OVER: Final = (
    "run the version that wrote it, or stop the stage and delete and make again its state topic: "
    "it then begins at the start of its source, and what it wrote before is written twice"
)


class LaneOpener:
    """Opens partitions of one stage, all at once.

    Parameters
    ----------
    settings
        ``kafka`` and ``foreign`` are read here.
    about
        The stage, its source and its group.
    app
        Its member of the group.
    accept_loss
        Whether to go on where records were lost by retention.

    Attributes
    ----------
    lost
        Offsets passed by because they were gone.
    """

    def __init__(
        self, settings: Settings, about: PortSettings, app: ConsumerApp, *, accept_loss: bool
    ) -> None:
        self._settings, self._about, self._app, self._accept_loss = settings, about, app, accept_loss
        self.lost = 0

    async def open(self, places: Sequence[Where]) -> list[Lane]:
        """Fence whoever had `places`, then read what they committed.

        Whoever cancels this, or whom it fails, is left with no writer that lives on.

        Raises
        ------
        BrokerError
            If no broker answers, it refuses, or records were lost; the text names the remedy.
        UnusableStateError
            If state was written by another version, or does not fit the log.
        """
        kafka, group = self._settings.kafka, self._about.group
        writers = {where: TransactionalWriter(kafka, f"{group}.{where[1]}") for where in places}
        try:
            async with asyncio.timeout(_OPEN_S):
                await _all_of(writer.start() for writer in writers.values())
                return await self._read(writers)
        except BaseException as error:
            await stop_writers(writers.values())
            if isinstance(error, TimeoutError):
                raise BrokerError(
                    f"kafka: group {group}: partitions cannot be opened within {_OPEN_S:.0f} s: "
                    "see the broker's log"
                ) from error
            raise

    async def _read(self, writers: dict[Where, TransactionalWriter]) -> list[Lane]:
        kafka, about = self._settings.kafka, self._about
        states = {where: state_place(about.stage, *where, kafka) for where in writers}
        rows = await read_partitions(kafka, {(topic, part) for topic, part, _ in states.values()})
        ids = await asyncio.to_thread(self._topic_ids)
        committed, bounds = await self._app.committed([*writers]), await self._app.bounds(writers)
        lanes = []
        for where, writer in writers.items():
            topic, part, prefix = states[where]
            try:
                records = StateRecords(rows[topic, part], prefix)
            except StateFormatError as error:
                raise unusable_state(topic, part, error) from error
            records.position = self._checked(
                where, records.position, committed[where], bounds[where], ids.get(where[0], "")
            )
            lanes.append(Lane(about, where[1], records, writer))
        return lanes

    def _topic_ids(self) -> dict[str, str]:
        with TopicAdmin(self._settings.kafka, self._settings.foreign) as admin:
            return admin.ids()

    def _checked(
        self,
        where: Where,
        position: Position | None,
        committed: tuple[int, str] | None,
        bounds: tuple[int, int],
        topic_id: str,
    ) -> Position:
        """Return where to begin: behind what was lost, if that is accepted."""
        name, (start, end) = f"{where[0]}/{where[1]}", bounds
        wanted = None if position is None else split_place(position.place)[0]
        if position is not None and wanted is not None:
            anew = bool(position.topic_id) and bool(topic_id) and position.topic_id != topic_id
            if anew or wanted > end:
                why = "it was deleted and made again" if anew else f"it ends at {end}"
                raise UnusableStateError(
                    f"kafka: {name} is not what {self._about.stage} has read up to offset {wanted} ({why}): "
                    f"put that back, or stop the stage, delete its state topic and group {self._about.group} "
                    "and make the state topic again: it then begins at the start"
                )
        if committed is not None and (wanted is None or committed[0] > wanted):
            raise UnusableStateError(
                f"kafka: group {self._about.group} is at offset {committed[0]} of {name}, and its state at "
                f"{'none' if wanted is None else wanted}: state was deleted, or another commits; put the "
                "state topic back, or delete the group to begin at the start of the source"
            )
        if position is None or wanted is None:
            return Position(place=place_of(start), topic_id=topic_id)
        place = position.place
        if wanted < start:
            self._pass_by(name, wanted, start)
            place = place_of(start)
        return msgspec.structs.replace(position, place=place, topic_id=topic_id or position.topic_id)

    def _pass_by(self, name: str, wanted: int, start: int) -> None:
        if not self._accept_loss:
            raise BrokerError(
                f"kafka: offsets {wanted} to {start - 1} of {name} are gone by retention, unread by "
                f"{self._about.stage}: they are lost; raise kafka.retention_s, and go on with --accept-loss"
            )
        self.lost += start - wanted


async def _all_of(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all at once; when one fails, or this is cancelled, none of them goes on."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def unusable_state(topic: str, partition: int, why: Any) -> UnusableStateError:
    """Return the error of a state that cannot be used, with where it stands and the remedy."""
    return UnusableStateError(
        f"kafka: the state in {topic}/{partition} cannot be used ({why}): {_START_OVER}"
    )


async def stop_writers(writers: Iterable[TransactionalWriter]) -> None:
    """Close all of `writers`; what is open is left to the broker and the next writers."""
    await asyncio.gather(*[writer.stop() for writer in writers], return_exceptions=True)
