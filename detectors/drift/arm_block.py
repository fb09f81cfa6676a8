"""Many units for an :class:`ArmBettingTest` at once: what it does one by one, by columns and to the bit."""

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.drift.products_path import Numbers, add_across, count_until, multiply_on

STAKES: Final = (0.01, 0.04, 0.08, 0.16, 0.4)
"""Bets as shares of the capital that one unit may cost."""

CENTRE_UNITS: Final = 1000
"""Memory of the centre, in units."""


class Arms(Struct, frozen=True):
    """Units by column: scores turned so that lower is worse, whether treated (0 or 1), and the shares."""

    y: Numbers
    treated: Numbers
    shares: Numbers

    def __len__(self) -> int:
        return len(self.y)

    def first(self, count: int) -> "Arms":
        """Return the first `count`."""
        return Arms(self.y[:count], self.treated[:count], self.shares[:count])


def centres_of(y: Numbers, centre: float, n: int) -> Numbers:
    """Return the centre before each unit and after the last, from that of the test after `n` units."""
    found = [centre]
    for value in y.tolist():
        n += 1
        centre = centre + (value - centre) / min(n + 1, CENTRE_UNITS)
        found.append(centre)
    return np.array(found)


def products_of(
    products: list[float], arms: Arms, centres: Numbers, *, tolerance: float, cap: float
) -> Numbers:
    """Return the products after each unit, a row each; they are cut to `cap` after each."""
    y, treated, shares = arms.y, arms.treated, arms.shares
    cost = np.maximum((1.0 - shares) * (1.0 + tolerance - centres), shares * centres)
    gain = (shares - treated) * (y + tolerance * treated - centres) / cost
    return multiply_on(products, 1.0 + np.asarray(STAKES) * gain[:, None], cap)


def count_below(path: Numbers, limit: float) -> int:
    """Return how many units come before the one with which the statistic first reaches `limit`."""
    return count_until(add_across(path) >= limit)


def lowest_of(path: Numbers, lowest: list[float], starts: list[int], n: int) -> tuple[list[float], list[int]]:
    """Return the lowest product of each bet, and after how many units it stood there first.

    `lowest` and `starts` are those before, `n` the units before.
    """
    now = path.min(axis=0)
    at: NDArray[np.intp] = path.argmin(axis=0)
    fell = [new < old for new, old in zip(now.tolist(), lowest, strict=True)]
    return (
        [new if is_new else old for new, old, is_new in zip(now.tolist(), lowest, fell, strict=True)],
        [n + 1 + new if is_new else old for new, old, is_new in zip(at.tolist(), starts, fell, strict=True)],
    )
