"""The interactions behind a signal, and one interaction with everything known about it."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from dashboards.page.markup import render
from dashboards.page.view import Query, Row, View
from dashboards.queries import QUERIES

_MOST: Final = 50
_EXCERPT: Final = 400
_EVERYTHING: Final = (0, 4_102_444_800_000)


def render_offenders(
    query: Query,
    *,
    deployment: str,
    release: str,
    metric: str,
    from_ms: int,
    to_ms: int,
    segment: str = "",
) -> str:
    """Return the worst interactions of a release on a metric as HTML, worst first.

    Parameters
    ----------
    query
        Runs SQL read-only.
    from_ms, to_ms
        Bounds of event time, the end excluded.
    segment
        ``name=value``; empty or ``all``: the whole traffic.
    """
    view = View(deployment=deployment, from_ms=from_ms, to_ms=to_ms, window="")
    name, _, value = ("", "", "") if segment in ("", "all") else segment.partition("=")
    wanted = {"release": release, "metric": metric, "segment": name, "segment_value": value, "limit": _MOST}
    found = query(QUERIES["offenders"], view.bounds | wanted)
    ids = [row["interaction_id"] for row in found]
    # Ids first, texts after: sorting long texts is what makes such pages slow.
    texts = query(QUERIES["texts"], view.bounds | {"ids": ids, "characters": _EXCERPT}) if ids else []
    by_id = {row["interaction_id"]: row for row in texts}
    return render(
        "offenders.html",
        title=f"{metric} of {release} · Plumbline",
        refresh_s=0,
        view=view,
        release=release,
        metric=metric,
        segment=segment or "all",
        excerpt=_EXCERPT,
        n_all=found[0]["n_all"] if found else 0,
        links={row["interaction_id"]: _interaction_link(deployment, row) for row in found},
        found=[row | {"text": by_id.get(row["interaction_id"])} for row in found],
    )


def render_interaction(
    query: Query, *, interaction_id: str, deployment: str = "", at_ms: int | None = None
) -> str | None:
    """Return one interaction with its texts, scores and feedback as HTML, or None if it is not stored.

    Parameters
    ----------
    query
        Runs SQL read-only.
    deployment
        Empty: found by the id.
    at_ms
        Its event time where known, which makes the look-up cheap.
    """
    from_ms, to_ms = _EVERYTHING if at_ms is None else (at_ms, at_ms + 1)
    bounds: dict[str, Any] = {"from_ms": from_ms, "to_ms": to_ms, "interaction_id": interaction_id}
    if not deployment:
        owners = query(QUERIES["owner"], bounds)
        if not owners:
            return None
        deployment = owners[0]["deployment"]
    bounds["deployment"] = deployment
    heads = query(QUERIES["interaction"], bounds)
    cards = query(QUERIES["interaction_card"], bounds)
    if not heads and not cards:
        return None
    texts = query(QUERIES["interaction_text"], bounds)
    return render(
        "interaction.html",
        title="Interaction · Plumbline",
        refresh_s=0,
        deployment=deployment,
        interaction_id=interaction_id,
        head=heads[0] if heads else None,
        card=cards[0] if cards else None,
        text=_unpacked(texts[0]) if texts else None,
        scores=[
            row | {"evidence": _spans(row["spans"])} for row in query(QUERIES["interaction_scores"], bounds)
        ],
        feedback=query(QUERIES["interaction_feedback"], bounds),
    )


def _interaction_link(deployment: str, row: Row) -> str:
    query = urlencode({"deployment": deployment, "at": row["event_ms"]}, errors="replace")
    return f"/interaction/{quote(row['interaction_id'], safe='', errors='replace')}?{query}"


def _unpacked(row: Mapping[str, Any]) -> Row:
    """Return the row with its JSON columns as lists."""
    return dict(row) | {
        name: msgspec.json.decode(row[name] or "[]") for name in ("history", "context", "tools")
    }


def _spans(text: str) -> list[Row]:
    return [
        {"field": field, "start": start, "end": end, "rule": rule}
        for field, start, end, rule in msgspec.json.decode(text or "[]")
    ]
