"""The limit: the Shiryaev-Roberts sum of someone who knows both distributions, only not when."""

import math
from typing import Final

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from detectors.worlds.changes import generator
from detectors.worlds.numbers import Family, Numbers, NumberWorld, draw_family

_SHARES: Final = np.linspace(0.01, 0.999, 200)  # of the largest bet there is
_SAMPLE: Final = 20_000


class OracleSR(Struct, frozen=True, kw_only=True):
    """Sums the likelihood ratio of the change that is coming, known to the last parameter.

    No detector with as few false alarms is much faster, on average over when the change comes (Pollak and
    Tartakovsky 2009, "Optimality properties of the Shiryaev-Roberts procedure", Statistica Sinica 19). So
    its delay is what others are compared with.

    Parameters
    ----------
    family, concentration
        Of the units; marks have no oracle here.
    before, after
        Means, both inside (0, 1).
    threshold
        Of the sum.
    bet
        None: the likelihood ratio. Otherwise the ratio is ``1 + bet * (before - x)``, the factor of somebody
        who may rely on nothing but the mean of bounded units.

    Examples
    --------
    >>> oracle = OracleSR(before=0.9, after=0.5, threshold=1e4)
    >>> x = np.array([[1.0] * 50 + [0.0] * 10])
    >>> int(oracle.run(x).argmax()) - 49
    6
    """

    family: Family = "bernoulli"
    before: float
    after: float
    threshold: float
    concentration: float = 10.0
    bet: float | None = None

    def run(self, x: Numbers, *, until: int | None = None) -> NDArray[np.bool_]:
        """Return where it alarms, in the shape of `x`; it starts anew after each alarm."""
        del until  # all rows go on together
        ratios = np.ascontiguousarray(likelihood_ratios(self, x).T)
        alarms = np.zeros(ratios.shape, dtype=bool)
        total = np.zeros(x.shape[0])
        for t, ratio in enumerate(ratios):
            total += 1.0
            total *= ratio
            alarms[t] = total >= self.threshold
            total[alarms[t]] = 0.0
        return alarms.T

    def calibrated(self, x: Numbers, target: float) -> "OracleSR":
        """Return this oracle with the threshold at which its run length on the in-control `x` is `target`."""
        low, high = math.log(target) - 4.0, math.log(target) + 2.0
        for _ in range(9):
            middle = (low + high) / 2.0
            tried = replace(self, threshold=math.exp(middle))
            if x.size / max(1, int(tried.run(x).sum())) < target:
                low = middle
            else:
                high = middle
        return tried


def likelihood_ratios(oracle: OracleSR, x: Numbers) -> Numbers:
    """Return the density after the change over the one before it, for every unit.

    Raises
    ------
    ValueError
        For a family without one.
    """
    if oracle.bet is not None:
        return 1.0 + oracle.bet * (oracle.before - x)
    if oracle.family == "bernoulli":
        good, bad = oracle.after / oracle.before, (1.0 - oracle.after) / (1.0 - oracle.before)
        return np.where(x > 0.5, good, bad)
    if oracle.family != "beta":
        raise ValueError(f"there is no oracle for {oracle.family}")
    c = oracle.concentration
    a, b = c * oracle.before, c * (1.0 - oracle.before)
    a1, b1 = c * oracle.after, c * (1.0 - oracle.after)
    constant = math.lgamma(a) + math.lgamma(b) - math.lgamma(a1) - math.lgamma(b1)  # the sums are both c
    kept = np.clip(x, 1e-12, 1.0 - 1e-12)
    ratios: Numbers = np.exp(constant + (a1 - a) * np.log(kept) + (b1 - b) * np.log1p(-kept))
    return ratios


def world_oracle(world: NumberWorld, threshold: float) -> OracleSR:
    """Return the oracle of `world`.

    Raises
    ------
    ValueError
        If its mean does not change.
    """
    if world.mean_after is None:
        raise ValueError("an oracle needs a change of the mean")
    return OracleSR(
        family=world.family,
        before=world.mean,
        after=world.mean_after,
        threshold=threshold,
        concentration=world.concentration,
    )


def best_bet(world: NumberWorld, threshold: float) -> OracleSR:
    """Return the fastest of all who rely on the mean alone: the one bet that grows most after the change.

    Whoever promises something for *every* distribution with the mean before the change can use no factors
    but ``1 + bet * (before - x)`` and mixtures of them (Waudby-Smith and Ramdas 2024, JRSS B 86, on betting).
    This one knows the best bet for the change to come.
    For coins it is the likelihood ratio itself; for graded scores it is slower, because their shape tells
    more than their mean.

    Raises
    ------
    ValueError
        If the mean does not fall.

    Examples
    --------
    >>> coins = NumberWorld(mean_after=0.8)
    >>> round(best_bet(coins, 1e4).bet or 0.0, 1)  # (.9 - .8) / (.9 * .1)
    1.1
    """
    oracle = world_oracle(world, threshold)
    if oracle.after >= oracle.before:
        raise ValueError("a best bet is laid on a mean that falls")
    means = np.full((1, _SAMPLE), oracle.after)
    x = draw_family(generator(1), world.family, means, np.full(_SAMPLE, world.concentration))
    bets = _SHARES / (1.0 - oracle.before)
    growth = [float(np.log1p(bet * (oracle.before - x)).mean()) for bet in bets.tolist()]
    return replace(oracle, bet=float(bets[int(np.argmax(growth))]))
