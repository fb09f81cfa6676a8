"""A release is worse, and it stays so: page; if it is a canary, permit its rollback."""

from collections.abc import Iterable, MutableMapping
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from detectors.records import Decision, Release, Signal, StreamKey, Verb
from detectors.records.ids import derive_id
from detectors.rules import rule

_ALL: Final = "all"
_GRACE: Final = 20
"""Status reports in which the slices of a metric may clear, after the whole release has."""

_UNTIL_CLEAR: Final = 4
"""How many times its least units a page waits while they do not say whether it is the traffic's mix."""

_MAX_UNDECLARED: Final = 100
"""Of how many releases that nobody declared something is remembered: their names come from clients."""


@rule("sustained_regression")
class SustainedRegression:
    """Decides when evidence against a release has stood for several closed buckets with enough units.

    The canary's arm test is the only evidence that permits a rollback: it compares users who were routed by
    chance, so neither season nor a provider's bad day can imitate it. Everything else pages: a release
    against the pinned reference (reason ``release_worse_than_reference``), or against its own beginning
    (``changed_within_release``), traffic that moved to where answers were always worse
    (``traffic_mix_shift``, cause *common*), both arms moving together (``both_arms_moved``, cause *common*),
    a release nobody declared (``undeclared_release_worse``), a candidate that cannot be compared
    (``blind_<why>``); while it cannot be, its reference may page (``candidate_worse_than_reference``). The
    interval of the effect must exclude 0; a reference test measures it on the units after its alarm.

    A page is made once for each alarm of a stream. A slice does not page while the same metric of the whole
    release has a page that no ``cleared`` has ended; nor does the whole itself against its
    other reference. A rollback is decided once in an episode of a release, which begins with its declared
    start; what was remembered of an older episode is forgotten.

    Parameters
    ----------
    closings
        In how many status reports in a row the evidence must stand above its threshold.
    min_units
        How many units of the release must stand behind the effect.

    Examples
    --------
    >>> SustainedRegression(closings=2).name
    'sustained_regression'
    """

    name = "sustained_regression"

    def __init__(
        self,
        *,
        closings: Annotated[int, Meta(ge=1)] = 2,
        min_units: Annotated[int, Meta(ge=1)] = 50,
    ) -> None:
        self._closings = closings
        self._min_units = min_units

    def decide(
        self, signal: Signal, releases: dict[str, Release], memory: MutableMapping[str, Any]
    ) -> Iterable[Decision]:
        """Return the decision that `signal` completes, if any; missing or unclear evidence completes none."""
        stream = signal.stream
        if stream.test == "share" or signal.kind == "change":
            return ()
        kept = _recall(memory, stream.release, releases)
        found: Iterable[Decision] = ()
        if signal.kind == "cleared":
            kept["worse"].pop(_name(stream), None)
            if kept["paged"].pop(_name(stream), None) and stream.segment == _ALL:
                _give_slices_time(stream, kept["worse"])
        elif stream.test == "arm" and signal.detector == "share_betting":
            found = self._decide_blind(signal, releases, kept)
        else:
            found = self._decide_worse(signal, releases, kept, memory)
        _store(memory, stream.release, releases, kept)
        return found

    def _decide_blind(
        self, signal: Signal, releases: dict[str, Release], kept: dict[str, Any]
    ) -> Iterable[Decision]:
        declared = releases.get(signal.stream.release)
        if signal.state != "blind" or not signal.reason or declared is None or declared.role != "candidate":
            kept["blind"] = {}
            return ()
        streak = kept["blind"].get(signal.reason, 0) + 1
        kept["blind"] = {signal.reason: streak}
        if streak < self._closings:
            return ()
        return (_blind_page(signal, declared, self.name),)

    def _decide_worse(
        self,
        signal: Signal,
        releases: dict[str, Release],
        kept: dict[str, Any],
        memory: MutableMapping[str, Any],
    ) -> Iterable[Decision]:
        name, streaks = _name(signal.stream), kept["worse"]
        if not self._is_evidence(signal):
            streaks.pop(name, None)
            return ()
        streaks[name] = streaks.get(name, 0) + 1
        if streaks[name] < self._closings:
            return ()
        if signal.split == "unclear" and signal.effect_n < _UNTIL_CLEAR * self._min_units:
            return ()
        verdict = _verdict(signal, releases, memory, blind=bool(kept["blind"]))
        if verdict is None:
            return ()
        if "rollback" not in verdict.verbs:
            if _is_told(signal.stream, verdict, kept["paged"]):
                return ()
            kept["paged"][name] = 1
        return (_decision(signal, verdict, releases, self.name),)

    def _is_evidence(self, signal: Signal) -> bool:
        return (
            signal.detected
            and signal.worse
            and signal.state == "drift"
            and signal.effect_n >= self._min_units
            and signal.evidence >= signal.threshold
            and _excludes_zero(signal)
        )


