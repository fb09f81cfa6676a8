"""``plumbline backfill``: score the past again with another configuration, and put that in place."""

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streams.assembly import assemble
from streams.cli.failure import told_in_one_line
from streams.cli.run import CONFIG, DATA_DIR, settings_from
from streams.embedded.lock import lock_directory
from streams.kafka.shadow import BackfillError, Plan, ShadowTables, Span, check_run_id
from streams.kafka.shadow_compare import Comparison, compare, moved
from streams.kafka.shadow_swap import Swap
from streams.settings import Settings, SettingsError, read_secret
from streams.store import Store, open_store

if TYPE_CHECKING:
    pass

_OFFSETS = re.compile(r"(\d{1,9}):(\d{1,18})-(\d{1,18})")
_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]
RUN_ID = click.option("--run-id", required=True, help="Names the run, and its tables: a-z and 0-9.")


@click.group()
def backfill() -> None:
    """Score interactions of the log again, beside what is live.

    \b
      plumbline backfill run -c other.toml --run-id policy2 --from 2026-11-01 --to 2026-11-08
      plumbline backfill compare --run-id policy2
      plumbline backfill swap --run-id policy2

    The live workers are not touched. With an embedded store, stop what has it open first.

    Exit code 0: done; what `compare` finds does not change it. 1: it cannot be done now, or failed; it may be
    asked for again. 2: asked for wrongly.
    """  # noqa: D301 - click wants the character itself


@backfill.command()
@CONFIG
@DATA_DIR
@RUN_ID
@click.option("--from", "since", type=click.DateTime(_FORMATS), help="Received then (UTC) or later.")
@click.option("--to", "until", type=click.DateTime(_FORMATS), help="Received before that time (UTC).")
@click.option(
    "--offsets", multiple=True, metavar="P:FIRST-LAST", help="Kafka offsets of a partition; repeatable."
)
@told_in_one_line
def run(  # noqa: PLR0917 - click hands options over by position
    config: Path | None,
    data_dir: str | None,
    run_id: str,
    since: datetime | None,
    until: datetime | None,
    offsets: tuple[str, ...],
) -> None:
    """Score a range with the scorers and segments of this configuration, into tables of the run.

    What was ended goes on where it was, when it is asked for again.
    """
    by_time = since is not None and until is not None
    if by_time == bool(offsets) or (since is None) != (until is None):
        raise click.UsageError("name a range: --from with --to, or --offsets")
    spans = _spans(offsets)
    settings = settings_from(config, data_dir)
    from streams.kafka.backfill import (  # noqa: PLC0415 - an optional part
        InteractionLog,
        configuration_of,
        plan_by_offsets,
        plan_by_time,
        rescore,
    )

    stage, configuration = assemble(settings).score, configuration_of(settings)
    with _shadow(settings, run_id) as (_, shadow), InteractionLog(settings.kafka) as log:
        if since is not None and until is not None:
            plan = plan_by_time(log, run_id, _ms(since), _ms(until), configuration=configuration)
        else:
            plan = plan_by_offsets(log, run_id, spans, configuration=configuration)
        plan = shadow.begin(plan)
        with _bar() as bar:
            task = bar.add_task(run_id, total=None)
            done = rescore(
                log,
                stage,
                plan,
                shadow,
                batch=settings.land.batch,
                advance=lambda at: bar.update(task, completed=at.read, total=at.total),
            )
    passed = f", {done.unreadable} records passed by: they are no envelopes" if done.unreadable else ""
    click.echo(f"{run_id}: {done.scored} interactions scored{passed}")


@backfill.command("compare")
@CONFIG
@DATA_DIR
@RUN_ID
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@told_in_one_line
def compare_(config: Path | None, data_dir: str | None, run_id: str, as_json: bool) -> None:
    """Say what the run changes: by release and metric, and which verdicts moved."""
    with _shadow(settings_from(config, data_dir), run_id) as (_, shadow):
        _, state = _known(shadow)
        found = compare(shadow, swapped=state == "swapped")
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        _print(found)


