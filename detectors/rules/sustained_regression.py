"""A release is worse, and it stays so: page; if it is a canary, permit its rollback."""

from collections.abc import Iterable, MutableMapping
from typing import Annotated, Any, Final

from msgspec import Meta

from detectors.records import Decision, Release, Signal, Verb
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
        streak_key = _WORSE + str(signal.stream)
        if not self._is_evidence(signal):
            memory.pop(streak_key, None)
            return ()
        streak = memory[streak_key] = int(memory.get(streak_key, 0)) + 1
        if streak < self._closings:
            return ()
        reason, cause, verbs = self._reason(signal, releases, memory)
        if reason is None:
            return ()
        return (_decision(signal, reason, cause, verbs, self.name),)

    def _is_evidence(self, signal: Signal) -> bool:
        return (
            signal.detected
            and signal.worse
            and signal.state == "drift"
            and signal.effect_n >= self._min_units
            and signal.evidence >= signal.threshold
            and (signal.stream.test == "arm" or _excludes_zero(signal))
        )

    def _reason(
        self, signal: Signal, releases: dict[str, Release], memory: MutableMapping[str, Any]
    ) -> tuple[str | None, Any, tuple[Verb, ...]]:
        declared = releases.get(signal.stream.release)
        if signal.stream.test == "arm":
            if declared is None or declared.role != "candidate":
                return None, "release", ()
            return "canary_worse_than_stable", "release", ("page", "rollback")
        if declared is None:
            return "undeclared_release_worse", "release", ("page",)
        if declared.role == "retired":
            return None, "release", ()
        if declared.role == "candidate":
            if _is_randomised(declared):  # its arm test is the judge
                return None, "release", ()
            return "candidate_worse_than_reference", "release", ("page",)
        others = [name for name, release in releases.items() if release.role == "candidate"]
        if any(_WORSE + str(_of_release(signal, name)) in memory for name in others):
            return "both_arms_moved", "common", ("page",)
        return "release_worse_than_reference", "release", ("page",)


def _excludes_zero(signal: Signal) -> bool:
    """Return whether the units after the alarm confirm a change; an arm test's evidence needs no second sample."""
    interval = signal.interval
    return interval is not None and (interval.high < 0.0 or interval.low > 0.0)


def _is_randomised(release: Release) -> bool:
    return release.share is not None


def _of_release(signal: Signal, release: str) -> Any:
    stream = signal.stream
    return type(stream)(stream.deployment, release, stream.segment, stream.metric, "reference")


def _decision(signal: Signal, reason: str, cause: Any, verbs: tuple[Verb, ...], rule_name: str) -> Decision:
    stream, interval = signal.stream, signal.interval
    return Decision(
        decision_id=derive_id("decision", stream.deployment, stream.release, cause, *verbs),
        deployment=stream.deployment,
        release=stream.release,
        cause=cause,
        verbs=verbs,
        reason=reason,
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