_VERSUS: Final = {"arm": "the stable arm", "own": "its own beginning"}


class _Verdict(Struct, frozen=True):
    reason: str
    verbs: tuple[Verb, ...] = ("page",)
    cause: Literal["release", "common"] = "release"


_CANARY = _Verdict("canary_worse_than_stable", ("page", "rollback"))
_UNDECLARED = _Verdict("undeclared_release_worse")
_UNRANDOMISED = _Verdict("candidate_worse_than_reference")
_BOTH = _Verdict("both_arms_moved", cause="common")
_RELEASE = _Verdict("release_worse_than_reference")
_WITHIN = _Verdict("changed_within_release")
_WITHIN_BOTH = _Verdict("changed_within_release", cause="common")
_MIX = _Verdict("traffic_mix_shift", cause="common")


def _verdict(
    signal: Signal, releases: dict[str, Release], memory: MutableMapping[str, Any], *, blind: bool
) -> _Verdict | None:
    """Return what sustained evidence against a release means, None if another stream is its judge."""
    declared = releases.get(signal.stream.release)
    role = declared.role if declared else "unknown"
    if signal.stream.test == "arm":
        return _CANARY if role == "candidate" else None
    if declared is None:
        return _WITHIN if signal.stream.test == "own" else _UNDECLARED
    if role == "candidate":  # where it can be compared, its arm test is the judge
        judged = signal.stream.test == "own" or not (blind or declared.share is None)
        return None if judged else _UNRANDOMISED
    return None if role == "retired" else _verdict_on_stable(signal, releases, memory)


def _verdict_on_stable(
    signal: Signal, releases: dict[str, Release], memory: MutableMapping[str, Any]
) -> _Verdict:
    if signal.split == "mix":
        return _MIX
    candidates = [name for name, release in releases.items() if release.role == "candidate"]
    moved = [_recall(memory, name, releases)["worse"] for name in candidates]
    both = any(_name(signal.stream) in worse for worse in moved)
    if signal.stream.test == "own":
        return _WITHIN_BOTH if both else _WITHIN
    return _BOTH if both else _RELEASE


def _excludes_zero(signal: Signal) -> bool:
    """Return whether the effect's own interval agrees that something changed."""
    interval = signal.interval
    return interval is not None and (interval.high < 0.0 or interval.low > 0.0)


def _name(stream: StreamKey, *, segment: str = "", test: str = "") -> str:
    """Return what names a stream within its release."""
    parts = (test or stream.test, stream.metric, segment or stream.segment)
    return "/".join(f"{len(part)}:{part}" for part in parts)


def _is_told(stream: StreamKey, verdict: _Verdict, paged: dict[str, Any]) -> bool:
    """Return whether the whole release has a page for the metric, or this alarm one, seen less clearly."""
    name = _name(stream)
    wholes = {_name(stream, segment=_ALL, test=test) for test in ("reference", "own")}
    return any(whole in paged for whole in wholes - {name}) or (verdict is _MIX and name in paged)


