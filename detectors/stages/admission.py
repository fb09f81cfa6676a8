"""Which deployments and releases are watched: names come from clients, so their number has bounds."""

from collections import Counter
from collections.abc import Mapping

from detectors.stages.detect_plan import DetectPlan
from detectors.stages.detect_state import DetectState, key_of


def admit_deployment(plan: DetectPlan, state: DetectState, deployment: str) -> bool:
    """Return whether `deployment` is watched: it is known already, declared, or there is room for it."""
    if deployment in state.status_turns or state.is_declared(deployment):
        return True
    return len(state.status_turns) < plan.max_deployments


def admit_releases(
    plan: DetectPlan, state: DetectState, deployment: str, served: Mapping[str, int], bucket_ms: int
) -> set[str]:
    """Return the releases that are watched from this bucket on: all declared ones, and a few others.

    `served` is how many interactions each answered in it. Of the others the ones served latest stay; among
    equals those known before, then those that answered more. What is pushed out loses its streams; what finds
    no room is counted.
    """
    declared = state.releases.get(deployment, {})
    answered = Counter({name: count for name, count in served.items() if name not in declared})
    key, known = _undeclared(state, deployment)
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


def watched_releases(state: DetectState, deployment: str) -> set[str]:
    """Return the releases that are watched now, and most likely in the next bucket."""
    return {*state.releases.get(deployment, {}), *_undeclared(state, deployment)[1]}


def _undeclared(state: DetectState, deployment: str) -> tuple[str, dict[str, int]]:
    """Return the key of the watched releases that nobody declared, and in which bucket each answered last."""
    key = key_of("undeclared", deployment)
    return key, state.blobs.get(key, {})
