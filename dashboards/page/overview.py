"""The overview: what is wrong, what was done, and the curves and numbers that say so."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from dashboards.page.charts import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Mark, draw
from dashboards.page.headline import concerns, headline, latest
from dashboards.page.markup import render
from dashboards.page.words import clock, plural, signed, span, wilson
from dashboards.queries import QUERIES

Row = dict[str, Any]
Query = Callable[[str, Mapping[str, Any]], list[Row]]
"""Runs a SQL text with parameters; the reader of the store, or anything like it."""

HOUR_MS: Final = 3_600_000
WINDOWS: Final[Mapping[str, int]] = {
    "1h": HOUR_MS,
    "6h": 6 * HOUR_MS,
    "24h": 24 * HOUR_MS,
    "7d": 168 * HOUR_MS,
}
_RECENT_MS: Final = 168 * HOUR_MS
_STORY_MS: Final = 24 * HOUR_MS
_BUCKETS: Final = (60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000)
_MOST_POINTS: Final = 60
_CHARTS: Final = 6
_COLOURS: Final = 6


class View(Struct, frozen=True, kw_only=True):
    """What part of the store a page shows: ``deployment`` in event time [``from_ms``, ``to_ms``)."""

    deployment: str
    from_ms: int
    to_ms: int
    window: str

    @property
    def bounds(self) -> dict[str, Any]:
        """The parameters every query takes."""
        return {"deployment": self.deployment, "from_ms": self.from_ms, "to_ms": self.to_ms}

    def link(self, path: str, **more: Any) -> str:
        """Return `path` with this view, and `more`, as its query string."""
        return f"{path}?{urlencode(self.bounds | {'window': self.window} | more, errors='replace')}"


def render_overview(
    query: Query,
    *,
    now_ms: int,
    deployment: str = "",
    window: str = "",
    to_ms: int | None = None,
    metric: str = "",
    refresh_s: int = 0,
) -> str:
    """Return the overview as HTML.

    Parameters
    ----------
    query
        Runs SQL read-only.
    now_ms
        Unix milliseconds; only ages are told by it.
    deployment
        Empty: the first one that has data.
    window
        A key of :data:`WINDOWS`; empty or unknown: the smallest that holds all recent data, at most a day.
    to_ms
        End of the window in event time; None: just after the newest interaction.
    metric
        Draw only this one; empty: those that moved most.
    refresh_s
        Seconds after which the browser asks again; 0 for never.
    """
    known = query(QUERIES["deployments"], {"from_ms": now_ms - _RECENT_MS, "to_ms": now_ms + HOUR_MS})
    if not known:
        return render("empty.html", refresh_s=refresh_s, title="No data yet")
    chosen = next((row for row in known if row["deployment"] == deployment), None)
    if chosen is None and deployment:
        return render("missing.html", refresh_s=0, title="Unknown deployment", known=known, what="deployment")
    chosen = chosen or known[0]
    view = view_of(chosen, window, to_ms)
    bounds = view.bounds
    releases = query(QUERIES["releases"], bounds)
    scores = query(QUERIES["release_scores"], bounds)
    # A narrow window of curves must not hide what happened just before it.
    story_bounds = bounds | {"from_ms": min(view.from_ms, view.to_ms - _STORY_MS)}
    signals = query(QUERIES["signals"], story_bounds | {"limit": 200})
    decisions = query(QUERIES["decisions"], story_bounds | {"limit": 50})
    actions = query(QUERIES["actions"], story_bounds | {"limit": 500})
    states = query(QUERIES["stream_states"], bounds)
    shown = _in_order(releases)[:_COLOURS]
    colours = {row["release"]: index for index, row in enumerate(shown)}
    metrics = [metric] if metric else _most_moved(scores, signals)[:_CHARTS]
    return render(
        "overview.html",
        title=f"{view.deployment} · Plumbline",
        refresh_s=refresh_s if to_ms is None else 0,
        view=view,
        known=known,
        windows=WINDOWS,
        metric=metric,
        top=headline(
            now_ms=now_ms,
            last_received_ms=chosen["last_received_ms"] if to_ms is None else None,
            decisions=decisions,
            actions=actions,
            signals=signals,
            states=states,
            n=sum(row["n"] for row in releases),
            releases=len(releases),
        ),
        releases=shown,
        hidden=len(releases) - len(shown),
        colours=colours,
        table=_table(scores, shown),
        charts=_charts(
            query,
            _trimmed(view, releases),
            metrics,
            scores=scores,
            colours=colours,
            marks=_marks(view, signals, actions),
        ),
        bucket=span(bucket_of(_trimmed(view, releases))),
        signals=signals,
        links=_links(view, signals, decisions),
        story=_story(decisions, actions),
        other_acts=_other_acts(decisions, actions),
        blind=[row for row in states if row["state"] == "blind"],
        tally=_tally(states),
        frame={"height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP},
    )


def _in_order(releases: Sequence[Row]) -> list[Row]:
    """Return the stable release first, then candidates, then the rest: so each keeps its colour."""
    rank = {"stable": 0, "candidate": 1, "": 2, "retired": 3}
    return sorted(releases, key=lambda row: (rank[row["role"]], -row["last_ms"], row["release"]))


def view_of(row: Row, window: str, to_ms: int | None) -> View:
    """Return the view of a deployment's row that ends at `to_ms`, or just after its newest interaction."""
    reach = row["last_event_ms"] - row["first_event_ms"]
    name = (
        window if window in WINDOWS else next((key for key in ("1h", "6h") if reach <= WINDOWS[key]), "24h")
    )
    end = to_ms if to_ms is not None else row["last_event_ms"] // 60_000 * 60_000 + 60_000
    return View(deployment=row["deployment"], from_ms=end - WINDOWS[name], to_ms=end, window=name)


