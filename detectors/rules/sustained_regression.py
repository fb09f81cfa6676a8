"""A release is worse, and it stays so: page; if it is a canary, permit its rollback."""

from collections.abc import Iterable, MutableMapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from detectors.records import Decision, Release, Signal, StreamKey, Verb
from detectors.records.ids import derive_id
from detectors.rules import rule

_WORSE: Final = "worse:"


@rule("sustained_regression")
class SustainedRegression:
    """Decides when evidence against a release has stood for several closed buckets with enough units.

    The canary's arm test is the only evidence that permits a rollback: it compares users who were routed by
    chance, so neither season nor a provider's bad day can imitate it. Everything else pages: a release
    against the pinned reference (reason ``release_worse_than_reference``), both arms moving together
    (``both_arms_moved``, cause *common*), a release nobody declared (``undeclared_release_worse``).
    The interval of the effect must exclude 0; a reference test measures it on the units after its alarm.

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
        if signal.kind != "status" or signal.stream.test == "share":
            return ()
        streak_key = _streak_key(signal.stream, signal.stream.release)
        if not self._is_evidence(signal):
            memory.pop(streak_key, None)
            return ()
        streak = memory[streak_key] = int(memory.get(streak_key, 0)) + 1
        if streak < self._closings:
            return ()
        verdict = _verdict(signal, releases, memory)
        return () if verdict is None else (_decision(signal, verdict, releases, self.name),)

    def _is_evidence(self, signal: Signal) -> bool:
        return (
            signal.detected
            and signal.worse
            and signal.state == "drift"
            and signal.effect_n >= self._min_units
            and signal.evidence >= signal.threshold
            and _excludes_zero(signal)
        )


class _Verdict(Struct, frozen=True):
    reason: str
    verbs: tuple[Verb, ...] = ("page",)
    cause: Literal["release", "common"] = "release"


_CANARY = _Verdict("canary_worse_than_stable", ("page", "rollback"))
_UNDECLARED = _Verdict("undeclared_release_worse")
_UNRANDOMISED = _Verdict("candidate_worse_than_reference")
_BOTH = _Verdict("both_arms_moved", cause="common")
_RELEASE = _Verdict("release_worse_than_reference")


def _verdict(
    signal: Signal, releases: dict[str, Release], memory: MutableMapping[str, Any]
) -> _Verdict | None:
    """Return what sustained evidence against a release means, None if another stream is its judge."""
    declared = releases.get(signal.stream.release)
    role = declared.role if declared else "unknown"
    if signal.stream.test == "arm":
        return _CANARY if role == "candidate" else None
    if role == "unknown":
        return _UNDECLARED
    if role == "candidate":  # with a known share its arm test is the judge
        return _UNRANDOMISED if declared is not None and declared.share is None else None
    if role == "retired":
        return None
    candidates = [name for name, release in releases.items() if release.role == "candidate"]
    moved_too = any(_streak_key(signal.stream, name) in memory for name in candidates)
    return _BOTH if moved_too else _RELEASE


def _excludes_zero(signal: Signal) -> bool:
    """Return whether the effect's own interval agrees that something changed."""
    interval = signal.interval
    return interval is not None and (interval.high < 0.0 or interval.low > 0.0)


def _streak_key(stream: StreamKey, release: str) -> str:
    return _WORSE + str(msgspec.structs.replace(stream, release=release))


def _decision(signal: Signal, verdict: _Verdict, releases: dict[str, Release], rule_name: str) -> Decision:
    stream, interval = signal.stream, signal.interval
    declared = releases.get(stream.release)
    episode = str(declared.started_at_ms) if declared else ""
    return Decision(
        decision_id=derive_id(
            "decision", stream.deployment, stream.release, episode, verdict.cause, *verdict.verbs
        ),
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
    versus = "the stable arm" if stream.test == "arm" else "the reference"
    within = f" [{interval.low:+.3f}, {interval.high:+.3f}]" if interval else ""
    return (
        f"{stream.deployment} {stream.release}: {stream.metric} ({stream.segment}) is {effect:+.3f}{within} "
        f"from {versus} ({signal.baseline or 0.0:.3f}), n = {signal.effect_n} units"
    )
