"""The geometry of a curve with its confidence band; the template draws it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from dashboards.page.words import clock, moment, number, wilson

WIDTH: Final = 560
"""Width of a chart that shares its row, in units of its view box; a lone one is twice as wide."""

HEIGHT: Final = 210
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 20, 26
_STEPS: Final = (
    60_000,
    300_000,
    600_000,
    900_000,
    1_800_000,
    3_600_000,
    7_200_000,
    10_800_000,
    21_600_000,
    43_200_000,
)
_DAY_MS: Final = 86_400_000


class Tick(Struct, frozen=True):
    """A line of the grid: where, and what it says."""

    at: float
    text: str


class Curve(Struct, frozen=True):
    """One release: ``lines`` and ``bands`` are point lists of SVG, broken where data is missing."""

    release: str
    colour: int
    lines: tuple[str, ...]
    bands: tuple[str, ...]
    dots: tuple[tuple[float, float, str], ...]
    n: int
    units: int


class Mark(Struct, frozen=True):
    """Something that happened: ``kind`` is ``change``, ``cleared`` or ``action``."""

    kind: str
    at_ms: int
    text: str
    href: str = ""
    began_at_ms: int | None = None


class Placed(Struct, frozen=True):
    """A mark on the chart; ``began_x`` is where the change began."""

    kind: str
    x: float
    text: str
    href: str
    began_x: float | None


class Chart(Struct, frozen=True):
    """Everything the template needs to draw one metric."""

    metric: str
    direction: str
    curves: tuple[Curve, ...]
    marks: tuple[Placed, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    summary: str
    width: int


def draw(
    *,
    metric: str,
    direction: str,
    rows: Sequence[Mapping[str, Any]],
    colours: Mapping[str, int],
    marks: Sequence[Mark],
    from_ms: int,
    to_ms: int,
    bucket_ms: int,
    width: int = WIDTH,
) -> Chart:
    """Return the chart of one metric from rows of the ``curves`` query.

    Values are in [0, 1]; the axis spans what was seen with its bands. Buckets in which a release has no
    score break its curve: a gap is never bridged.
    """
    points = _points(rows, colours, bucket_ms)
    bottom, top, step = _axis([value for own in points.values() for point in own for value in point[1:4]])
    scale = _Scale(from_ms, to_ms, bottom, top, width)
    curves = [
        _curve(scale, release, colours[release], own, gap_ms=2 * bucket_ms) for release, own in points.items()
    ]
    return Chart(
        metric=metric,
        direction=direction,
        curves=tuple(sorted(curves, key=lambda curve: curve.colour)),
        marks=tuple(_place(scale, mark) for mark in marks if from_ms <= mark.at_ms < to_ms),
        x_ticks=_times(scale),
        y_ticks=_values(scale, step),
        summary=f"{metric}: mean per release with 95 % interval, {moment(from_ms)} to {moment(to_ms)} UTC",
        width=width,
    )


_Point = tuple[int, float, float, float, int, int]
"""Middle of the bucket, mean, low, high, scores, units."""


class _Scale(Struct, frozen=True):
    """From time and value to the chart's own units."""

    from_ms: int
    to_ms: int
    bottom: float
    top: float
    width: int

    def x(self, at_ms: float) -> float:
        share = (at_ms - self.from_ms) / max(1, self.to_ms - self.from_ms)
        return round(LEFT + (self.width - LEFT - RIGHT) * min(1.0, max(0.0, share)), 1)

    def y(self, value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (self.top - value) / (self.top - self.bottom), 1)


def _points(
    rows: Sequence[Mapping[str, Any]], colours: Mapping[str, int], bucket_ms: int
) -> dict[str, list[_Point]]:
    points: dict[str, list[_Point]] = {}
    for row in rows:
        if row["mean"] is None or row["release"] not in colours:
            continue
        low, high = wilson(row["mean"], row["units"], row["se"])
        middle = int(row["bucket_ms"]) + bucket_ms // 2
        points.setdefault(row["release"], []).append((middle, row["mean"], low, high, row["n"], row["units"]))
    return points


def _curve(scale: _Scale, release: str, colour: int, points: Sequence[_Point], *, gap_ms: int) -> Curve:
    runs = [run for run in _runs(points, gap_ms) if len(run) > 1]
    return Curve(
        release=release,
        colour=colour,
        lines=tuple(" ".join(f"{scale.x(p[0])},{scale.y(p[1])}" for p in run) for run in runs),
        bands=tuple(_band(scale, run) for run in runs),
        dots=tuple((scale.x(p[0]), scale.y(p[1]), _said(release, p)) for p in points),
        n=sum(p[4] for p in points),
        units=sum(p[5] for p in points),
    )


def _band(scale: _Scale, run: Sequence[_Point]) -> str:
    upper = [f"{scale.x(p[0])},{scale.y(p[3])}" for p in run]
    return " ".join(upper + [f"{scale.x(p[0])},{scale.y(p[2])}" for p in reversed(run)])


def _place(scale: _Scale, mark: Mark) -> Placed:
    began_x = None if mark.began_at_ms is None else scale.x(mark.began_at_ms)
    return Placed(mark.kind, scale.x(mark.at_ms), mark.text, mark.href, began_x)


def _values(scale: _Scale, step: float) -> tuple[Tick, ...]:
    digits = 2 if step >= 0.01 else 3
    marks = [scale.bottom + k * step for k in range(round((scale.top - scale.bottom) / step) + 1)]
    return tuple(Tick(scale.y(value), number(value, digits)) for value in marks)


def _said(release: str, point: _Point) -> str:
    at, mean, low, high, n, units = point
    return f"{release}, {clock(at)}: {mean:.3f} ({low:.3f} to {high:.3f}), {n:,} scores in {units:,} units"


def _runs(points: Sequence[_Point], gap_ms: int) -> list[list[_Point]]:
    runs: list[list[_Point]] = []
    for point in points:
        if runs and point[0] - runs[-1][-1][0] <= gap_ms:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def _axis(values: Sequence[float]) -> tuple[float, float, float]:
    """Return bottom, top and step of an axis within [0, 1] with three to six round steps."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    reach = max(high - low, 0.02)
    step = next(s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25) if reach / s <= 5)
    bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
    if top <= bottom:
        top = bottom + step
    return max(0.0, round(bottom, 6)), min(1.0, round(top, 6)) if top > 0 else step, step


def _times(scale: _Scale) -> tuple[Tick, ...]:
    reach = scale.to_ms - scale.from_ms
    step = next((s for s in _STEPS if reach / s <= 7), _DAY_MS * max(1, math.ceil(reach / _DAY_MS / 7)))
    first = -(-scale.from_ms // step) * step
    says = moment if step >= _DAY_MS else clock
    edge = scale.width - RIGHT - 12
    ticks = [Tick(scale.x(at), says(at)[:10]) for at in range(first, scale.to_ms, step)]
    return tuple(tick for tick in ticks if LEFT + 8 <= tick.at <= edge)