def _give_slices_time(whole: StreamKey, streaks: dict[str, int]) -> None:
    """A slice has fewer units, so it clears later than the whole; only what stays worse is worth a page.

    The same holds against the anchor, when the release is back at its own beginning.
    """
    prefix = _name(whole, segment="x", test="reference").rpartition("/")[0] + "/"
    for name in streaks:
        if name.startswith(prefix):
            streaks[name] = -_GRACE


def _episode(release: str, releases: dict[str, Release]) -> str:
    declared = releases.get(release)
    return str(declared.started_at_ms) if declared else ""


def _recall(memory: MutableMapping[str, Any], release: str, releases: dict[str, Release]) -> dict[str, Any]:
    """Return what is remembered of a release in its episode; never the memory itself."""
    kept = memory.get(release)
    if kept is None or kept["episode"] != _episode(release, releases):
        return {"worse": {}, "paged": {}, "blind": {}}
    return {table: dict(kept[table]) for table in ("worse", "paged", "blind")}


def _store(
    memory: MutableMapping[str, Any], release: str, releases: dict[str, Release], kept: dict[str, Any]
) -> None:
    if not any(kept.values()):
        memory.pop(release, None)
        return
    memory[release] = {"episode": _episode(release, releases), **kept}
    undeclared = [name for name in memory if name not in releases]
    for name in undeclared[:-_MAX_UNDECLARED]:
        del memory[name]


def _decision(signal: Signal, verdict: _Verdict, releases: dict[str, Release], rule_name: str) -> Decision:
    stream, interval = signal.stream, signal.interval
    episode = _episode(stream.release, releases)
    identity = [stream.deployment, stream.release, episode, verdict.cause]
    if "rollback" not in verdict.verbs:
        onset = "" if signal.alarmed_at_ms is None else str(signal.alarmed_at_ms)
        identity += [stream.metric, stream.segment, onset]
    return Decision(
        decision_id=derive_id("decision", *identity, *verdict.verbs),
        deployment=stream.deployment,
        release=stream.release,
        cause=verdict.cause,
        verbs=verdict.verbs,
        reason=verdict.reason,
        rule=rule_name,
        at_ms=signal.at_ms,
        summary=_summary(signal),
        metric=stream.metric,
        segment=stream.segment,
        signal_ids=(signal.signal_id,),
        effect=signal.effect,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        baseline=signal.baseline,
        n=signal.effect_n,
        began_at_ms=signal.began_at_ms,
        exemplars=signal.bad,
    )


def _summary(signal: Signal) -> str:
    stream, interval, effect = signal.stream, signal.interval, signal.effect or 0.0
    versus = _VERSUS.get(stream.test, "the reference")
    within = f" [{interval.low:+.3f}, {interval.high:+.3f}]" if interval else ""
    return (
        f"{stream.deployment} {stream.release}: {stream.metric} ({stream.segment}) is {effect:+.3f}{within} "
        f"from {versus} ({signal.baseline or 0.0:.3f}), n = {signal.effect_n} units{_carriers(signal)}"
    )


def _carriers(signal: Signal) -> str:
    """Return who carries the change, as far as it is known by slice."""
    told = ""
    if signal.within is not None and signal.mix is not None:
        told = f"; by {signal.split_by}: {signal.within:+.3f} within slices, {signal.mix:+.3f} by traffic mix"
    return f"{told}; worse in {', '.join(signal.segments)}" if signal.segments else told


def _blind_page(signal: Signal, declared: Release, rule_name: str) -> Decision:
    stream, reason = signal.stream, f"blind_{signal.reason}"
    episode = str(declared.started_at_ms)
    return Decision(
        decision_id=derive_id("decision", stream.deployment, stream.release, episode, reason, "page"),
        deployment=stream.deployment,
        release=stream.release,
        cause="release",
        verbs=("page",),
        reason=reason,
        rule=rule_name,
        at_ms=signal.at_ms,
        summary=(
            f"{stream.deployment} {stream.release}: the candidate cannot be compared with the stable release "
            f"({signal.reason.replace('_', ' ')}), n = {signal.n} interactions"
        ),
        metric=stream.metric,
        segment=stream.segment,
        signal_ids=(signal.signal_id,),
        n=signal.n,
    )
