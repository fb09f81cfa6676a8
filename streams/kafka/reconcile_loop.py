"""The audit again and again, with its readings for Prometheus."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware

from streams.guard import TokenGuard, host_guards
from streams.health import Gauge, Health, health_routes
from streams.kafka.errors import BrokerError
from streams.kafka.reconcile_report import CLEAN, Report, readings
from streams.kafka.vitals import require_worker_token
from streams.listener import Listener, bind
from streams.settings import WorkerSettings
from streams.store_connection import StoreError


class AuditLoop:
    """Audits until stopped; an audit that cannot be finished is counted, and tried again.

    Parameters
    ----------
    work
        One audit; called in a thread.
    every_s
        Seconds between the end of one and the beginning of the next.
    tell
        Called with a line about each audit that is not clean.
    """

    def __init__(self, work: Callable[[], Report], *, every_s: float, tell: Callable[[str], None]) -> None:
        self._work, self._every_s, self._tell = work, every_s, tell
        self._stopped = asyncio.Event()
        self._report: Report | None = None
        self._failures, self._problem = 0, ""

    async def run(self) -> None:
        """Audit until :meth:`stop`."""
        while not self._stopped.is_set():
            try:
                self._report = await asyncio.to_thread(self._work)
                self._problem = ""
                if self._report.exit_code() != CLEAN:
                    for line in self._report.lines():
                        self._tell(line)
            except (BrokerError, StoreError) as error:
                self._failures += 1
                self._problem = str(error)
                self._tell(self._problem)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._stopped.wait()

    def stop(self) -> None:
        """End after the audit at hand."""
        self._stopped.set()

    def read(self) -> Iterable[Gauge]:
        """Return the readings of the last audit."""
        return readings(self._report, failures=self._failures)

    def listener(self, settings: WorkerSettings, port: int) -> Listener:
        """Return what serves the readings at `port`; raises SettingsError and PortError."""
        settings = msgspec.structs.replace(settings, metrics_port=port)
        token = require_worker_token(settings)
        guards = [Middleware(TokenGuard, token=token)] if token else host_guards(settings.metrics_host)
        routes = health_routes(alive=lambda: Health({}), ready=self._health, read=self.read)
        bound = bind(settings.metrics_host, port, setting="--metrics-port")
        return Listener(Starlette(routes=routes, middleware=guards), bound)

    def _health(self) -> Health:
        return Health({"audit": self._problem} if self._problem else {})
