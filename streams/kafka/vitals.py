"""Whether a worker is well: ``/healthz``, ``/readyz`` and ``/metrics`` of one stage on Kafka."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.middleware import Middleware

from detectors.stages.score import WATERMARK
from streams.door.http import is_loopback
from streams.guard import TokenGuard, host_guards
from streams.health import Gauge, Health, health_routes
from streams.kafka.watchdog import Look
from streams.listener import Listener, bind
from streams.settings import SettingsError, WorkerSettings, read_secret

Where = tuple[str, int]
Values = dict[tuple[str, ...], float]
_STATM: Final = Path("/proc/self/statm")
_ENDS_KEPT: Final = 600


class Reading(Struct, frozen=True):
    """What a worker tells of itself at one moment.

    Parameters
    ----------
    look
        As for its watchdog.
    progress_age_s
        Seconds since its last commit, or its start.
    ends, reached
        By topic and partition: the log's end, and the offset below which nothing is left to do.
    rebalances, refetches
        How often partitions were assigned, and how often a fetch that never came was made again.
    problem
        What it knows to be wrong; empty for nothing.
    more
        Readings of this kind of worker only.
    """

    look: Look
    progress_age_s: float
    ends: Mapping[Where, int]
    reached: Mapping[Where, int]
    rebalances: int = 0
    refetches: int = 0
    problem: str = ""
    more: tuple[Gauge, ...] = ()


class Watched(Protocol):
    """A worker that can be looked at, from any thread."""

    stage: str

    def read(self) -> Reading:
        """Return what it tells of itself."""
        ...


@runtime_checkable
class Thinking(Protocol):
    """What a thinking stage has beside."""

    commits: int

    @property
    def states(self) -> Mapping[int, Any]:
        """The live state, by partition."""
        ...


class LagClock:
    """Says how old the oldest record is that was not dealt with, from the ends of the log as they grew.

    What was there before the first look counts from then on: after a restart into a backlog the age begins at
    zero and grows until the backlog is gone.

    Examples
    --------
    >>> clock = LagClock()
    >>> [clock.age_s(end, reached, now_s) for end, reached, now_s in ((0, 0, 0), (5, 0, 10), (9, 4, 12))]
    [0.0, 0, 2]
    >>> clock.age_s(9, 5, 13)
    1
    """

    def __init__(self) -> None:
        self._ends: deque[tuple[int, float]] = deque(maxlen=_ENDS_KEPT)

    def age_s(self, end: int, reached: int, now_s: float) -> float:
        """Return for how many seconds something at or after `reached` has waited."""
        if end > reached and (not self._ends or end > self._ends[-1][0]):
            self._ends.append((end, now_s))
        while self._ends and self._ends[0][0] <= reached:
            self._ends.popleft()
        return now_s - self._ends[0][1] if self._ends else 0.0


class WorkerVitals:
    """Looks at the runners of one worker; called from any thread.

    Parameters
    ----------
    watched
        What runs in it: one, or several of one stage.
    stuck_after_s
        After half of it without a commit, with something to read, the worker is not ready.
    failure
        Returns why the process should exit; empty while it need not.
    clock
        Seconds that never jump.
    """

    def __init__(
        self,
        watched: Sequence[Watched],
        *,
        stuck_after_s: float,
        failure: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched, self._stuck_after_s = tuple(watched), stuck_after_s
        self._failure, self._clock = failure, clock
        self._lags: dict[Where, LagClock] = {}

    def alive(self) -> Health:
        """Return what only a restart can mend."""
        failure = self._failure()
        return Health({"process": failure} if failure else {})

    def ready(self) -> Health:
        """Return what keeps records from being worked on now."""
        problems = {"process": self._failure()}
        for watched in self._watched:
            reading = watched.read()
            problems[watched.stage] = problems.get(watched.stage, "") or self._problem_of(reading)
        return Health({part: problem for part, problem in problems.items() if problem})

    def _problem_of(self, reading: Reading) -> str:
        if reading.problem:
            return reading.problem
        if not reading.look.assigned:
            return "no partition is assigned"
        if reading.look.behind and reading.progress_age_s > self._stuck_after_s / 2:
            return f"nothing was committed for {reading.progress_age_s:.0f} s"
        return ""

    def read(self) -> Iterable[Gauge]:
        """Return the readings of ``/metrics``, each name once."""
        found: dict[str, Gauge] = {}
        for watched in self._watched:
            readings = [*self._readings_of(watched.stage, watched.read())]
            if isinstance(watched, Thinking):
                readings += _state_readings(watched.stage, watched.states)
                commits: Values = {(watched.stage,): float(watched.commits)}
                readings.append(
                    Gauge("stage_transactions", "Transactions since the start.", ("stage",), commits, True)
                )
            for gauge in readings:
                before = found.get(gauge.name)
                if before is not None:
                    gauge = msgspec.structs.replace(gauge, values={**before.values, **gauge.values})  # noqa: PLW2901
                found[gauge.name] = gauge
        memory: Values = {(): _resident_bytes()}
        found["resident_bytes"] = Gauge("resident_bytes", "Memory of the process.", (), memory)
        return found.values()

    def _readings_of(self, stage: str, reading: Reading) -> Iterable[Gauge]:
        yield from self._lag_readings(stage, reading)
        partitions: Values = {(stage,): float(len(reading.reached))}
        yield Gauge("assigned_partitions", "Partitions this worker has.", ("stage",), partitions)
        age: Values = {(stage,): reading.progress_age_s}
        yield Gauge("progress_age_seconds", "Seconds since the last commit.", ("stage",), age)
        rebalances: Values = {(stage,): float(reading.rebalances)}
        yield Gauge("rebalances", "How often partitions were assigned.", ("stage",), rebalances, True)
        refetches: Values = {(stage,): float(reading.refetches)}
        yield Gauge("refetches", "Fetches that never came and were repeated.", ("stage",), refetches, True)
        yield from reading.more

    def _lag_readings(self, stage: str, reading: Reading) -> Iterable[Gauge]:
        records: Values = {}
        seconds: Values = {}
        reached: Values = {}
        now_s = self._clock()
        for where, offset in reading.reached.items():
            labels = (stage, where[0], str(where[1]))
            end = reading.ends.get(where, offset)
            records[labels] = float(max(0, end - offset))
            seconds[labels] = self._lags.setdefault(where, LagClock()).age_s(end, offset, now_s)
            reached[labels] = float(offset)
        names = ("stage", "topic", "partition")
        yield Gauge("stage_lag_records", "Kafka offsets that were not dealt with.", names, records)
        yield Gauge("stage_lag_seconds", "How long the oldest of them has waited.", names, seconds)
        yield Gauge("stage_offset", "Below it all is dealt with: landed, for landing.", names, reached)


def _state_readings(stage: str, states: Mapping[int, Any]) -> Iterable[Gauge]:
    aside: Values = {}
    watermarks: Values = {}
    for part, state in states.items():
        for kind, by_deployment in getattr(state, "counts", {}).items():
            for deployment, count in by_deployment.items():
                aside[stage, str(part), kind, deployment] = float(count)
        if stage == "score" and (mark := state.get(WATERMARK)) is not None:
            watermarks[str(part),] = float(mark)
    labels = ("stage", "partition", "kind", "deployment")
    yield Gauge(
        "set_aside_records",
        "Late records, streams and segment values over their bound, faults of scorers and rules.",
        labels,
        aside,
        True,
    )
    if watermarks:
        yield Gauge("watermark_ms", "Event time reached by scoring.", ("partition",), watermarks)


def _resident_bytes() -> float:
    """Return the memory of this process; 0 where the system does not tell it."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def require_worker_token(settings: WorkerSettings) -> str:
    """Return the token that readers of the metrics must send, empty for none.

    Raises
    ------
    SettingsError
        If they are served beyond this machine and there is no token, or it cannot be read.
    """
    token = read_secret(env=settings.token_env, file=settings.token_file, what="worker token")
    if not token and not is_loopback(settings.metrics_host):
        raise SettingsError(
            "worker: metrics are served beyond this machine and have no token; set worker.token_env or "
            "worker.token_file, or worker.metrics_host to 127.0.0.1"
        )
    return token


def open_listener(settings: WorkerSettings, vitals: WorkerVitals) -> Listener:
    """Return what serves `vitals`; it has its port, and begins with :meth:`~streams.listener.Listener.start`.

    Raises
    ------
    SettingsError
        If a token is needed and there is none.
    PortError
        If the port is taken.
    """
    token = require_worker_token(settings)
    guards = [Middleware(TokenGuard, token=token)] if token else host_guards(settings.metrics_host)
    routes = health_routes(alive=vitals.alive, ready=vitals.ready, read=vitals.read)
    bound = bind(settings.metrics_host, settings.metrics_port, setting="worker.metrics_port")
    return Listener(Starlette(routes=routes, middleware=guards), bound)
