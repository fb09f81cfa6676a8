"""What acting and landing tell of themselves; a stage does so itself."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from streams.health import Gauge
from streams.kafka.envelope import split_place
from streams.kafka.errors import BrokerError
from streams.kafka.vitals import Reading, Values, Where
from streams.kafka.watchdog import Look, is_behind

if TYPE_CHECKING:
    from streams.kafka.act import ActRunner
    from streams.kafka.faust_transport import ConsumerApp
    from streams.kafka.landing import Lander

_MEASURE_EVERY_S: Final = 2.0
_SLOW_ROUND_S: Final = 120.0
_OPEN: Final = ("DECIDED", "EXECUTING", "VERIFYING")


class EndMeter:
    """Asks for the ends of the partitions that a consumer has, again and again; to be made in its loop.

    Who looks at a worker must not wait for a broker or a disk: what they say is kept here.

    Parameters
    ----------
    app
        The consumer.
    also
        Called every time, for what else is to be kept.
    """

    def __init__(self, app: "ConsumerApp", also: Callable[[], Awaitable[None]] | None = None) -> None:
        self._app, self._also = app, also
        self.ends: dict[Where, int] = {}
        self._task = asyncio.create_task(self._measure())

    async def _measure(self) -> None:
        while True:
            with suppress(BrokerError):  # a broker that is away shows as no progress
                bounds = await self._app.bounds(self._app.assignment())
                self.ends = {where: end for where, (_, end) in bounds.items()}
            if self._also is not None:
                await self._also()
            await asyncio.sleep(_MEASURE_EVERY_S)

    def stop(self) -> None:
        """Stop asking."""
        self._task.cancel()


def read_act(runner: "ActRunner", topic: str, ends: Mapping[Where, int]) -> Reading:
    """Return what the act worker, which reads `topic`, tells of itself."""
    positions, ages = runner.app.positions(), runner.tasks.round_ages()
    reached = {
        (topic, part): max(split_place(place)[0], positions.get((topic, part), 0))
        for part, place in runner.intake.places.copy().items()
    }
    slow = [name for name, age_s in sorted(ages.items()) if age_s > _SLOW_ROUND_S]
    return Reading(
        look=Look(
            assigned=bool(reached),
            behind=is_behind(ends, reached, heard_s=runner.app.heard_s),
            waiting=False,
            moved=runner.intake.progress_s,
            placed=runner.app.placed,
        ),
        progress_age_s=time.monotonic() - runner.intake.progress_s,
        ends=ends,
        reached=reached,
        rebalances=runner.app.rebalances,
        refetches=runner.app.refetches,
        problem=f"{slow[0]}: its last round ended {ages[slow[0]]:.0f} s ago" if slow else "",
        more=tuple(_act_readings(runner, ages)),
    )


def _act_readings(runner: "ActRunner", ages: Mapping[str, float]) -> Iterable[Gauge]:
    notices, acts = runner.counts
    waiting: Values = {(state,): float(notices.get(state, 0)) for state in ("pending", "dead")}
    yield Gauge("notices", "Pages that wait for delivery, or that nobody took.", ("state",), waiting)
    opened = float(sum(acts.get(state, 0) for state in _OPEN))
    states: Values = {("open",): opened, ("failed",): float(acts.get("FAILED", 0))}
    yield Gauge("acts", "Rollbacks under way, or that did not work.", ("state",), states)
    copied: Values = {("act",): float(runner.copies.written)}
    yield Gauge("actions_copied", "Actions copied since the start.", ("stage",), copied, True)
    rounds: Values = {(name,): age_s for name, age_s in ages.items()}
    yield Gauge("round_age_seconds", "Seconds since the last round of a loop ended.", ("loop",), rounds)


def read_land(lander: "Lander", app: "ConsumerApp", ends: Mapping[Where, int]) -> Reading:
    """Return what landing tells of itself."""
    landed = lander.landed()
    behind = is_behind(ends, landed, heard_s=app.heard_s)
    return Reading(
        look=Look(
            assigned=bool(landed),
            behind=behind,
            waiting=bool(lander.problem),
            moved=lander.progress_s,
            placed=app.placed,
        ),
        progress_age_s=time.monotonic() - lander.progress_s,
        ends=ends,
        reached=landed,
        rebalances=app.rebalances,
        refetches=app.refetches,
        problem=lander.problem,
        more=tuple(_land_readings(lander)),
    )


def _land_readings(lander: "Lander") -> Iterable[Gauge]:
    counts = lander.counts
    for name, meaning, label, values in (
        ("landed_rows", "Rows stored since the start.", "table", counts.rows),
        ("unreadable_records", "Kafka records without records of ours.", "topic", counts.unreadable),
        ("land_lost_offsets", "Offsets that retention took before they landed.", "topic", counts.lost),
    ):
        labelled: Values = {(key,): float(value) for key, value in values.copy().items()}
        yield Gauge(name, meaning, (label,), labelled, True)
    ranges: Values = {("landed",): float(counts.ranges), ("repeated",): float(counts.repeated)}
    yield Gauge("land_ranges", "Ranges stored, and those begun before.", ("kind",), ranges, True)
