"""Plots of an evaluation. The only module that imports matplotlib, which is an optional extra."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure as Sheet

from detectors.evaluate.figures import Figure, Part
from detectors.evaluate.grid import Evaluation

_METADATA = {"Date": None, "Creator": None}


def write_plots(evaluation: Evaluation, out: Path) -> list[Path]:
    """Write the plots for which `evaluation` has figures into the folder `out`, as SVG; return their paths.

    ``delays.svg`` shows delay against the time between false alarms, one panel a change; ``bars.svg`` how far
    each bar is from its bound; ``embeddings.svg`` the delays on embeddings.
    """
    sheets = {
        "delays": _delay_sheet(evaluation.figures),
        "embeddings": _embedding_sheet(evaluation.figures),
        "bars": _bar_sheet(evaluation),
    }
    paths = []
    for name, sheet in sheets.items():
        if sheet is not None:
            paths.append(out / f"{name}.svg")
            sheet.savefig(paths[-1], format="svg", metadata=_METADATA)
    return paths


def _of(figures: Sequence[Figure], part: Part, measure: str) -> list[Figure]:
    return [figure for figure in figures if figure.part == part and figure.measure == measure]


def _delay_sheet(figures: Sequence[Figure]) -> Sheet | None:
    delays = _of(figures, "delays", "delay")
    lengths = {(f.detector, f.world): f.value for f in _of(figures, "delays", "arl")}
    worlds = list(dict.fromkeys(f.world for f in delays))
    if not worlds:
        return None
    columns = 3
    rows = -(-len(worlds) // columns)
    sheet = Sheet(figsize=(13, 4 * rows), layout="constrained")
    for place, world in enumerate(worlds, start=1):
        axes = sheet.add_subplot(rows, columns, place)
        for mark, name, points in _groups([f for f in delays if f.world == world], lengths):
            axes.errorbar(
                [x for x, _ in points],
                [f.value for _, f in points],
                yerr=[2 * f.se for _, f in points],
                fmt=mark,
                markersize=4,
                label=name,
            )
        axes.set(xscale="log", yscale="log", title=world)
        axes.set_xlabel("observations for each false alarm")
        axes.set_ylabel("mean delay")
        axes.grid(visible=True, which="both", alpha=0.2)
        axes.legend(fontsize=7)
    return sheet


def _groups(
    delays: Sequence[Figure], lengths: dict[tuple[str, str], float]
) -> list[tuple[str, str, list[tuple[float, Figure]]]]:
    """Return marks, names and points of the families of detectors: river's settings make one line each."""
    marks = {"oracle": "k*", "ADWIN": "C0o-", "PageHinkley": "C1s-", "BettingSR": "C3D"}
    found: dict[str, list[tuple[float, Figure]]] = {}
    for figure in delays:
        family = figure.detector.split(" ")[0].rstrip(",")
        owner = figure.detector.partition("at the run length of ")[2] or figure.detector
        length = lengths.get((owner, figure.world.split(" ")[0]))
        if length is not None:
            found.setdefault(family, []).append((length, figure))
    return [
        (marks.get(name, "."), name, sorted(points, key=lambda point: point[0]))
        for name, points in found.items()
    ]


def _embedding_sheet(figures: Sequence[Figure]) -> Sheet | None:
    delays = _of(figures, "embeddings", "delay")
    if not delays:
        return None
    worlds = list(dict.fromkeys(f.world for f in delays))
    detectors = list(dict.fromkeys(f.detector for f in delays))
    sheet = Sheet(figsize=(11, 0.6 * len(worlds) + 1.5), layout="constrained")
    axes = sheet.add_subplot()
    height = 0.8 / len(detectors)
    for i, detector in enumerate(detectors):
        own = {f.world: f for f in delays if f.detector == detector}
        places = [j + i * height for j, world in enumerate(worlds) if world in own]
        chosen = [own[world] for world in worlds if world in own]
        axes.barh(places, [f.value for f in chosen], height, xerr=[2 * f.se for f in chosen], label=detector)
    axes.set_yticks([j + 0.4 - height / 2 for j in range(len(worlds))], worlds)
    axes.set(xscale="log")
    axes.set_xlabel("mean delay, in observations")
    axes.invert_yaxis()
    axes.legend(fontsize=8)
    return sheet


def _bar_sheet(evaluation: Evaluation) -> Sheet | None:
    bars = [bar for bar in evaluation.bars if bar.bound]
    if not bars:
        return None
    sheet = Sheet(figsize=(12, 0.28 * len(bars) + 1.2), layout="constrained")
    axes = sheet.add_subplot()
    shares = [bar.value / bar.bound for bar in bars]
    axes.barh(range(len(bars)), shares, color=["C2" if bar.held else "C3" for bar in bars])
    axes.axvline(1.0, color="black", linewidth=1)
    names = [f"{bar.number}: {bar.name} ({bar.relation})" for bar in bars]
    axes.set_yticks(range(len(bars)), names, fontsize=7)
    axes.set_xlabel("value over bound")
    axes.set_xlim(min(0.0, *shares), min(3.0, max(1.2, *shares)))
    axes.invert_yaxis()
    return sheet
