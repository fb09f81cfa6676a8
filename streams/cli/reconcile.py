"""``plumbline reconcile``: the standing audit of what flowed over Kafka."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streams.cli.failure import one_line, told_in_one_line
from streams.cli.run import CONFIG
from streams.kafka.errors import BrokerError
from streams.kafka.reconcile_report import UNTOLD, Report
from streams.settings import Settings, SettingsError, load_settings, read_secret
from streams.store import Reader, StoreError, open_reader

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Age(click.ParamType):
    """A time span as a number with its unit: 90s, 30m, 24h, 7d; returned in seconds."""

    name = "AGE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds of `value`."""
        text = str(value)
        if not text[:-1].isdigit() or text[-1:] not in _UNITS:
            self.fail(f"{text!r} is not a number with s, m, h or d behind it", param, ctx)
        return float(int(text[:-1]) * _UNITS[text[-1]])


@click.command()
@CONFIG
@click.option(
    "--since", type=Age(), default="24h", show_default=True, help="Compare what is not older than this."
)
@click.option("--full", is_flag=True, help="Compare all that the log still has.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--every", type=click.FloatRange(min=1), metavar="SECONDS", help="Repeat, until told to stop.")
@click.option("--metrics-port", type=click.IntRange(0, 65_535), help="With --every: serve /metrics here.")
@told_in_one_line
def reconcile(  # noqa: PLR0917 - click hands options over by position
    config: Path | None,
    since: float,
    full: bool,
    as_json: bool,
    every: float | None,
    metrics_port: int | None,
) -> None:
    """Compare log, commits, states and stored rows, record by record; nothing is changed.

    Told are, per partition: rows lost, doubled and stray with examples of their places (topic/partition
    @offset#index), gaps that retention made, and commits that do not fit. It may run beside everything else.
    The store is asked at [land] dsn, or at the [clickhouse_door] of the landing worker as a reader.

    \b
      plumbline reconcile -c plumbline.toml
      plumbline reconcile -c plumbline.toml --full --json
      plumbline reconcile -c plumbline.toml --every 60 --metrics-port 9464

    Exit code 0: all is there once. 1: something differs. 2: it cannot be told, or not of everything.
    """  # noqa: D301 - click wants the character itself
    settings = load_settings(config)
    since_s = None if full else since
    if every is None:
        report = _told_or_untold(lambda: audit(settings, since_s, shown=not as_json))
        click.echo(_json(report) if as_json else "\n".join(report.lines()))
        raise SystemExit(report.exit_code())
    asyncio.run(_repeat(settings, since_s, every, metrics_port))


def audit(settings: Settings, since_s: float | None, *, shown: bool) -> Report:
    """Return the report of one reconciliation; `shown` with a progress bar, where there is a terminal.

    Raises
    ------
    SettingsError, BrokerError, StoreError
        If the brokers or the store cannot be asked.
    """
    try:
        from streams.kafka.reconcile import Reconciler  # noqa: PLC0415 - an optional part
        from streams.kafka.reconcile_log import ClusterReader  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError('Kafka needs its clients: pip install "plumbline[kafka]"') from error
    since_ms = None if since_s is None else round((time.time() - since_s) * 1000)
    with contextlib.closing(open_audited_store(settings)) as store, _progress(shown) as progress:
        bar = progress.add_task("offsets", total=None)
        with ClusterReader(settings.kafka) as cluster:
            return Reconciler(
                settings.kafka,
                cluster,
                store,
                since_ms=since_ms,
                announce=lambda total: progress.update(bar, total=total),
                advance=lambda done: progress.advance(bar, done),
            ).run()


def open_audited_store(settings: Settings) -> Reader:
    """Return a reader of the store that landing writes to; raises SettingsError where there is no way in."""
    land, door = settings.land, settings.clickhouse_door
    if land.dsn:
        password = read_secret(env=land.password_env, what="store password")
        return open_reader(dsn=land.dsn, password=password, database=land.database)
    token = read_secret(
        env=door.reader_token_env, file=door.reader_token_file, what="[clickhouse_door] reader_token"
    )
    if not door.enabled or not door.port or not token:
        raise SettingsError(
            "reconcile: the embedded store belongs to the landing worker: enable its [clickhouse_door], with "
            "a port and a reader token, or set [land] dsn"
        )
    host = f"[{door.host}]" if ":" in door.host else door.host
    return open_reader(dsn=f"http://reconcile@{host}:{door.port}", password=token, database=land.database)


def _told_or_untold(work: Callable[[], Report]) -> Report:
    try:
        return work()
    except (BrokerError, StoreError) as error:
        _end(error)


def _end(error: Exception) -> NoReturn:
    click.echo(f"plumbline: {one_line(str(error))}", err=True)
    raise SystemExit(UNTOLD)


def _json(report: Report) -> str:
    return msgspec.json.encode({**msgspec.to_builtins(report), "exit_code": report.exit_code()}).decode()


def _progress(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not shown or not sys.stderr.isatty(),
    )


async def _repeat(settings: Settings, since_s: float | None, every_s: float, port: int | None) -> None:
    """Audit until a signal; serve the readings if `port` is given."""
    from streams.kafka.reconcile_loop import AuditLoop  # noqa: PLC0415 - an optional part

    loop = AuditLoop(
        lambda: audit(settings, since_s, shown=False),
        every_s=every_s,
        tell=lambda text: click.echo(one_line(text)),
    )
    running = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        running.add_signal_handler(number, loop.stop)
    listener = None if port is None else loop.listener(settings.worker, port)
    if listener is not None:
        await listener.start()
        click.echo(f"metrics  {listener.url}/metrics")
    try:
        await loop.run()
    finally:
        if listener is not None:
            await listener.close()
