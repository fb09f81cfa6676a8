"""``plumbline detectability``: what a stream of this traffic could show at all, and after how long."""

from pathlib import Path
from typing import Final, Literal

import click
import msgspec
from rich.console import Console
from rich.table import Table

from detectors.attribution import Detectable, detectability
from detectors.drift.bet_grid import Side
from detectors.drift.betting_sr import BettingSR
from streams.assembly import assemble
from streams.cli.failure import told_in_one_line
from streams.cli.run import CONFIG
from streams.settings import load_settings

_ALPHA: Final = 1e-4


@click.command("detectability")
@click.option(
    "--baseline", type=click.FloatRange(0.001, 0.999), default=0.9, show_default=True, help="Mean in control."
)
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), required=True, help="Closed units a day."
)
@click.option(
    "--size",
    "sizes",
    type=click.FloatRange(min=0, max=1, min_open=True),
    multiple=True,
    default=(0.02, 0.05, 0.1, 0.2),
    show_default=True,
    help="How far the mean moves; repeatable.",
)
@click.option("--side", type=click.Choice(["down", "up"]), default="down", show_default=True)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="False alarms a unit [default: 1e-4, or what --config allows one stream].",
)
@click.option("--n-ref", type=click.IntRange(min=1), help="Units of the reference (default: known exactly).")
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@told_in_one_line
def detectability_table(  # noqa: PLR0917 - click hands options over by position
    baseline: float,
    rate: float,
    sizes: tuple[float, ...],
    side: str,
    alpha: float | None,
    n_ref: int | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Say how many units, and how many days, a change of each size takes to find.

    Simulated with the shipped detector on rates (0 or 1); graded scores are found sooner. The last column is
    what somebody needs who knows the change beforehand: less is not possible. With --config, the stream is
    one of that installation's: its share of the false-page budget, its reference and its tolerance, and the
    side that is watched is --side alone.
    """
    chosen: Literal["down", "up"] = "down" if side == "down" else "up"
    tolerance = 0.0
    watched: Side = "both"
    if config is not None:
        plan = assemble(load_settings(config)).detect.plan
        alpha, n_ref = alpha or plan.reference_alpha, n_ref or plan.reference_units
        tolerance, watched = plan.tolerance, chosen
    alpha = alpha or _ALPHA
    low, high = max(0.0, baseline - tolerance), min(1.0, baseline + tolerance)
    rows = detectability(
        baseline,
        units_per_day=rate,
        sizes=sizes,
        alpha=alpha,
        side=chosen,
        build=lambda: BettingSR(
            mean_low=low, mean_high=high, alpha=alpha, direction=watched, reference_units=n_ref
        ),
    )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
        return
    Console(width=None if Console().is_terminal else 100).print(_table(rows))


def _table(rows: list[Detectable]) -> Table:
    table = Table(caption="means over 100 simulated streams; > : some were still silent at the horizon")
    for heading in ("from", "to", "units", "days", "least units"):
        table.add_column(heading, justify="right")
    for row in rows:
        mark = "> " if row.missed else ""
        table.add_row(
            f"{row.mean_after - row.change:.3f}",
            f"{row.mean_after:.3f}",
            f"{mark}{row.units:.0f}",
            f"{mark}{row.days:.1f}",
            f"{row.least_units:.0f}",
        )
    return table