@backfill.command()
@CONFIG
@DATA_DIR
@RUN_ID
@click.option("--undo", is_flag=True, help="Put the rows back that were kept.")
@told_in_one_line
def swap(config: Path | None, data_dir: str | None, run_id: str, undo: bool) -> None:
    """Put the run's rows in the place of the live ones, a day at a time; each day at once or not at all.

    What the run does not cover of a day stays. The rows that go are kept until the run is dropped.
    """
    with _shadow(settings_from(config, data_dir), run_id) as (store, shadow):
        swapping = Swap(store, shadow)
        if undo:
            days = swapping.undo()
            click.echo(f"{run_id}: {len(days)} days are as they were")
            return
        done = swapping.swap(advance=lambda day: click.echo(f"{day}: swapped"))
        click.echo(f"{run_id}: {sum(day.covered for day in done)} interactions of {len(done)} days swapped")


@backfill.command()
@CONFIG
@DATA_DIR
@RUN_ID
@click.option(
    "--yes", is_flag=True, help="Drop the kept rows of a swapped run too: it can not be undone then."
)
@told_in_one_line
def drop(config: Path | None, data_dir: str | None, run_id: str, yes: bool) -> None:
    """Drop the tables of the run."""
    with _shadow(settings_from(config, data_dir), run_id) as (_, shadow):
        found = shadow.find()
        if found is not None and found[1] == "swapped" and not yes:
            raise BackfillError(f"backfill {run_id} is swapped: --yes drops the rows that undo it")
        dropped = shadow.drop()
    click.echo(f"{run_id}: {len(dropped)} tables dropped")


@contextmanager
def _shadow(settings: Settings, run_id: str) -> Iterator[tuple[Store, ShadowTables]]:
    """Open the store, and the tables of the run in it."""
    check_run_id(run_id)
    with ExitStack() as opened:
        directory, land = Path(settings.data_dir), settings.land
        if not land.dsn:
            opened.callback(lock_directory(directory).close)
        password = read_secret(env=land.password_env, what="store password")
        store = open_store(path=directory / "store", dsn=land.dsn, password=password, database=land.database)
        opened.callback(store.close)
        store.migrate()
        yield store, ShadowTables(store, run_id)


def _known(shadow: ShadowTables) -> tuple[Plan, str]:
    found = shadow.find()
    if found is None:
        raise BackfillError(f"there is no backfill {shadow.run_id}: run it first")
    if found[1] == "settled":
        raise BackfillError(f"backfill {shadow.run_id} is settled: its rows are live, its tables dropped")
    return found


def _spans(texts: tuple[str, ...]) -> dict[int, Span]:
    spans: dict[int, Span] = {}
    for text in texts:
        found = _OFFSETS.fullmatch(text)
        if found is None or int(found[2]) > int(found[3]):
            raise SettingsError(f"--offsets: {text!r} is not PARTITION:FIRST-LAST")
        if int(found[1]) in spans:
            raise SettingsError(f"--offsets: partition {found[1]} is named twice")
        spans[int(found[1])] = Span(int(found[2]), int(found[3]) + 1)
    return spans


def _ms(at: datetime) -> int:
    return int(at.replace(tzinfo=UTC).timestamp() * 1000)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def _print(found: Comparison) -> None:
    if found.metrics:
        click.echo(f"{'release':<16} {'metric':<24} {'n':>8} {'then':>8} {'now':>8} {'same':>7}")
    for one in found.metrics:
        then = "-" if one.mean_then is None else f"{one.mean_then:.4f}"
        now = "-" if one.mean_now is None else f"{one.mean_now:.4f}"
        same = "-" if one.agreement is None else f"{one.agreement:.1%}"
        click.echo(f"{one.release:<16} {one.metric:<24} {one.n:>8} {then:>8} {now:>8} {same:>7}")
        if one.only_then or one.only_now:
            click.echo(f"{'':<16} {'':<24} scored only then {one.only_then}, only now {one.only_now}")
    total = sum(one.n for one in found.verdicts)
    click.echo(f"verdicts: {moved(found.verdicts)} of {total} moved")
    for verdict in found.verdicts:
        if verdict.then != verdict.now:
            click.echo(f"  {verdict.release}: {verdict.n} from {verdict.then} to {verdict.now}")
