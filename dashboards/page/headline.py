"""The first line of the page: what is wrong and what was already done, in one sentence."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from dashboards.page.standing import SILENCE_MS, Standing, names_of
from dashboards.page.words import clock, described, percent, plural, span
from detectors.records.wording import plain_segment

Mood = Literal["good", "handled", "watch", "bad", "empty"]
Row = Mapping[str, Any]

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


def done(actions: Sequence[Row], verbs: Sequence[str]) -> str:
    """Return what was done, from the newest transition of each act, on a decision that permits `verbs`."""
    said = [_rollback(act) for act in actions if act["kind"] == "rollback"]
    if not said and "rollback" in verbs:
        said.append("no rollback was begun, though one is permitted (the page that was sent says why)")
    elif not said:
        said.append("not rolled back: nobody permitted it (page only)")
    by_state: dict[str, set[str]] = {}
    for act in actions:
        if act["kind"] == "page":
            by_state.setdefault(act["state"], set()).add(act["target"])
    for state, targets in sorted(by_state.items()):
        said.append(_page(state, " and ".join(sorted(targets)), len(targets)))
    return "; ".join(said)


def _rollback(act: Row) -> str:
    to = act["to_release"] or "the stable release"
    if act["dry_run"]:
        return f"DRY RUN, nothing was changed: would have rolled back to {to} ({clock(act['at_ms'])})"
    return f"{_DONE[act['state']].format(to=to)} ({clock(act['at_ms'])})"


def _page(state: str, targets: str, count: int) -> str:
    if state == "FAILED":
        return f"the page to {targets} FAILED"
    if state == "DELIVERED":
        return f"{targets} {'was' if count == 1 else 'were'} paged"
    return f"the page to {targets} is NOT delivered yet"


def headline(
    *,
    now_ms: int,
    last_received_ms: int | None,
    decisions: Sequence[Row],
    actions: Sequence[Row],
    standing: Standing,
    states: Sequence[Row],
    n: int,
    releases: int,
) -> Headline:
    """Return the headline of a deployment; the gravest thing that holds decides.

    Parameters
    ----------
    decisions, actions, states
        Rows of the queries of those names (``states`` of ``stream_states``), newest first.
    standing
        Which decisions are open, and which streams are not well.
    last_received_ms
        When the newest interaction came in; None where that does not matter, in a look back.
    n, releases
        Interactions scored in the window, and how many releases served them.
    """
    watched = plural(len(states), "stream")
    note = f"{plural(n, 'interaction')} of {plural(releases, 'release')} scored, {watched} watched"
    silent_ms = None if last_received_ms is None else now_ms - last_received_ms
    if silent_ms is not None:
        note += f", last one received {span(silent_ms)} ago"
    if standing.open_decisions:
        return _decided(standing.open_decisions, actions, "bad", note)
    if standing.worse:
        return Headline("watch", _drifting(standing.worse), note)
    if silent_ms is not None and silent_ms > SILENCE_MS:
        return Headline("watch", f"Nothing has been received for {span(silent_ms)}.", note)
    if unseen := standing.blind(candidate=True):
        return Headline("watch", f"The candidate is not watched: {_unseen(unseen)}", note)
    if decisions:
        return _decided(decisions, actions, "handled", note)
    return _quiet(standing, states, n, note)


def _decided(decisions: Sequence[Row], actions: Sequence[Row], mood: Mood, note: str) -> Headline:
    """Speak of the release decided on last, by its first acted-on decision: later ones only repeat it."""
    same = [row for row in decisions if row["release"] == decisions[0]["release"]]
    acts = [act for act in latest(actions) if concerns(act, decisions[0])]
    begun = {act["decision_id"] for act in acts}
    first = next((row for row in same if row["decision_id"] in begun), same[0])
    than = next((act["to_release"] for act in acts if act["kind"] == "rollback"), "")
    told = done(acts, first["verbs"])
    more = f" {plural(len(decisions) - 1, 'more decision')} below." if len(decisions) > 1 else ""
    over = " It is over: the metric is back, or the release is out of service." if mood == "handled" else ""
    if any(act["state"] == "ROLLED_BACK" for act in acts):
        over = ""
    sentence = f"{described(first, than=than)} {told[0].upper()}{told[1:]}.{over}{more}"
    return Headline(mood, sentence, note)


def concerns(act: Row, decision: Row) -> bool:
    """Return whether an act answers a decision: its own, or a rollback of the same release begun before."""
    same_release = act["kind"] == "rollback" and act["release"] == decision["release"]
    return bool(act["decision_id"] == decision["decision_id"] or same_release)


def _drifting(rows: Sequence[Row]) -> str:
    one = rows[0]
    where = "" if one["segment"] == "all" else f" in {plain_segment(one['segment'])}"
    than = {"arm": "the stable release", "own": "its own beginning"}.get(one["test"], "the reference")
    size = ""
    if one["mean"] is not None and one["baseline"] is not None:
        size = f" {percent(one['baseline'], 1)} -> {percent(one['mean'], 1)}"
        size += f" over {plural(one['n'], 'unit')}"
    since = f" since {clock(one['began_at_ms'])} UTC" if one["began_at_ms"] is not None else ""
    more = f" {plural(len(rows) - 1, 'more stream')} too." if len(rows) > 1 else ""
    return (
        f"{one['release']} drifts for the WORSE against {than}: {one['metric']}{where}{size}{since}. "
        f"No rule has asked for action.{more}"
    )


def _unseen(blind: Sequence[Row]) -> str:
    reasons = sorted({(row["reason"] or "missing data").replace("_", " ") for row in blind})
    return f"{plural(len(blind), 'stream')} cannot see {names_of(blind)} ({', '.join(reasons[:2])})."


def _quiet(standing: Standing, states: Sequence[Row], n: int, note: str) -> Headline:
    if standing.warned:
        words = f"{plural(len(standing.warned), 'stream')} near to drift: {names_of(standing.warned)}."
        return Headline("watch", words, note)
    if blind := standing.blind(candidate=False):
        return Headline("watch", _unseen(blind), note)
    if n == 0:
        return Headline("empty", "Nothing was scored in this window.", note)
    if not states:
        return Headline("empty", "Traffic is scored; no stream has reported its status yet.", note)
    warming = sum(row["state"] == "warming" for row in states)
    if warming:
        words = f"Nothing is worse; {warming} of {plural(len(states), 'stream')} still warming up."
    elif standing.moved:
        words = "Nothing is worse."
    else:
        words = "Nothing is wrong: no stream has left its reference."
    if standing.moved:
        words += f" Moved, without being worse: {names_of(standing.moved)}."
    return Headline("good", words, note)
