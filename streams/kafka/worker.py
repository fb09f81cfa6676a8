"""One worker process: the runners of one stage, a watchdog, and an orderly end."""

import asyncio
import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from streams.assembly import assemble
from streams.kafka.act import ActRunner
from streams.kafka.admit import admit_stage
from streams.kafka.connection import reach_broker
from streams.kafka.faust_transport import Where
from streams.kafka.land_worker import LandWorker
from streams.kafka.normalise import normalise_stages
from streams.kafka.precedence import give_way
from streams.kafka.runner import StageRunner
from streams.kafka.scoring import ScoreRunner
from streams.kafka.topics import TopicAdmin
from streams.kafka.vitals import Watched, WorkerVitals, open_listener
from streams.kafka.watchdog import Judgement, Watchdog, unassigned_limit_s
from streams.listener import Listener
from streams.settings import Settings, SettingsError, WorkerSettings

_log = logging.getLogger("plumbline.kafka")
_SWITCH_S: Final = 0.001
"""How long a thread that steps may keep the interpreter from the loops that talk to the broker."""


class WorkerOptions(Struct, frozen=True, kw_only=True):
    """Who a worker is, and what somebody has allowed it.

    Parameters
    ----------
    instance_id
        Its name in its group, the same after a restart; empty: none.
    accept_loss
        Whether to go on where retention took records before they were read.
    accept_floods
        Partitions that may go on although too many of their records were bad.
    """

    instance_id: str = ""
    accept_loss: bool = False
    accept_floods: frozenset[Where] = frozenset()


class Runner(Watched, Protocol):
    """What a worker runs, and looks after."""

    async def start(self) -> None:
        """Begin."""

    async def ended(self) -> None:
        """Wait for the end; raise what caused it."""

    async def stop(self) -> None:
        """Finish what is at hand, and end."""


Build = Callable[[Settings, WorkerOptions], Sequence[Runner]]


def kafka_settings(settings: Settings) -> Settings:
    """Return `settings` with the topics' number of partitions, wherever partitions are counted."""
    journal = msgspec.structs.replace(settings.journal, partitions=settings.kafka.partitions)
    return msgspec.structs.replace(settings, journal=journal)


def _named(options: WorkerOptions) -> dict[str, Any]:
    return msgspec.structs.asdict(options)


def _stage(settings: Settings, stage: Any, options: WorkerOptions) -> StageRunner:
    return StageRunner(settings, stage, **_named(options))


def _normalise(settings: Settings, options: WorkerOptions) -> Sequence[Runner]:
    stages = normalise_stages(settings)
    if not stages:
        raise SettingsError("foreign: no topic is named: add [[foreign]] tables, or leave out normalise")
    return [_stage(settings, stage, options) for stage in stages]


def _admit(settings: Settings, options: WorkerOptions) -> Sequence[Runner]:
    return [_stage(settings, admit_stage(settings), options)]


def _score(settings: Settings, options: WorkerOptions) -> Sequence[Runner]:
    return [ScoreRunner(settings, **_named(options))]


def _detect(settings: Settings, options: WorkerOptions) -> Sequence[Runner]:
    return [_stage(settings, assemble(settings).detect, options)]


def _decide(settings: Settings, options: WorkerOptions) -> Sequence[Runner]:
    return [_stage(settings, assemble(settings).decide, options)]


def _act(settings: Settings, options: WorkerOptions) -> Sequence[Runner]:
    return [ActRunner(settings, instance_id=options.instance_id, accept_loss=options.accept_loss)]


def _land(settings: Settings, options: WorkerOptions) -> Sequence[Runner]:
    return [LandWorker(settings, instance_id=options.instance_id, accept_loss=options.accept_loss)]


BUILDERS: Final[Mapping[str, Build]] = {
    "normalise": _normalise,
    "admit": _admit,
    "score": _score,
    "detect": _detect,
    "decide": _decide,
    "act": _act,
    "land": _land,
}
"""What runs a stage, in the order in which a record passes them."""


