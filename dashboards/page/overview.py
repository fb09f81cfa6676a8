"""The overview: what is wrong, what was done, and the curves and numbers that say so."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from dashboards.page.charts import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Mark, draw
from dashboards.page.headline import headline
from dashboards.page.markup import render
from dashboards.page.standing import LOOK_BACK_MS, Standing, marks, standings, worst_off
from dashboards.page.story import chart_marks, links_of, other_acts, story_of
from dashboards.page.view import HOUR_MS, WINDOWS, Query, Row, View, bucket_of, trimmed, view_of
from dashboards.page.words import plural, span, wilson
from dashboards.queries import QUERIES

_RECENT_MS: Final = 168 * HOUR_MS
_CHARTS: Final = 6
_COLOURS: Final = 6


class Evidence(Struct, frozen=True, kw_only=True):
    """The rows that an overview tells of."""

    releases: list[Row]
    scores: list[Row]
    signals: list[Row]
    decisions: list[Row]
    actions: list[Row]
    states: list[Row]
    standing: Standing


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
        Empty: the one that is worst off.
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
    standing = standings(query, known)
    marked = marks(known, standing, now_ms)
    chosen = worst_off(known, marked)
    if deployment:
        named = next((row for row in known if row["deployment"] == deployment), None)
        if named is None:
            return render(
                "missing.html", refresh_s=0, title="Unknown deployment", known=known, what="deployment"
            )
        chosen = named
    view = view_of(chosen, window, to_ms)
    held = standing if to_ms is None else standings(query, [chosen], to_ms=to_ms)
    evidence = _evidence(query, view, held[view.deployment], frozen=to_ms is not None)
    received_ms = chosen["last_received_ms"] if to_ms is None else None
    return render(
        "overview.html",
        title=f"{view.deployment} · Plumbline",
        refresh_s=refresh_s if to_ms is None else 0,
        frozen=to_ms is not None,
        known=known,
        marked=marked,
        windows=WINDOWS,
        top=_top(evidence, now_ms=now_ms, last_received_ms=received_ms),
        **_numbers(query, view, evidence, metric),
        **_told(view, evidence),
    )


def _evidence(query: Query, view: View, standing: Standing, *, frozen: bool) -> Evidence:
    """Read what `view` shows; decisions that are open come with their acts, however old they are."""
    # A narrow window of curves must not hide what happened just before it, nor what its last bucket said:
    # that is dated with the bucket's end.
    recent = view.bounds | {
        "from_ms": min(view.from_ms, view.to_ms - LOOK_BACK_MS),
        "to_ms": view.to_ms if frozen else view.to_ms + HOUR_MS,
    }
    decisions = query(QUERIES["decisions"], recent | {"limit": 50})
    within = {row["decision_id"] for row in decisions}
    decisions += [row for row in standing.open_decisions if row["decision_id"] not in within]
    since_ms = min([recent["from_ms"], *(row["at_ms"] for row in decisions)])
    return Evidence(
        releases=query(QUERIES["releases"], view.bounds),
        scores=query(QUERIES["release_scores"], view.bounds),
        signals=query(QUERIES["signals"], recent | {"limit": 200}),
        decisions=decisions,
        actions=query(QUERIES["actions"], recent | {"from_ms": since_ms, "limit": 500}),
        states=query(QUERIES["stream_states"], recent),
        standing=standing,
    )


def _top(evidence: Evidence, *, now_ms: int, last_received_ms: int | None) -> Any:
    return headline(
        now_ms=now_ms,
        last_received_ms=last_received_ms,
        decisions=evidence.decisions,
        actions=evidence.actions,
        standing=evidence.standing,
        states=evidence.states,
        n=sum(row["n"] for row in evidence.releases),
        releases=len(evidence.releases),
    )


def _numbers(query: Query, view: View, evidence: Evidence, metric: str) -> dict[str, Any]:
    """Return the curves and the table of releases, as the template takes them."""
    shown = _in_order(evidence.releases)[:_COLOURS]
    colours = {row["release"]: index for index, row in enumerate(shown)}
    metrics = [metric] if metric else _most_moved(evidence.scores, evidence.signals)[:_CHARTS]
    marked = chart_marks(view, evidence.signals, evidence.actions)
    drawn = trimmed(view, evidence.releases)
    return {
        "view": view,
        "metric": metric,
        "releases": shown,
        "hidden": len(evidence.releases) - len(shown),
        "colours": colours,
        "table": _table(evidence.scores, shown),
        "charts": _charts(query, drawn, metrics, scores=evidence.scores, colours=colours, marked=marked),
        "bucket": span(bucket_of(drawn)),
        "frame": {"height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP},
    }


def _told(view: View, evidence: Evidence) -> dict[str, Any]:
    """Return signals, decisions and acts, as the template takes them."""
    return {
        "signals": evidence.signals,
        "links": links_of(view, evidence.signals, evidence.decisions),
        "story": story_of(evidence.decisions, evidence.actions),
        "open_ids": {row["decision_id"] for row in evidence.standing.open_decisions},
        "other_acts": other_acts(evidence.decisions, evidence.actions),
        "blind": [row for row in evidence.states if row["state"] == "blind"],
        "tally": _tally(evidence.states),
    }


def _in_order(releases: Sequence[Row]) -> list[Row]:
    """Return the stable release first, then candidates, then the rest: so each keeps its colour."""
    rank = {"stable": 0, "candidate": 1, "": 2, "retired": 3}
    return sorted(releases, key=lambda row: (rank[row["role"]], -row["last_ms"], row["release"]))


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
    marked: Mapping[str, list[Mark]],
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
            marks=marked.get(name, []) + marked[""],
            from_ms=view.from_ms,
            to_ms=view.to_ms,
            bucket_ms=bucket_ms,
            width=WIDTH if len(metrics) > 1 else 2 * WIDTH,
        )
        for name in metrics
        if name in by_metric
    ]


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
