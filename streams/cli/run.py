"""``plumbline run``: the embedded monitor, until it is told to stop."""

import asyncio
import logging
import signal
from pathlib import Path

import click
import msgspec

from streams.cli.failure import FAILED, one_line, told_in_one_line
from streams.monitor import Monitor
from streams.settings import Settings, load_settings

CONFIG = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML configuration; without it the defaults hold (see `plumbline check --defaults`).",
)
DATA_DIR = click.option(
    "--data-dir", help="Where everything is kept (default: the configuration's data_dir)."
)


def settings_from(config: Path | None, data_dir: str | None) -> Settings:
    """Return the settings of `config`, with `data_dir` put in its place if given."""
    settings = load_settings(config)
    return msgspec.structs.replace(settings, data_dir=data_dir) if data_dir else settings


@click.command()
@CONFIG
@DATA_DIR
@click.option("--port", type=click.IntRange(0, 65_535), help="Listen on this port instead (0: any free one).")
@told_in_one_line
def run(config: Path | None, data_dir: str | None, port: int | None) -> None:
    """Run the monitor in this process: no Kafka, no server, no key.

    Send interactions to POST /v1/interactions (one JSON object, or NDJSON); the page is at /. Ctrl-C or
    SIGTERM drains and stops; kill -9 at any moment loses nothing that was answered 202.

    \b
      plumbline run &
      curl http://127.0.0.1:8321/v1/interactions -H 'Content-Type: application/json' -d '{"id": "1",
        "deployment": "support", "release": "2.4", "prompt": "How?", "response": "Like this."}'

    Exit code 0: told to stop; 1: it failed, and one line says why; 2: the configuration is wrong.
    """  # noqa: D301 - click wants the character itself
    settings = settings_from(config, data_dir)
    if port is not None:
        settings = msgspec.structs.replace(settings, door=msgspec.structs.replace(settings.door, port=port))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    failure = asyncio.run(serve(settings))
    if failure:
        click.echo(f"plumbline: {one_line(failure)}", err=True)
        raise SystemExit(FAILED)


async def serve(settings: Settings) -> str:
    """Run the monitor until a signal or a failure; return the failure, empty for none."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Monitor(settings) as monitor:
        click.echo(f"door  {monitor.door_url}/v1/interactions\npage  {monitor.page_url}")
        waiting = [asyncio.create_task(stop.wait()), asyncio.create_task(monitor.failed.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        return monitor.failure