class Watch:
    """Looks after the runners of a process: their watchdogs, and what answers for them on HTTP."""

    def __init__(self, watchdogs: Sequence[Watchdog], listener: Listener) -> None:
        self._watchdogs, self._listener = watchdogs, listener
        self.url = listener.url

    async def close(self) -> None:
        """Stop looking."""
        for watchdog in self._watchdogs:
            watchdog.stop()
        await self._listener.close()


async def watch(runners: Sequence[Runner], worker: WorkerSettings, stage: str) -> Watch:
    """Begin to look after `runners`; ``/metrics``, ``/healthz`` and ``/readyz`` are served from now on.

    Raises
    ------
    SettingsError, PortError
        If the address cannot be served.
    """
    listener = open_listener(worker, WorkerVitals(runners, stuck_after_s=worker.stuck_after_s))
    await listener.start()
    _log.info("%s works; it tells how it is at %s/metrics", stage, listener.url)
    watchdogs = [_watchdog(runner, worker) for runner in runners]
    for watchdog in watchdogs:
        watchdog.start()
    return Watch(watchdogs, listener)


def _watchdog(runner: Runner, worker: WorkerSettings) -> Watchdog:
    judgement = Judgement(
        stuck_after_s=worker.stuck_after_s, unassigned_after_s=unassigned_limit_s(worker.session_s)
    )
    return Watchdog(lambda: runner.read().look, judgement, part=runner.stage)


async def work(settings: Settings, stage: str, options: WorkerOptions, stop: asyncio.Event) -> None:
    """Run a stage until `stop` is set or something ends it.

    Raises
    ------
    SettingsError
        If the settings cannot be used for `stage`.
    BrokerError, UnusableStateError, FloodError and others
        What ended it; the text is one line with the remedy.
    TimeoutError
        If it could not end within ``worker.drain_s`` seconds: what was not committed is read again.
    """
    settings = kafka_settings(settings)
    await asyncio.to_thread(_check_topics, settings)
    runners = BUILDERS[stage](settings, options)
    stopping = asyncio.create_task(stop.wait())
    started: list[Runner] = []
    watches: list[Watch] = []
    try:
        for runner in runners:
            if not await _start(runner, stopping):
                break
            started.append(runner)
        watches.append(await watch(started, settings.worker, stage))
        # What is there now stays. A collection that looked at it again would stop all for 60 ms.
        gc.collect()
        gc.freeze()
        waits = [stopping, *(asyncio.create_task(runner.ended()) for runner in started)]
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except BaseException:
        with suppress(Exception):  # what ended it is known, and is what is told
            await _drain(started, watches, settings.worker.drain_s)
        raise
    finally:
        stopping.cancel()
    await _drain(started, watches, settings.worker.drain_s)


async def _drain(started: Sequence[Runner], watches: Sequence[Watch], drain_s: float) -> None:
    async with asyncio.timeout(drain_s):
        await asyncio.gather(*[one.close() for one in watches])
        await asyncio.gather(*[runner.stop() for runner in started])


async def _start(runner: Runner, stopping: asyncio.Task[Any]) -> bool:
    """Start `runner`; return False if it was told to stop before it could."""
    starting = asyncio.create_task(runner.start())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        return False
    starting.result()
    return True


def _check_topics(settings: Settings) -> None:
    reach_broker(settings.kafka)
    with TopicAdmin(settings.kafka, settings.foreign) as admin:
        admin.check()


def run_worker(
    settings: Settings, stage: str, options: WorkerOptions, *, until: Callable[[], object] | None = None
) -> None:
    """Run a stage in this process until SIGTERM or SIGINT, or until `until` returns; raises as `work`."""
    import uvloop  # noqa: PLC0415 - a loop for workers, not needed by the embedded monitor

    sys.setswitchinterval(_SWITCH_S)
    give_way(stage)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(_run_until_signal(settings, stage, options, until))


async def _run_until_signal(
    settings: Settings, stage: str, options: WorkerOptions, until: Callable[[], object] | None
) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if until is not None:
        threading.Thread(target=_tell_end, args=(until, loop, stop), daemon=True).start()
    await work(settings, stage, options, stop)


def _tell_end(until: Callable[[], object], loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    until()
    with suppress(RuntimeError):  # the loop may be closed
        loop.call_soon_threadsafe(stop.set)
