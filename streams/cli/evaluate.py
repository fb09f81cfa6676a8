"""``plumbline evaluate``: false alarms and delays of the detectors, measured and held to their bars."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from detectors.evaluate.figures import FIRST_EVALUATION_SEED, FULL, SMALL, Bar, Figure, Part
from detectors.evaluate.grid import PARTS, Evaluation, conclude, plan
from detectors.evaluate.report import to_markdown
from streams.cli.failure import FAILED, told_in_one_line
from streams.evaluate_foreign import measure_foreign


@click.command()
@click.option(
    "--part", "parts", type=click.Choice(get_args(Part)), multiple=True, help="Only this part; repeatable."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write evaluation.md, evaluation.json and plots here (plots need the extra 'plots').",
)
@click.option(
    "--seed",
    type=click.IntRange(min=1),
    default=FIRST_EVALUATION_SEED,
    show_default=True,
    help="Of everything. Below 1,000: for tuning, proves nothing.",
)
@click.option("--small", is_flag=True, help="A fixed part of the grid, in about a minute.")
@click.option(
    "--foreign-python",
    "interpreters",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="An interpreter that can import frouros or capymoa, to run them beside ours; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@told_in_one_line
def evaluate(  # noqa: PLR0917 - click hands options over by position
    parts: tuple[Part, ...],
    out: Path | None,
    seed: int,
    small: bool,
    interpreters: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Measure the drift detectors on seeded streams: time between false alarms, delay, and their bars.

    River's detectors run over a grid of settings, and the limit is a detector that knows the change. The
    whole takes about 20 minutes on one core. The exit code is 0 if every bar held, 1 if one did not.
    """
    chosen = parts or PARTS
    effort = SMALL if small else FULL
    tasks = plan(chosen, effort, seed)
    console = Console(stderr=True)
    figures: list[Figure] = []
    with _progress(console) as progress:
        ticking = progress.add_task("", total=len(tasks))
        for task in tasks:
            progress.update(ticking, description=f"{task.part}: {task.name}")
            figures += task.run()
            progress.advance(ticking)
    if "delays" in chosen:
        for interpreter in interpreters:
            beside, reason = measure_foreign(interpreter, effort, seed)
            figures += beside
            if reason:
                click.echo(f"skipped {interpreter}: {reason}", err=True)
    evaluation = conclude(chosen, effort, seed, figures)
    if out is not None:
        _write(evaluation, out)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(evaluation), indent=2))
    else:
        _print(evaluation.bars, tuning=evaluation.tuning)
    raise SystemExit(0 if evaluation.held else FAILED)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _write(evaluation: Evaluation, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.md").write_text(to_markdown(evaluation), encoding="utf-8")
    encoded = msgspec.json.format(msgspec.json.encode(evaluation), indent=2)
    (out / "evaluation.json").write_bytes(encoded + b"\n")
    try:
        from streams.evaluate_plots import write_plots  # noqa: PLC0415 - matplotlib is optional
    except ImportError:
        click.echo("no plots: install plumbline[plots]", err=True)
    else:
        write_plots(evaluation, out)


def _print(bars: Sequence[Bar], *, tuning: bool) -> None:
    for bar in bars:
        mark = "held" if bar.held else "NOT HELD"
        click.echo(
            f"{mark:8}  bar {bar.number}  {bar.name}: {bar.value:.4g} {bar.relation} {bar.bound:.4g}"
            f"{f'  ({bar.note})' if bar.note else ''}"
        )
    held = sum(bar.held for bar in bars)
    click.echo(f"{held} of {len(bars)} bars held" + (" (a tuning seed: proves nothing)" if tuning else ""))
