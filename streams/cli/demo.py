"""``plumbline demo``: a seeded regression is caught, paged, rolled back and verified, on this machine."""

import asyncio
import base64
import logging
import secrets
import shutil
import signal
import time
from pathlib import Path

import click
from rich.console import Console

from streams.cli.failure import FAILED, told_in_one_line
from streams.demo.driver import Plan, drive
from streams.demo.gateway import Gateway
from streams.demo.outcome import STABLE, Mode, Outcome
from streams.demo.story import Story
from streams.embedded.errors import StorageError
from streams.embedded.lock import lock_directory
from streams.listener import Listener, bind
from streams.monitor import Monitor
from streams.settings import (
    ActSettings,
    DetectSettings,
    DoorSettings,
    LandSettings,
    Settings,
)

_MARK = "made-by-plumbline-demo"


@click.command()
@click.option("--seed", type=int, default=7, show_default=True, help="Of the traffic and the routing.")
@click.option("--healthy", is_flag=True, help="Release 2.4 behaves like 2.3: nothing must be rolled back.")
@click.option("--in-place", is_flag=True, help="No canary: 2.4 replaces 2.3 at once. Pages, never mutates.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("plumbline-demo"),
    show_default=True,
    help="Where the demonstration keeps its data; emptied first.",
)
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, help="Of the page (default: any free one)."
)
@click.option(
    "--speed", type=click.FloatRange(min=1), help="Event time runs so many times faster than the wall clock."
)
@click.option("--keep", is_flag=True, help="Keep the page open afterwards, until Ctrl-C.")
@told_in_one_line
def demo(  # noqa: PLR0917 - click hands options over by position
    seed: int, healthy: bool, in_place: bool, data_dir: Path, port: int, speed: float | None, keep: bool
) -> None:
    """Watch a regression being caught, paged, rolled back and verified.

    A support assistant's release 2.4 begins as a 20 % canary at a known moment. It over-refuses, answers
    some users in the wrong language and sounds certain where it should hedge, each by at most 10 points, so
    that no single answer proves it. A stand-in gateway shifts the traffic when it is called.

    Event time runs as fast as the machine can score, and the response machine's clock is event time. The
    exit code is computed from the ledger and the gateway's log: 0 if the story ended as it must, else 1.

    \b
      plumbline demo
      plumbline demo --healthy --seed 11
      plumbline demo --keep --speed 600
    """  # noqa: D301 - click wants the character itself
    if healthy and in_place:
        raise click.UsageError("--healthy and --in-place exclude each other")
    mode: Mode = "healthy" if healthy else "in_place" if in_place else "canary"
    logging.getLogger("plumbline").addHandler(logging.NullHandler())
    outcome = asyncio.run(_demonstrate(mode, seed, data_dir, port, speed, keep=keep))
    raise SystemExit(0 if outcome.ok else FAILED)


async def _demonstrate(
    mode: Mode, seed: int, data_dir: Path, port: int, speed: float | None, *, keep: bool
) -> Outcome:
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    secret_file = _empty(data_dir) / "gateway.secret"
    secret_file.touch(mode=0o600)
    secret_file.write_text(secret, encoding="ascii")
    gateway = Gateway(secret=secret, deployment="support", shares={STABLE: 1.0}, seed=seed)
    listener = Listener(gateway.app(), bind("127.0.0.1", 0))
    await listener.start()
    plan = Plan(mode=mode, seed=seed, start_ms=0, speed=speed)
    now_ms = time.time_ns() // 1_000_000
    plan = Plan(mode=mode, seed=seed, start_ms=(now_ms - plan.span_ms) // 60_000 * 60_000, speed=speed)
    settings = demo_settings(data_dir, listener.url, secret_file, port)
    total = plan.before + plan.candidate
    try:
        async with Monitor(settings) as monitor:
            with Story(Console(), total=total) as story:
                outcome = await drive(plan, monitor, gateway, story)
                await monitor.wait_landed()
            if keep:
                click.echo(f"The page stays open at {monitor.page_url} - Ctrl-C ends it.")
                await _until_interrupted()
    finally:
        await listener.close()
    return outcome


def demo_settings(data_dir: Path, gateway_url: str, secret_file: Path, port: int) -> Settings:
    """Return the demonstration's settings: the defaults, acting for real on a gateway on this machine."""
    hook = {"secret_file": str(secret_file), "allow_networks": ("127.0.0.0/8",)}
    return Settings(
        data_dir=str(data_dir / "monitor"),
        door=DoorSettings(port=port, clamp=False),
        detect=DetectSettings(),
        act=ActSettings(dry_run=False, clock="event"),
        land=LandSettings(batch=5_000),
        notifier=({"name": "webhook", "url": f"{gateway_url}/page", **hook}, {"name": "log"}),
        rollback=(
            {
                "name": "webhook",
                "url": f"{gateway_url}/rollback",
                "state_url": f"{gateway_url}/state",
                **hook,
            },
        ),
    )


def _empty(data_dir: Path) -> Path:
    """Return `data_dir`, emptied; a folder with content that the demonstration did not make is left alone."""
    mark = data_dir / _MARK
    if data_dir.exists() and any(data_dir.iterdir()) and not mark.exists():
        raise StorageError(
            f"{data_dir}: not empty, and not made by the demonstration: name another --data-dir"
        )
    if (data_dir / "monitor").exists():
        lock_directory(data_dir / "monitor").close()  # a demonstration that still runs there keeps its data
    shutil.rmtree(data_dir / "monitor", ignore_errors=True)
    (data_dir / "gateway.secret").unlink(missing_ok=True)
    data_dir.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return data_dir


async def _until_interrupted() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
