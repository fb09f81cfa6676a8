"""``plumbline worker``: stages on Kafka, until they are told to stop."""

import logging
import os
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from streams.cli.failure import FAILED, MISUSED, one_line
from streams.cli.run import CONFIG, DATA_DIR, settings_from
from streams.embedded.errors import StorageError, log_failure
from streams.kafka.errors import BrokerError
from streams.kafka.fleet import Fleet
from streams.kafka.flood import FloodError, parse_accepted
from streams.kafka.land_fence import FencedError
from streams.kafka.land_ledger import LedgerError
from streams.kafka.layout import check_message_sizes
from streams.kafka.worker import BUILDERS, WorkerOptions, run_worker
from streams.listener import PortError
from streams.settings import Settings, SettingsError
from streams.stage_loop import UnusableStateError
from streams.store import StoreError

_KNOWN: Final = (
    BrokerError, FencedError, FloodError, LedgerError, PortError, StorageError, StoreError,
    UnusableStateError, OSError,
)  # fmt: skip
# Whose every step is no news to who runs a worker, and who tell as a trace what ends the worker in one line.
_LOG_LEVELS: Final = {
    "aiokafka": logging.CRITICAL,  # what matters is raised; the rest is what it retries, by the dozen
    "kafka": logging.WARNING,
    "uvicorn": logging.WARNING,
    "faust": logging.CRITICAL,
    "mode": logging.CRITICAL,
    "streams.kafka.faust_batches": logging.CRITICAL,
}


@click.command()
@CONFIG
@DATA_DIR
@click.option(
    "--stages",
    required=True,
    metavar="NAME[,NAME...]",
    help=f"Which of {', '.join(BUILDERS)}; several run as a process each.",
)
@click.option(
    "--id",
    "instance_id",
    default="",
    metavar="NAME",
    help="Name of this worker in its group, kept over restarts: it then gets its partitions back at once.",
)
@click.option("--accept-loss", is_flag=True, help="Go on where retention took records before they were read.")
@click.option(
    "--accept-flood",
    multiple=True,
    metavar="TOPIC/PARTITION",
    help="Let a partition go on that stopped because too many of its records were bad.",
)
@click.option("--with-parent", is_flag=True, hidden=True, help="End when standard input does.")
def worker(  # noqa: PLR0917 - click hands them over by name
    config: Path | None,
    data_dir: str | None,
    stages: str,
    instance_id: str,
    accept_loss: bool,
    accept_flood: tuple[str, ...],
    with_parent: bool,
) -> None:
    """Run stages on Kafka in this process, and a process each where there are several.

    \b
    submissions -> admit -> interactions -> score -> scorecards -> detect -> signals -> decide -> decisions
    decisions -> act -> actions; land copies every topic to the store; normalise makes submissions of
    other people's topics.

    Run as many workers of a stage as you like, up to the number of partitions; `act` is one. First make the
    topics: `plumbline topics create`. SIGTERM ends the batch at hand, within worker.drain_s seconds; kill -9
    at any moment loses nothing and doubles nothing.

    \b
      plumbline worker -c plumbline.toml --stages admit,score,detect,decide,act,land --id one
      plumbline worker -c plumbline.toml --stages score --id score-1

    A worker never repairs itself: whatever goes wrong ends it with one line and an exit code other than 0,
    and whoever supervises it (systemd, Kubernetes) starts it again. It goes on from what was committed.

    \b
    Exit codes: 0 told to stop, 1 something went wrong, 2 asked for wrongly, 70 ended by its watchdog.
    """  # noqa: D301 - click wants the character itself
    try:
        settings = settings_from(config, data_dir)
        check_message_sizes(settings)
        names = parse_stages(stages)
        options = WorkerOptions(
            instance_id=instance_id, accept_loss=accept_loss, accept_floods=parse_accepted(accept_flood)
        )
    except SettingsError as error:
        click.echo(f"plumbline: {one_line(str(error))}", err=True)
        raise SystemExit(MISUSED) from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for library, level in _LOG_LEVELS.items():
        logging.getLogger(library).setLevel(level)
    logging.getLogger("asyncio").addFilter(is_news)
    if len(names) == 1:
        _run_one(settings, names[0], options, with_parent=with_parent)
    shared = ["worker", "--with-parent", "--id", instance_id]
    shared += ["--config", str(config)] if config else []
    shared += ["--data-dir", data_dir] if data_dir else []
    shared += ["--accept-loss"] if accept_loss else []
    shared += [word for place in accept_flood for word in ("--accept-flood", place)]
    _run_several(settings, {name: [*shared, "--stages", name] for name in names})


def parse_stages(text: str) -> list[str]:
    """Return the stages named in `text`, in the order in which a record passes them.

    Raises
    ------
    SettingsError
        If one is unknown, named twice, or none is named.

    Examples
    --------
    >>> parse_stages("detect, score")
    ['score', 'detect']
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in BUILDERS:
            raise SettingsError(f"--stages: no stage {name!r}; there are {', '.join(BUILDERS)}")
        if names.count(name) > 1:
            raise SettingsError(f"--stages: {name} is named twice; start another worker for more of a stage")
    if not names:
        raise SettingsError(f"--stages: names none; there are {', '.join(BUILDERS)}")
    return sorted(names, key=list(BUILDERS).index)


def is_news(entry: logging.LogRecord) -> bool:
    """Return whether what asyncio reports is news: not what the clients leave behind when a worker ends.

    A failure of theirs was raised, and is told in one line; what is still open ends with the process.
    """
    error = entry.exc_info[1] if entry.exc_info else None
    told = type(error).__module__.startswith("aiokafka.")
    return not told and not entry.getMessage().startswith("Unclosed AIOKafka")


def _run_one(settings: Settings, stage: str, options: WorkerOptions, *, with_parent: bool) -> NoReturn:
    try:
        run_worker(settings, stage, options, until=sys.stdin.buffer.read if with_parent else None)
    except SettingsError as error:
        _end(f"{stage}: {error}", MISUSED)
    except TimeoutError:
        _end(
            f"{stage}: did not end within worker.drain_s = {settings.worker.drain_s:g} s, and was ended; "
            "what it had not committed is read again",
            FAILED,
        )
    except _KNOWN as error:
        _end(f"{stage}: {error}", FAILED)
    except Exception as error:  # noqa: BLE001 - its text may be anybody's
        log_failure(logging.getLogger("plumbline.kafka"), stage, error)
        _end(
            f"{stage}: {type(error).__name__}: a fault of ours or of a plug-in, told above: report it", FAILED
        )
    _end("", 0)


def _run_several(settings: Settings, commands: dict[str, list[str]]) -> NoReturn:
    stage, code = Fleet(commands, drain_s=settings.worker.drain_s).run()
    if not stage:
        raise SystemExit(0)
    code = code if code > 0 else 128 - code  # as shells tell of signals
    click.echo(f"plumbline: {stage} ended with exit code {code}; all were ended with it", err=True)
    raise SystemExit(code)


def _end(message: str, exit_code: int) -> NoReturn:
    """End at once: threads of the clients may hang where a broker does, and nothing is left to be done."""
    if message:
        click.echo(f"plumbline: {one_line(message)}", err=True)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
