"""``plumbline compare``: two releases of one deployment, score by score."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from detectors.comparison import Comparison, ReleaseSample, compare_releases
from detectors.records import Signal
from streams.cli.failure import one_line, told_in_one_line
from streams.cli.run import CONFIG, DATA_DIR, settings_from
from streams.replay import Replayer
from streams.settings import SettingsError


@click.command()
@click.argument("deployment")
@click.argument("old")
@click.argument("new")
@CONFIG
@DATA_DIR
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@told_in_one_line
def compare(
    deployment: str, old: str, new: str, config: Path | None, data_dir: str | None, *, as_json: bool
) -> None:
    """Compare release NEW of DEPLOYMENT with OLD: which scores moved, which way, with intervals.

    Reads the journal of the data directory, which no other plumbline process may hold. Where both releases
    answered the same prompts under the same conversation names, each is compared with itself.

    \b
      plumbline compare support 2.3 2.4

    Exit code 0: compared, whatever moved; 1: it could not be; 2: asked for wrongly.
    """  # noqa: D301 - click wants the character itself
    with Replayer(settings_from(config, data_dir)) as replayer:
        print_comparison(replayer.samples(deployment), old, new, as_json=as_json)


def print_comparison(samples: Mapping[str, ReleaseSample], old: str, new: str, *, as_json: bool) -> None:
    """Print the comparison of `new` with `old` as a table, or as JSON."""
    for release in (old, new):
        if release not in samples:
            known = ", ".join(sorted(samples)) or "none"
            raise SettingsError(f"release {release!r} has no scored interactions here; known: {known}")
    rows = compare_releases(samples[old], samples[new])
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
        return
    Console(width=None if Console().is_terminal else 120).print(_table(rows, old, new))
    moved = [row for row in rows if row.moved]
    words = [
        f"{row.metric} {'up' if row.difference > 0 else 'down'}{' (worse)' if row.worse else ''}"
        for row in moved
    ]
    click.echo(f"moved: {', '.join(words) or 'nothing that these numbers can show'}")


def _table(rows: Sequence[Comparison], old: str, new: str) -> Table:
    table = Table(title=Text(f"{new} against {old}"), caption="all intervals hold together at 95 %")
    for heading in ("score", "better", f"{old}", f"{new}", "n", "difference", "interval", "moved"):
        table.add_column(
            Text(heading), justify="left" if heading in {"score", "better", "moved"} else "right"
        )
    for row in rows:
        n = f"{row.n_new} paired" if row.paired else f"{row.n_old}, {row.n_new}"
        moved = (
            ("up" if row.difference > 0 else "down") + (", worse" if row.worse else "") if row.moved else ""
        )
        table.add_row(
            row.metric,
            row.direction,
            f"{row.mean_old:.3f}",
            f"{row.mean_new:.3f}",
            n,
            f"{row.difference:+.3f}",
            f"{row.interval.low:+.3f} .. {row.interval.high:+.3f}",
            moved,
        )
    return table


def print_changes(changes: Sequence[Signal]) -> None:
    """Print what the sequential detectors announced."""
    for change in changes:
        segment = one_line(change.stream.segment)
        at = datetime.fromtimestamp(change.at_ms / 1000, UTC).isoformat(timespec="seconds")
        stream = change.stream
        click.echo(
            f"change: {stream.release} {stream.metric} ({segment}), {stream.test} test, at {at}, "
            f"after {change.n_total} units, log10 evidence {change.evidence:.1f} of {change.threshold:.1f}"
        )
