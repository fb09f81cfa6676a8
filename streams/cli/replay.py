"""``plumbline replay``: recorded interactions through the same stages, with a report of what moved."""

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from detectors.records import Role
from streams.cli.compare import print_changes, print_comparison
from streams.cli.failure import FAILED, told_in_one_line
from streams.cli.run import CONFIG, DATA_DIR, settings_from
from streams.mapping import parse_mapping
from streams.replay import LineFields, Replayer, ReplayResult, read_lines
from streams.settings import SettingsError


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@CONFIG
@DATA_DIR
@click.option(
    "--map", "pairs", multiple=True, metavar="FIELD=PATH", help="Where FIELD stands in a line; repeatable."
)
@click.option("--deployment", help="For lines that name none.")
@click.option("--release", help="For lines that name none.")
@click.option(
    "--role", type=click.Choice(["stable", "candidate", "retired"]), help="Declare --release with this role."
)
@click.option(
    "--start",
    type=click.DateTime(),
    default="2025-01-01",
    show_default=True,
    help="Event time of the first line if there is a --step-s, and since when --release has its --role.",
)
@click.option(
    "--step-s",
    type=click.FloatRange(min=0.001),
    help="Give lines event times this far apart, from --start on, whatever time they name themselves.",
)
@click.option("--compare-with", metavar="RELEASE", help="Afterwards, compare --release with this one.")
@told_in_one_line
def replay(  # noqa: PLR0917 - click hands options over by position
    file: Path,
    config: Path | None,
    data_dir: str | None,
    pairs: tuple[str, ...],
    deployment: str | None,
    release: str | None,
    role: Role | None,
    start: datetime,
    step_s: float | None,
    compare_with: str | None,
) -> None:
    """Replay FILE, one JSON object a line, in the form of POST /v1/interactions.

    Any other file of questions and answers is read through --map, whose paths are dotted and index lists:

    \b
      plumbline replay answers.jsonl --deployment assistant --release gpt-4-0314 --role stable \\
          --step-s 60 --map conversation=uid --map prompt=messages.0.content \\
          --map response=messages.1.content.answer

    The door's checks and redaction hold, its clamp of event times is off, and nothing is acted on. At its end
    all of FILE has been judged; a next file may go on in the minute (detect.unit_s) after its last line.
    Told are the changes that this file brought, of --release where it is given. Exit code 0 when every line
    was taken (or was there already), 1 when some were refused, or came too late to be judged.
    """  # noqa: D301 - click wants the character itself
    fixed = _fixed(deployment, release)
    if role is not None and len(fixed) < 2:
        raise click.UsageError("--role needs --deployment and --release")
    start_ms = int(start.replace(tzinfo=UTC).timestamp() * 1000)
    mapping = parse_mapping(pairs)
    with Replayer(settings_from(config, data_dir)) as replayer:
        if role is not None and deployment and release:
            replayer.declare(deployment, release, role, start_ms)
        result = _feed(replayer, file, mapping, _fill(fixed, start_ms, step_s))
        _print_result(result)
        _print_set_aside(replayer)
        if deployment:
            print_changes(replayer.changes(deployment, release))
        if deployment and release and compare_with:
            print_comparison(replayer.samples(deployment), compare_with, release, as_json=False)
        if result.refusals or replayer.late():
            raise SystemExit(FAILED)


def _fixed(deployment: str | None, release: str | None) -> dict[str, str]:
    """Return what the options say about every line."""
    fixed = {name: value for name, value in (("deployment", deployment), ("release", release)) if value}
    if not all(value.isascii() for value in fixed.values()):  # what a shell passes on may not even be text
        raise SettingsError("--deployment and --release: plain ASCII names only")
    return fixed


def _fill(fixed: dict[str, str], start_ms: int, step_s: float | None) -> Callable[[int], LineFields]:
    """Return what a line is filled with, by its number; a step decides all times, else lines keep theirs."""
    if step_s is None:
        return lambda _number: LineFields(fixed)
    return lambda number: LineFields(fixed, {"event_time": start_ms + round((number - 1) * step_s * 1000)})


def _feed(
    replayer: Replayer, file: Path, mapping: Mapping[str, str], fields: Callable[[int], LineFields]
) -> ReplayResult:
    with _progress(Console(stderr=True)) as progress:
        task = progress.add_task(file.name, total=file.stat().st_size)
        result = replayer.feed(
            read_lines(file),
            mapping=mapping,
            fields=fields,
            advance=lambda size: progress.advance(task, size),
        )
        replayer.finish()
    return result


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not sys.stderr.isatty(),
    )


def _print_result(result: ReplayResult) -> None:
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(result.outcomes.items()))
    click.echo(f"lines: {counts or 'none'}")
    for number, text in result.refusals:
        click.echo(f"  line {number}: {text}", err=True)


def _print_set_aside(replayer: Replayer) -> None:
    for (kind, about), count in sorted(replayer.counts().items()):
        if kind == "late":
            told = "late: older than what was replayed before; scored, but no detector has seen them"
            click.echo(f"{about}: {count} {told}", err=True)
        else:
            click.echo(f"  set aside, {about}: {count} {kind}")
