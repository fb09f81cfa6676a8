"""Which deployments and releases are watched: names come from clients, so their number has bounds."""

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter

from detectors.stages.detect_plan import DetectPlan
from detectors.stages.detect_state import DetectState, key_of
from detectors.stages.units import Entry

_RELEASE = attrgetter("release")


def admit_deployment(plan: DetectPlan, state: DetectState, deployment: str) -> bool:
    """Return whether `deployment` is watched: it is known already, declared, or there is room for it."""
    if deployment in state.status_turns or state.is_declared(deployment):
        return True
    return len(state.status_turns) < plan.max_deployments


def admit_releases(
    plan: DetectPlan, state: DetectState, deployment: str, entries: Sequence[Entry], bucket_ms: int
) -> set[str]:
    """Return the releases that are watched from this bucket on: all declared ones, and a few others.

    Of the others the ones served latest stay; among equals those known before, then those that answered
    more. What is pushed out loses its streams; what finds no room is counted.
    """
    declared = state.releases.get(deployment, {})
    served = Counter(map(_RELEASE, entries))
    answered = Counter({name: count for name, count in served.items() if name not in declared})
    key = key_of("undeclared", deployment)
    known: dict[str, int] = state.blobs.get(key, {})
    latest = {name: last for name, last in known.items() if name not in declared}
    latest |= dict.fromkeys(answered, bucket_ms)
    ranked = sorted(latest, key=lambda name: (-latest[name], name not in known, -answered[name], name))
    kept = {name: latest[name] for name in sorted(ranked[: plan.max_undeclared])}
    for name in ranked[plan.max_undeclared :]:
        if name in known:
            state.drop_release(deployment, name)
    refused = len(answered.keys() - kept.keys())
    if refused:
        state.count("release_overflow", deployment, refused)
    if kept != known:
        state.blobs.put(key, kept)
    return {*declared, *kept}
