"""The first line of the page: what is wrong and what was already done, in one sentence."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from dashboards.page.words import clock, plural, signed, span

Mood = Literal["good", "handled", "watch", "bad", "empty"]
Row = Mapping[str, Any]

_SILENCE_MS = 900_000
_DONE = {
    "DECIDED": "a rollback to {to} is decided",
    "EXECUTING": "a rollback to {to} is being carried out",
    "VERIFYING": "a rollback to {to} was carried out and is being verified",
    "ROLLED_BACK": "it was rolled back to {to} and that was verified",
    "FAILED": "the rollback FAILED and needs a person now",
}


class Headline(Struct, frozen=True):
    """``sentence`` is what to read at three in the morning; ``note`` is what it rests on."""

    mood: Mood
    sentence: str
    note: str


def latest(actions: Sequence[Row]) -> list[Row]:
    """Return the newest transition of each act, newest act first."""
    newest: dict[str, Row] = {}
    for row in actions:
        known = newest.get(row["action_id"])
        if known is None or row["seq"] > known["seq"]:
            newest[row["action_id"]] = row
    return sorted(newest.values(), key=lambda row: (-row["at_ms"], row["action_id"]))


def done(actions: Sequence[Row], *, paging: bool) -> str:
    """Return what was done, from the newest transition of each act; `paging`: a page was due."""
    said = []
    for act in actions:
        if act["kind"] == "rollback":
            words = _DONE[act["state"]].format(to=act["to_release"] or "the stable release")
            if act["dry_run"]:
                words = f"in dry-run, nothing was changed: {words}"
            said.append(f"{words} ({clock(act['at_ms'])})")
        elif act["state"] == "FAILED":
            said.append(f"the page to {act['target']} FAILED ({clock(act['at_ms'])})")
    pages = [act for act in actions if act["kind"] == "page" and act["state"] != "FAILED"]
    if pages:
        targets = sorted({act["target"] for act in pages})
        said.append(f"{' and '.join(targets)} {'was' if len(targets) == 1 else 'were'} paged")
    if said:
        return "; ".join(said)
    return "a page was due, no rollback was begun" if paging else "no page and no rollback were asked for"


def headline(
    *,
    now_ms: int,
    last_received_ms: int | None,
    decisions: Sequence[Row],
    actions: Sequence[Row],
    signals: Sequence[Row],
    states: Sequence[Row],
    n: int,
    releases: int,
) -> Headline:
    """Return the headline of a deployment; the gravest thing that holds decides.

    Parameters
    ----------
    decisions, actions, signals, states
        Rows of the queries of those names (``states`` of ``stream_states``), newest first.
    last_received_ms
        When the newest interaction came in; None where that does not matter, in a look back.
    n, releases
        Interactions scored in the window, and how many releases served them.
    """
    watched = plural(len(states), "stream")
    note = f"{plural(n, 'interaction')} of {plural(releases, 'release')} scored, {watched} watched"
    if last_received_ms is not None:
        note += f", last one received {span(now_ms - last_received_ms)} ago"
    if decisions:
        return _decided(decisions, actions, note)
    open_signals = _open(signals)
    if open_signals:
        return _moved(open_signals, note)
    if last_received_ms is not None and now_ms - last_received_ms > _SILENCE_MS:
        return Headline("watch", f"Nothing has been received for {span(now_ms - last_received_ms)}.", note)
    return _quiet(states, n, note)


def _decided(decisions: Sequence[Row], actions: Sequence[Row], note: str) -> Headline:
    """Speak of the release that still needs somebody, or else of the one decided on last."""
    by_release: dict[str, list[Row]] = {}
    for row in decisions:
        by_release.setdefault(row["release"], []).append(row)
    said = [_of_release(rows, actions, len(decisions) - 1, note) for rows in by_release.values()]
    return next((top for top in said if top.mood == "bad"), said[0])


def _of_release(decisions: Sequence[Row], actions: Sequence[Row], others: int, note: str) -> Headline:
    """Return the headline of one release: its first acted-on decision, for later ones only repeat it."""
    acts = [act for act in latest(actions) if concerns(act, decisions[0])]
    begun = {act["decision_id"] for act in acts}
    first = next((row for row in decisions if row["decision_id"] in begun), decisions[0])
    what = first["summary"].rstrip(".") or f"Release {first['release']}: {first['metric']} is worse"
    since = f" since {clock(first['began_at_ms'])}" if first["began_at_ms"] is not None else ""
    more = f" {plural(others, 'more decision')} below." if others else ""
    over = any(
        act["kind"] == "rollback" and act["state"] == "ROLLED_BACK" and not act["dry_run"] for act in acts
    )
    told = done(acts, paging="page" in first["verbs"])
    return Headline("handled" if over else "bad", f"{what}{since}: {told}.{more}", note)


def concerns(act: Row, decision: Row) -> bool:
    """Return whether an act answers a decision: its own, or a rollback of the same release begun before."""
    same_release = act["kind"] == "rollback" and act["release"] == decision["release"]
    return bool(act["decision_id"] == decision["decision_id"] or same_release)


def _moved(signals: Sequence[Row], note: str) -> Headline:
    one = signals[0]
    where = "" if one["segment"] == "all" else f" ({one['segment']})"
    words = f"{one['metric']} of release {one['release']}{where} moved {signed(one['effect'])}"
    more = f", and {len(signals) - 1} more" if len(signals) > 1 else ""
    return Headline(
        "watch", f"{words} over {plural(one['n'], 'unit')}{more}: no rule asked for action.", note
    )


def _quiet(states: Sequence[Row], n: int, note: str) -> Headline:
    blind = [row for row in states if row["state"] == "blind"]
    if blind:
        names = sorted({f"{row['metric']} of {row['release']}" for row in blind})
        shown = ", ".join(names[:2]) + (" …" if len(names) > 2 else "")
        words = f"{plural(len(blind), 'stream')} of {len(states)} cannot see"
        return Headline("watch", f"{words}: data is missing for {shown}.", note)
    if n == 0:
        return Headline("empty", "Nothing was scored in this window.", note)
    if not states:
        return Headline("empty", "Traffic is scored; no stream has reported its status yet.", note)
    warming = sum(row["state"] == "warming" for row in states)
    if warming:
        return Headline(
            "good", f"No change found; {warming} of {plural(len(states), 'stream')} still warming up.", note
        )
    return Headline("good", "Nothing is wrong: no stream has left its reference.", note)


def _open(signals: Sequence[Row]) -> list[Row]:
    """Return the changes for the worse that have not been cleared since."""
    latest_kind: dict[tuple[str, ...], Row] = {}
    for row in signals:
        latest_kind.setdefault((row["release"], row["segment"], row["metric"], row["test"]), row)
    return [row for row in latest_kind.values() if row["kind"] == "change" and row["worse"]]
