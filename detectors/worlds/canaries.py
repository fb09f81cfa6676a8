"""Canary traffic: users of very different quality, each stuck to one arm, under a season."""

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.worlds.numbers import Numbers, draw_family

Flags = NDArray[np.bool_]


class CanaryWorld(Struct, frozen=True, kw_only=True):
    """Users, the units of randomisation: a coin of probability `share` sends each one to the canary for good.

    A user makes `visits` visits on average (1 + Poisson) and is as satisfied as their own quality says, which
    is Beta with concentration `spread` around a season's mean. A user's unit is the mean of their visits. The
    canary lowers everybody's quality by `drop` (never below 0).

    Parameters
    ----------
    mean, amplitude, period
        Of the season, in users.
    spread
        Concentration of the users' qualities: small makes users differ much. None: all users are alike.
    visits
        Mean visits of one user, at least 1.

    Examples
    --------
    >>> from detectors.worlds.changes import generator
    >>> x, treated = CanaryWorld(drop=0.2).draw(generator(10_000), replications=40, length=2000)
    >>> round(float(treated.mean()), 2), round(float(x[~treated].mean() - x[treated].mean()), 1)
    (0.1, 0.2)
    """

    mean: float = 0.9
    amplitude: float = 0.04
    period: int = 2400
    share: float = 0.1
    drop: float = 0.0
    spread: float | None = None
    visits: float = 1.0

    def draw(
        self, random: np.random.Generator, *, replications: int, length: int, start: int = 0
    ) -> tuple[Numbers, Flags]:
        """Return each user's mean and whether the canary served them, both (replications, length)."""
        shape = (replications, length)
        phase = np.arange(start, start + length) / self.period
        season = self.mean + self.amplitude * np.sin(2.0 * math.pi * phase)
        means = np.broadcast_to(season, shape)
        if self.spread is not None:
            means = draw_family(random, "beta", means, np.full(length, self.spread))
        treated = random.random(shape) < self.share
        quality = np.clip(means - self.drop * treated, 0.0, 1.0)
        if self.visits == 1.0:
            return (random.random(shape) < quality).astype(np.float64), treated
        visits = 1 + random.poisson(self.visits - 1.0, size=shape)
        return random.binomial(visits, quality) / visits, treated