def bucket_of(view: View) -> int:
    """Return the width of a bucket in milliseconds that gives a curve of at most sixty points."""
    reach = view.to_ms - view.from_ms
    return next((bucket for bucket in _BUCKETS if reach / bucket <= _MOST_POINTS), _BUCKETS[-1])


def _trimmed(view: View, releases: Sequence[Row]) -> View:
    """Return the view without the empty time before its first interaction."""
    if not releases:
        return view
    bucket_ms = bucket_of(view)
    first = min(row["first_ms"] for row in releases) // bucket_ms * bucket_ms
    return msgspec.structs.replace(view, from_ms=max(view.from_ms, first))


def _most_moved(scores: Sequence[Row], signals: Sequence[Row]) -> list[str]:
    """Return the metrics with signals first, then by how far their releases lie apart in standard errors."""
    apart: dict[str, float] = {}
    means: dict[str, list[tuple[float, float]]] = {}
    for row in scores:
        if row["mean"] is not None:
            means.setdefault(row["metric"], []).append((row["mean"], row["se"] or 0.0))
    for name, found in means.items():
        spread = max(mean for mean, _ in found) - min(mean for mean, _ in found)
        apart[name] = spread / (max(se for _, se in found) + 1e-3)
    moved = {row["metric"] for row in signals if row["kind"] == "change"}
    return sorted(apart, key=lambda name: (name not in moved, -apart[name], name))


def _table(scores: Sequence[Row], releases: Sequence[Row]) -> list[Row]:
    """Return one row per metric with one cell per release, None where it was never scored."""
    cells: dict[str, dict[str, Row]] = {}
    directions: dict[str, str] = {}
    for row in scores:
        directions[row["metric"]] = row["direction"]
        interval = wilson(row["mean"], row["units"], row["se"]) if row["mean"] is not None else None
        cells.setdefault(row["metric"], {})[row["release"]] = row | {"interval": interval}
    return [
        {
            "metric": name,
            "direction": directions[name],
            "cells": [cells[name].get(release["release"]) for release in releases],
        }
        for name in sorted(cells)
    ]


