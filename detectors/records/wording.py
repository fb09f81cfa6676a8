"""A decision in one sentence that a person who was asleep a minute ago can take in."""

import math
import unicodedata
from datetime import UTC, datetime
from typing import Final

from detectors.records.decision import Decision

MAX_PLAIN_CHARS: Final = 64
_MARKS: Final = frozenset("._:/+- ")
# Letters by their category, yet nothing is to be seen of them.
_INVISIBLE: Final = frozenset("\u115f\u1160\u3164\uffa0")
_BLIND: Final = "blind_"
_WHY_BLIND: Final = {
    "no_arm_stamped": "its traffic carries no arm with a share",
    "no_stable_release": "no release is declared stable",
    "several_stable_releases": "several releases are declared stable",
    "share_mismatch": "the traffic was not split as declared",
    "seen_units_full": "there is no room to remember more users",
}
_HOURS_20_MS: Final = 20 * 3_600_000


def is_plain(text: str) -> bool:
    r"""Return whether `text` may be shown anywhere: 1 to 64 letters, digits, spaces and ``._:/+-``.

    Letters and digits may be of any script. Nothing else passes: no markup, no control or direction
    character, no combining mark that would stand alone after composition (NFKC), no letter without a shape.

    Examples
    --------
    >>> is_plain("gpt-4.1/eu"), is_plain("münchen"), is_plain("<b>"), is_plain("a\u202eb"), is_plain("")
    (True, True, False, False, False)
    """
    if not 0 < len(text) <= MAX_PLAIN_CHARS or unicodedata.normalize("NFKC", text) != text:
        return False
    return all(one in _MARKS or (one.isalnum() and one not in _INVISIBLE) for one in text)


def plain_segment(segment: str) -> str:
    """Return ``name=value`` as it may be shown: a value that is not plain is withheld, its name stays.

    Examples
    --------
    >>> plain_segment("plan=pro"), plain_segment("plan=<b>free</b>"), plain_segment("all")
    ('plan=pro', 'plan=(withheld)', 'all')
    """
    name, separator, value = segment.partition("=")
    shown = name if is_plain(name) else "(withheld)"
    if not separator:
        return shown
    return f"{shown}={value if is_plain(value) else '(withheld)'}"


def describe_decision(decision: Decision, *, than: str = "") -> str:
    """Return what is wrong, by how much, over how many and since when, in one sentence without user text.

    Parameters
    ----------
    decision
        Its ``effect``, ``low``, ``high`` and ``baseline`` are in [-1, 1] and [0, 1] and told in per cent and
        points; missing or not finite numbers are left out.
    than
        The stable release it is compared with, where the caller knows it.

    Examples
    --------
    >>> worse = Decision(decision_id="d", deployment="support", release="2.4", cause="release",
    ...     verbs=("page", "rollback"), reason="canary_worse_than_stable", rule="r", at_ms=7_200_000,
    ...     summary="", metric="helpful", segment="all", effect=-0.069, low=-0.127, high=-0.025,
    ...     baseline=0.973, n=332, began_at_ms=6_360_000)
    >>> print(describe_decision(worse, than="2.3").replace(" (", chr(10) + "("))
    support 2.4 is WORSE than 2.3: helpful 97.3 % -> 90.4 %
    (-2.5 to -12.7 points, 332 conversations or users) since 01:46 UTC.
    """
    if decision.reason.startswith(_BLIND):
        why = _WHY_BLIND.get(decision.reason.removeprefix(_BLIND), "nobody knows why")
        candidate = f"{_name(decision.deployment)} {_name(decision.release)}"
        return f"{candidate} cannot be compared with {_name(than) if than else 'the stable release'}: {why}."
    where = "" if decision.segment == "all" else f" in {plain_segment(decision.segment)}"
    metric = _name(decision.metric)
    return f"{_subject(decision, than)}: {metric}{where}{_size(decision)}{_since(decision)}."


def _subject(decision: Decision, than: str) -> str:
    release = f"{_name(decision.deployment)} {_name(decision.release)}"
    if decision.reason == "traffic_mix_shift":
        return f"{release} answers as before, but its traffic moved to where answers were always WORSE"
    if decision.cause == "common":
        return f"{release} got WORSE than its reference, and so did its candidate"
    if decision.reason == "undeclared_release_worse":
        return f"{release}, which nobody declared, is WORSE than the reference"
    if decision.reason == "changed_within_release":
        return f"{release} is WORSE than it was when it began"
    if "rollback" in decision.verbs:
        return f"{release} is WORSE than {_name(than) if than else 'the stable release'}"
    return f"{release} is WORSE than the reference"


def _size(decision: Decision) -> str:
    effect, baseline = _finite(decision.effect), _finite(decision.baseline)
    told = (
        ""
        if effect is None or baseline is None
        else f" {_percent(baseline)} -> {_percent(baseline + effect)}"
    )
    low, high = _finite(decision.low), _finite(decision.high)
    facts = []
    if low is not None and high is not None:
        near, far = (high, low) if low < 0 and high <= 0 else (low, high)
        facts.append(f"{100 * near:+.1f} to {100 * far:+.1f} points")
    elif effect is not None:
        facts.append(f"{100 * effect:+.1f} points")
    if decision.n > 0:
        facts.append(
            "1 conversation or user" if decision.n == 1 else f"{decision.n:,} conversations or users"
        )
    return f"{told} ({', '.join(facts)})" if facts else told


def _since(decision: Decision) -> str:
    began_ms = decision.began_at_ms
    if began_ms is None:
        return ""
    form = "%H:%M" if abs(decision.at_ms - began_ms) < _HOURS_20_MS else "%Y-%m-%d %H:%M"
    return f" since {datetime.fromtimestamp(began_ms / 1000, UTC).strftime(form)} UTC"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _name(text: str) -> str:
    return text if is_plain(text) else "(withheld)"
