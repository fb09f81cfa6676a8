"""``plumbline reference``: what is normal, and who said so."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from detectors.records import Reference
from streams.cli.failure import one_line, told_in_one_line
from streams.cli.run import CONFIG, DATA_DIR, settings_from
from streams.references import References, submission_of
from streams.settings import SettingsError

DEPLOYMENT = click.option("--deployment", required=True, help="Whose references.")
RELEASE = click.option("--release", help="Measure this release, from its scorecards in the journal.")
FROM = click.option("--from", "first", type=click.DateTime(), help="Event time (UTC) from which on.")
TO = click.option("--to", "last", type=click.DateTime(), help="Event time (UTC) before which.")
AT = click.option(
    "--at",
    type=click.DateTime(),
    help="Approved from this event time (UTC) on; default: the latest there is.",
)


@click.group()
def reference() -> None:
    """References: what every release is compared with, and approving a new normal."""


@reference.command("list")
@CONFIG
@DATA_DIR
@click.option("--deployment", help="Only of this one.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@told_in_one_line
def list_references(
    config: Path | None, data_dir: str | None, deployment: str | None, *, as_json: bool
) -> None:
    """List the references in force; a monitor may be running."""
    with References(settings_from(config, data_dir)) as references:
        found = references.in_force(deployment)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    elif found:
        Console(width=None if Console().is_terminal else 140).print(_table(found))
    else:
        click.echo("no reference is in force: the stable release's first units become it, or you pin one")


@reference.command()
@click.argument("reference_id")
@CONFIG
@DATA_DIR
@told_in_one_line
def show(reference_id: str, config: Path | None, data_dir: str | None) -> None:
    """Print the reference in force whose id begins with REFERENCE_ID, as JSON."""
    with References(settings_from(config, data_dir)) as references:
        found = references.find(reference_id)
    click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))


@reference.command()
@CONFIG
@DATA_DIR
@DEPLOYMENT
@RELEASE
@FROM
@TO
@AT
@told_in_one_line
def export(  # noqa: PLR0917 - click hands options over by position
    config: Path | None,
    data_dir: str | None,
    deployment: str,
    release: str | None,
    first: datetime | None,
    last: datetime | None,
    at: datetime | None,
) -> None:
    """Print references, one JSON object a line: those in force, or of --release between --from and --to.

    The lines are in the form of POST /v1/references, `plumbline produce --kind reference` and
    `plumbline reference pin --file`. A monitor may be running.
    """
    with References(settings_from(config, data_dir)) as references:
        for line in _submissions(references, deployment, release, (first, last), at):
            click.echo(msgspec.json.encode(line))


@reference.command()
@CONFIG
@DATA_DIR
@DEPLOYMENT
@RELEASE
@FROM
@TO
@AT
@click.option(
    "--file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="What `export` printed."
)
@told_in_one_line
def pin(  # noqa: PLR0917 - click hands options over by position
    config: Path | None,
    data_dir: str | None,
    deployment: str,
    release: str | None,
    first: datetime | None,
    last: datetime | None,
    at: datetime | None,
    file: Path | None,
) -> None:
    """Approve a new normal: what --release did between --from and --to, or what --file holds.

    It enters the journal as a record, so that a replay changes over at the same place. Every release is
    compared with it from then on; alarms against the old normal are over. No monitor may hold the data
    directory: to a running one, POST what `export` prints to /v1/references.
    """
    if (release is None) == (file is None):
        raise click.UsageError("name a --release, or a --file that `plumbline reference export` printed")
    with References(settings_from(config, data_dir)) as references:
        if file is None:
            lines = _submissions(references, deployment, release, (first, last), at)
        else:
            approved_ms = _approved_ms(references, deployment, at)
            lines = [{**line, "approved_at": approved_ms} for line in _read(file, deployment)]
        approved = references.approve(lines)
    click.echo(f"{approved} references approved, {len(lines) - approved} were there")


def _submissions(
    references: References,
    deployment: str,
    release: str | None,
    span: tuple[datetime | None, datetime | None],
    at: datetime | None,
) -> list[dict[str, Any]]:
    if release is None:
        found = references.in_force(deployment)
    else:
        first, last = (None if one is None else _ms(one) for one in span)
        found = references.measure(deployment, release, from_ms=first, to_ms=last)
    approved_ms = _approved_ms(references, deployment, at)
    return [submission_of(one, approved_at_ms=approved_ms) for one in found]


def _approved_ms(references: References, deployment: str, at: datetime | None) -> int:
    return references.reached_ms(deployment) if at is None else _ms(at)


def _ms(at: datetime) -> int:
    return int(at.replace(tzinfo=UTC).timestamp() * 1000)


def _read(file: Path, deployment: str) -> list[dict[str, Any]]:
    try:
        lines: list[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode_lines(file.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: not one JSON object a line") from error
    if not lines or any(line.get("deployment") != deployment for line in lines):
        raise SettingsError(f"{file}: holds no references, or such of another deployment than {deployment}")
    return lines


def _table(found: Sequence[Reference]) -> Table:
    table = Table()
    for heading in ("id", "deployment", "metric", "segment", "release", "units", "mean", "approved from"):
        table.add_column(heading, justify="right" if heading in {"units", "mean"} else "left")
    for one in found:
        table.add_row(
            one.reference_id[:12],
            one.deployment,
            f"{one.metric} ({one.scorer_version})",
            one_line(one.segment),
            one.release,
            f"{one.n:,}",
            f"{one.mean:.4f}",
            _approved(one),
        )
    return table


def _approved(one: Reference) -> str:
    if one.approved_at_ms is None:
        return "its first units"
    return datetime.fromtimestamp(one.approved_at_ms / 1000, UTC).isoformat(timespec="seconds")