def _charts(
    query: Query,
    view: View,
    metrics: Sequence[str],
    *,
    scores: Sequence[Row],
    colours: Mapping[str, int],
    marks: Mapping[str, list[Mark]],
) -> list[Chart]:
    bucket_ms = bucket_of(view)
    rows = query(QUERIES["curves"], view.bounds | {"metrics": list(metrics), "bucket_ms": bucket_ms})
    by_metric: dict[str, list[Row]] = {}
    for row in rows:
        by_metric.setdefault(row["metric"], []).append(row)
    directions = {row["metric"]: row["direction"] for row in scores}
    return [
        draw(
            metric=name,
            direction=directions.get(name, "neutral"),
            rows=by_metric[name],
            colours=colours,
            marks=marks.get(name, []) + marks[""],
            from_ms=view.from_ms,
            to_ms=view.to_ms,
            bucket_ms=bucket_ms,
            width=WIDTH if len(metrics) > 1 else 2 * WIDTH,
        )
        for name in metrics
        if name in by_metric
    ]


def _marks(view: View, signals: Sequence[Row], actions: Sequence[Row]) -> dict[str, list[Mark]]:
    """Return the marks by metric; those of acts stand under the empty name, they concern every curve."""
    marks: dict[str, list[Mark]] = {"": []}
    for row in signals:
        where = f"{row['release']}, {row['segment']}"
        words = f"{row['kind']} {clock(row['at_ms'])}: {where}, {signed(row['effect'])}"
        began = row["began_at_ms"] if row["kind"] == "change" else None
        marks.setdefault(row["metric"], []).append(
            Mark(row["kind"], row["at_ms"], words, offenders_link(view, row), began)
        )
    for act in latest(actions):
        if act["kind"] == "rollback":
            mode = "dry-run " if act["dry_run"] else ""
            way = f"{act['from_release']} to {act['to_release']}"
            words = f"{mode}rollback {clock(act['at_ms'])}: {act['state']}, {way}"
            marks[""].append(Mark("action", act["at_ms"], words))
    return marks


def _links(view: View, signals: Sequence[Row], decisions: Sequence[Row]) -> dict[str, str]:
    """Return the link to the offending interactions by the id of the signal or decision."""
    by_signal = {row["signal_id"]: offenders_link(view, row) for row in signals}
    return by_signal | {row["decision_id"]: offenders_link(view, row) for row in decisions}


def offenders_link(view: View, row: Row) -> str:
    """Return the link from a signal or decision to the interactions behind it."""
    began = row["began_at_ms"] if row["began_at_ms"] is not None else view.from_ms
    reached = View(
        deployment=view.deployment, from_ms=began, to_ms=max(row["at_ms"], began + 1), window=view.window
    )
    return reached.link("/interactions", release=row["release"], metric=row["metric"], segment=row["segment"])


def _story(decisions: Sequence[Row], actions: Sequence[Row]) -> list[Row]:
    """Return each decision with its own acts, and whether another decision's act answers it too."""
    return [
        decision
        | {
            "acts": _acts([row for row in actions if row["decision_id"] == decision["decision_id"]]),
            "answered": any(concerns(row, decision) for row in actions),
        }
        for decision in decisions
    ]


def _other_acts(decisions: Sequence[Row], actions: Sequence[Row]) -> list[Row]:
    known = {row["decision_id"] for row in decisions}
    return _acts([row for row in actions if row["decision_id"] not in known])


def _acts(rows: Sequence[Row]) -> list[Row]:
    found = []
    for act in latest(rows):
        trail = sorted(
            (row for row in rows if row["action_id"] == act["action_id"]), key=lambda row: row["seq"]
        )
        found.append(dict(act) | {"trail": trail})
    return found


def _tally(states: Sequence[Row]) -> str:
    """Return how many streams are in which state.

    Examples
    --------
    >>> _tally([{"state": "steady"}, {"state": "blind"}, {"state": "steady"}])
    '3 streams: 2 steady, 1 blind'
    """
    order = ("drift", "warning", "steady", "warming", "blind")
    counts = [(sum(row["state"] == name for row in states), name) for name in order]
    return f"{plural(len(states), 'stream')}: " + (
        ", ".join(f"{n} {name}" for n, name in counts if n) or "none yet"
    )
