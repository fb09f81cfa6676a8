"""``/healthz``, ``/readyz`` and ``/metrics``: what an orchestrator and a scraper ask."""

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route


class Gauge(Struct, frozen=True):
    """One reading: name without prefix, help, label names, and values by label values."""

    name: str
    help: str
    labels: tuple[str, ...]
    values: Mapping[tuple[str, ...], float]
    is_counter: bool = False


class Health(Struct, frozen=True):
    """What is wrong, by part; nothing is well."""

    problems: Mapping[str, str]


def health_routes(
    *, alive: Callable[[], Health], ready: Callable[[], Health], read: Callable[[], Iterable[Gauge]]
) -> list[BaseRoute]:
    """Return the three routes; `alive`, `ready` and `read` are called in a thread for every request."""
    registry = CollectorRegistry()
    registry.register(_Readings(read))

    def answer(health: Health) -> Response:
        body = {"ok": not health.problems, "problems": dict(health.problems)}
        return JSONResponse(body, status_code=503 if health.problems else 200)

    async def healthz(_request: Request) -> Response:
        return answer(await run_in_threadpool(alive))

    async def readyz(_request: Request) -> Response:
        return answer(await run_in_threadpool(ready))

    async def metrics(_request: Request) -> Response:
        return Response(
            await run_in_threadpool(generate_latest, registry), media_type=CONTENT_TYPE_PLAIN_1_0_0
        )

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


class _Readings(Collector):
    def __init__(self, read: Callable[[], Iterable[Gauge]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        for reading in self._read():
            kind = CounterMetricFamily if reading.is_counter else GaugeMetricFamily
            family = kind(f"plumbline_{reading.name}", reading.help, labels=reading.labels)
            for labels, value in sorted(reading.values.items()):
                family.add_metric(list(labels), value)
            yield family

    def describe(self) -> Iterable[Metric]:
        return ()
