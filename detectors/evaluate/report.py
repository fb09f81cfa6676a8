"""An evaluation as Markdown."""

from collections.abc import Iterable, Sequence

from detectors.evaluate.figures import Figure, Measure
from detectors.evaluate.grid import Evaluation

_TITLES: dict[Measure, str] = {
    "arl": "Observations in control for each false alarm",
    "delay": "Mean delay, in observations (a miss counts as the horizon)",
    "found": "Share of replications that were right",
    "false_share": "Share of streams with a false alarm",
    "alarms": "Alarms",
    "units": "Mean canary units to the alarm",
}


def to_markdown(evaluation: Evaluation) -> str:
    """Return the evaluation as one Markdown document: the bars first, then every figure.

    Examples
    --------
    >>> from detectors.evaluate.figures import SMALL
    >>> from detectors.evaluate.grid import conclude
    >>> print(to_markdown(conclude([], SMALL, 10_000, [])).splitlines()[0])
    # Drift detectors, measured
    """
    effort = evaluation.effort
    lines = [
        "# Drift detectors, measured",
        "",
        f"Seed {evaluation.seed}; parts: {', '.join(evaluation.parts) or 'none'}; "
        f"{effort.pairs} pairs of reference and stream, {effort.horizon} observations each.",
        "",
    ]
    if evaluation.tuning:
        lines += ["This seed is one of those for tuning: what follows proves nothing.", ""]
    held = sum(bar.held for bar in evaluation.bars)
    lines += ["## Bars", "", f"{held} of {len(evaluation.bars)} held.", ""]
    lines += _table(
        ("bar", "what", "value", "bound", "held", "from"),
        (
            (
                str(bar.number),
                bar.name,
                _number(bar.value),
                f"{bar.relation} {_number(bar.bound)}",
                "yes" if bar.held else "**no**",
                bar.note,
            )
            for bar in evaluation.bars
        ),
    )
    for part in evaluation.parts:
        for measure, title in _TITLES.items():
            chosen = [f for f in evaluation.figures if f.part == part and f.measure == measure]
            if chosen:
                lines += ["", f"## {part}: {title}", "", *_figures(chosen)]
    return "\n".join(lines) + "\n"


def _figures(figures: Sequence[Figure]) -> list[str]:
    """Return detectors as rows and worlds as columns, or one row a figure where that would be sparse."""
    detectors = list(dict.fromkeys(f.detector for f in figures))
    worlds = list(dict.fromkeys(f.world for f in figures))
    known = {(f.detector, f.world): f for f in figures}
    if len(worlds) <= 8 and 2 * len(known) >= len(detectors) * len(worlds):
        return _table(
            ("detector", *worlds),
            ((name, *(_cell(known.get((name, world))) for world in worlds)) for name in detectors),
        )
    return _table(
        ("detector", "world", "value", "from"),
        ((f.detector, f.world, _cell(f), f.note or f"{f.n} streams") for f in figures),
    )


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    text = f"{'>' if figure.note.startswith('0 alarms') else ''}{_number(figure.value)}"
    if figure.measure != "arl" and figure.se:
        text += f" ± {_number(figure.se)}"
    if figure.low is not None:
        text += f" (≥ {_number(figure.low)})"
    if figure.missed:
        text += f", {figure.missed:.0%} missed"
    return text


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heading, ["---"] * len(heading), *rows]
    return ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]
