"""Few users or all: whether the change would be there without those who carry most of it."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct

from detectors.attribution.segments import evidence_by_segment
from detectors.drift.bet_grid import Side, lay_bets
from detectors.drift.betting_sr import BettingSR

_FEW: Final = 0.1  # of the users
_NEARLY_ALL: Final = 0.8  # of the evidence


class Carrier(Struct, frozen=True, kw_only=True):
    """A user who carries part of a change: their units, and their log10 evidence for it."""

    user: str
    n: int
    evidence: float


class Concentration(Struct, frozen=True, kw_only=True):
    """How much of a change hangs on a few users.

    ``carriers`` are the fewest users, the guiltiest first, without whom the detector would not have alarmed;
    if there are no so few, as many as may be called few. ``share`` is their part of the evidence: above 1 if
    the others speak against a change, 0 if there is no evidence at all. ``units_share`` is their part of the
    units. ``alarms`` and ``alarms_without`` say whether the units raise an alarm with and without them.
    """

    carriers: tuple[Carrier, ...]
    users: int
    share: float
    units_share: float
    alarms: bool
    alarms_without: bool

    @property
    def few(self) -> bool:
        """Whether a few users carry it: no alarm without them, and four fifths of the evidence is theirs."""
        return self.alarms and not self.alarms_without and self.share >= _NEARLY_ALL

    def say(self) -> str:
        """Return the finding in a sentence; it names no user."""
        if not self.alarms:
            return "these units alone raise no alarm"
        count = len(self.carriers)
        users = f"{count} of {self.users} users ({self.units_share:.0%} of the units)"
        if self.few:
            return f"the change vanishes without {users}"
        return f"the change is spread: {users} carry {max(0.0, self.share):.0%} of the evidence"


def find_carriers(
    values: Sequence[float],
    users: Sequence[str],
    *,
    mean_low: float,
    mean_high: float,
    alpha: float = 1e-4,
    direction: Side = "both",
    most: int = 5,
) -> Concentration:
    """Return who carries a change, and whether it is there without them.

    Somebody who wants a release rolled back, or a broken client, can lower a mean alone. Of the detector's
    bets the one that gained most on these units is taken; its log10 evidence is a sum over units, and so over
    users. The guiltiest users are left out, one more at a time, and a fresh detector is run over the units
    of the others, in their order, until it does not alarm.

    It explains an alarm and is no test: the users left out are chosen for their guilt, so the others look a
    little better than they are. That is why a missing alarm alone does not make it "few": in a small change
    that is spread, any units that are left out may silence it, but they hold little of the evidence. Users
    are few if they are at most `most`, and at most a tenth of all: among fewer than ten, nobody is left out.

    Parameters
    ----------
    values, users
        The units since the onset, each in [0, 1], oldest first, and the user of each: keys, not names.
    mean_low, mean_high, alpha, direction
        Of the :class:`~detectors.drift.betting_sr.BettingSR` that alarmed.
    most
        How many users are still few, at least 1.

    Raises
    ------
    ValueError
        If there are no values or not as many users, a value is not in [0, 1], `most` is below 1, or for a
        configuration that the detector refuses.

    Examples
    --------
    >>> users = [f"u{i % 40}" for i in range(400)]
    >>> values = [0.1 if user in ("u3", "u7") else 0.9 for user in users]
    >>> found = find_carriers(values, users, mean_low=0.9, mean_high=0.9)
    >>> found.say(), sorted(carrier.user for carrier in found.carriers)
    ('the change vanishes without 2 of 40 users (5% of the units)', ['u3', 'u7'])
    """
    x = np.asarray(values, dtype=np.float64)
    if x.shape != (len(users),) or not len(x) or most < 1 or not ((x >= 0.0) & (x <= 1.0)).all():
        raise ValueError("need values in [0, 1], a user for each, and most >= 1")

    def alarms(without: frozenset[str]) -> bool:
        watch = BettingSR(mean_low=mean_low, mean_high=mean_high, alpha=alpha, direction=direction)
        for value, user in zip(x.tolist(), users, strict=True):
            if user not in without:
                watch.update(value)
        return watch.drift_detected

    intercept, slope = _best_bet(x, mean_low, mean_high, alpha, direction)
    evidence = evidence_by_segment(x.tolist(), users, intercept=intercept, slope=slope)
    counts, whole = Counter(users), math.fsum(evidence.values())
    guiltiest = sorted(evidence, key=lambda user: (-evidence[user], user))
    left_out: list[str] = []
    first = without = alarms(frozenset())
    for user in guiltiest[: min(most, int(_FEW * len(counts)))]:
        if not without:
            break
        left_out.append(user)
        without = alarms(frozenset(left_out))
    return Concentration(
        carriers=tuple(Carrier(user=u, n=counts[u], evidence=evidence[u]) for u in left_out),
        users=len(counts),
        share=math.fsum(evidence[user] for user in left_out) / whole if whole > 0.0 else 0.0,
        units_share=sum(counts[user] for user in left_out) / len(x),
        alarms=first,
        alarms_without=without,
    )


def _best_bet(
    x: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    mean_low: float,
    mean_high: float,
    alpha: float,
    direction: Side,
) -> tuple[float, float]:
    """Return the factor ``intercept + slope * x`` of the bet that gained most; (1, 0) without bets."""
    best, gained = (1.0, 0.0), -math.inf
    for side in lay_bets(mean_low, mean_high, alpha=alpha, direction=direction):
        for wager in side.wagers:
            slope = wager.risk * side.slope
            intercept = wager.kept - slope * side.end
            gain = float(np.log(intercept + slope * x).sum())
            if gain > gained:
                best, gained = (intercept, slope), gain
    return best
