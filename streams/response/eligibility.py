"""May this decision move traffic, and where to? Every *no* has a name."""

import hashlib
from collections.abc import Mapping

from msgspec import Struct

from detectors.records import Decision
from detectors.records.release import Role


class Plan(Struct, frozen=True, kw_only=True):
    """``outcome`` is ``rollback`` with the two fields beside it, ``page``, or the reason why not to act."""

    outcome: str
    action_id: str = ""
    to_release: str = ""


def plan(decision: Decision, declared: Mapping[str, tuple[Role, int]], *, has_target: bool) -> Plan:
    """Return what `decision` permits, given the declared releases of its deployment (role, start in ms).

    A rollback needs: a release with one cause of its own, declared a candidate, exactly one other release
    declared stable, and a target. Everything else pages only.

    Examples
    --------
    >>> asked = Decision(decision_id="d", deployment="support", release="2.4", cause="release",
    ...     verbs=("page", "rollback"), reason="worse", rule="r", at_ms=0, summary="", metric="m",
    ...     segment="all")
    >>> plan(asked, {"2.3": ("stable", 0), "2.4": ("candidate", 5)}, has_target=True).to_release
    '2.3'
    >>> plan(asked, {"2.4": ("candidate", 5)}, has_target=True).outcome
    'no_stable_release'
    """
    if "rollback" not in decision.verbs:
        return Plan(outcome="page")
    if decision.cause != "release":
        return Plan(outcome="common_cause")
    role, started_at_ms = declared.get(decision.release, ("unknown", 0))
    if role != "candidate":
        return Plan(outcome="not_a_candidate")
    stable = [name for name, (role, _) in declared.items() if role == "stable"]
    if len(stable) != 1:
        return Plan(outcome="several_stable_releases" if stable else "no_stable_release")
    if not has_target:
        return Plan(outcome="no_target")
    return Plan(
        outcome="rollback", action_id=action_id(decision, stable[0], started_at_ms), to_release=stable[0]
    )


def action_id(decision: Decision, to_release: str, started_at_ms: int) -> str:
    """Return the key of one rollback: sha256 of deployment, both releases and the episode.

    The episode is the cause and the candidate's declared start. Metric, rule, time and counts stay out, so
    that a second metric of the same bad release joins the first act instead of beginning another.
    """
    parts = (decision.deployment, decision.release, to_release, decision.cause, str(started_at_ms))
    name = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
