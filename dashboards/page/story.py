"""What was decided and what was done about it, ready to be told."""

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards.page.charts import Mark
from dashboards.page.headline import concerns, latest
from dashboards.page.view import Row, View
from dashboards.page.words import clock, described, signed


def story_of(decisions: Sequence[Row], actions: Sequence[Row]) -> list[Row]:
    """Return each decision with its sentence, its own acts, and whether another decision's act answers it."""
    told = []
    for decision in decisions:
        concerned = [row for row in actions if concerns(row, decision)]
        told.append(
            decision
            | {
                "sentence": described(decision, than=target_of(concerned)),
                "acts": acts_of([row for row in actions if row["decision_id"] == decision["decision_id"]]),
                "answered": bool(concerned),
            }
        )
    return told


def target_of(actions: Sequence[Mapping[str, Any]]) -> str:
    """Return the release that traffic was, or was to be, moved back to; empty if there was no such act."""
    return next((row["to_release"] for row in actions if row["kind"] == "rollback"), "")


def other_acts(decisions: Sequence[Row], actions: Sequence[Row]) -> list[Row]:
    """Return the acts whose decision is not among `decisions`."""
    known = {row["decision_id"] for row in decisions}
    return acts_of([row for row in actions if row["decision_id"] not in known])


def acts_of(rows: Sequence[Row]) -> list[Row]:
    """Return the newest transition of each act with the whole trail that led to it."""
    found = []
    for act in latest(rows):
        own = (row for row in rows if row["action_id"] == act["action_id"])
        found.append(dict(act) | {"trail": sorted(own, key=lambda row: row["seq"])})
    return found


def chart_marks(view: View, signals: Sequence[Row], actions: Sequence[Row]) -> dict[str, list[Mark]]:
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


def links_of(view: View, signals: Sequence[Row], decisions: Sequence[Row]) -> dict[str, str]:
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
