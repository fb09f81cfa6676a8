"""Did the rollback work? Judged by the traffic that was really served, never by the target's own word."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from detectors.records import Direction
from streams.settings import ActSettings

LEAST_MARGIN = 0.02


class Observation(Struct, frozen=True, kw_only=True):
    """One status period of one stream, as its status signal told it.

    ``from_ms`` is the start of its first bucket in event time, ``at_ms`` the end of its last. ``mean`` is the
    served share of ``release`` where ``test`` is ``share``, and the mean of the decision's metric where it is
    ``reference``.
    """

    test: Literal["share", "reference"]
    release: str
    from_ms: int
    at_ms: int
    n: int
    mean: float
    baseline: float | None = None
    direction: Direction = "neutral"


class Finding(Struct, frozen=True, kw_only=True):
    """``waiting``, ``recovered`` or ``failed``, with the named reason and the figures behind it."""

    verdict: Literal["waiting", "recovered", "failed"]
    reason: str
    detail: dict[str, Any]


def judge(
    seen: Sequence[Observation],
    *,
    from_release: str,
    to_release: str,
    called_at_ms: int,
    now_ms: int,
    baseline: float | None,
    settings: ActSettings,
) -> Finding:
    """Return whether traffic has left `from_release` and the metric of `to_release` is back.

    Converged: the served share of `from_release` was at most ``share_epsilon`` in two status periods with
    traffic, one after the other, that lie wholly after the call. Recovered: still so in the two latest, and
    the mean over at least ``recover_units`` units of `to_release`, from the periods wholly after convergence,
    is not worse than the baseline by more than max(0.02, two standard errors). A score in [0, 1] with mean b
    has a variance of at most b (1 - b), which is what the standard error takes. Missing data is never
    recovery: it ends in ``failed`` when the time is up.

    Parameters
    ----------
    seen
        Observations of both kinds, any order.
    called_at_ms, now_ms
        When the target accepted the move, and now, by act's clock.
    baseline
        Used where the observations carry none.
    """
    shares = _shares_after(seen, from_release, called_at_ms)
    converged_at_ms = _converged_at(shares, settings.share_epsilon)
    detail: dict[str, Any] = {"periods": len(shares), "share": shares[-1].mean if shares else None}
    waited_ms = now_ms - called_at_ms
    if converged_at_ms is None:
        if waited_ms >= settings.converge_s * 1000:
            return Finding(verdict="failed", reason="not_converged", detail=detail)
        return Finding(verdict="waiting", reason="converging", detail=detail)
    detail["converged_at_ms"] = converged_at_ms
    after = [
        one
        for one in seen
        if one.test == "reference"
        and one.release == to_release
        and one.n > 0
        and one.from_ms >= converged_at_ms
    ]
    back = _is_back(after, baseline, settings.recover_units, detail)
    if back and all(one.mean <= settings.share_epsilon for one in shares[-2:]):
        return Finding(verdict="recovered", reason="recovered", detail=detail)
    if waited_ms >= settings.recover_s * 1000:
        return Finding(verdict="failed", reason="not_recovered", detail=detail)
    return Finding(verdict="waiting", reason="recovering", detail=detail)


def _shares_after(seen: Sequence[Observation], release: str, called_at_ms: int) -> list[Observation]:
    # A retired release's own count is zero, so a period has traffic when any release was served in it.
    busy = {one.at_ms for one in seen if one.test == "share" and one.n > 0}
    shares = [
        one
        for one in seen
        if one.test == "share"
        and one.release == release
        and one.from_ms >= called_at_ms
        and one.at_ms in busy
    ]
    return sorted(shares, key=lambda one: one.at_ms)


def _converged_at(shares: Sequence[Observation], epsilon: float) -> int | None:
    for before, after in itertools.pairwise(shares):
        if before.mean <= epsilon and after.mean <= epsilon:
            return after.at_ms
    return None


def _is_back(
    after: Sequence[Observation], baseline: float | None, least_units: int, detail: dict[str, Any]
) -> bool:
    units = sum(one.n for one in after)
    detail["units"] = units
    if units < least_units:
        return False
    latest = max(after, key=lambda one: one.at_ms)
    normal = latest.baseline if latest.baseline is not None else baseline
    if normal is None:
        return False
    mean = sum(one.n * one.mean for one in after) / units
    margin = max(LEAST_MARGIN, 2 * math.sqrt(max(0.0, normal * (1 - normal)) / units))
    loss = {"higher": normal - mean, "lower": mean - normal, "neutral": abs(mean - normal)}[latest.direction]
    detail.update(mean=mean, baseline=normal, margin=margin)
    return loss <= margin
