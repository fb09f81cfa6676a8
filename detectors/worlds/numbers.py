"""Streams of numbers in [0, 1] with a known mean: rates, graded scores, marks from 1 to 5."""

from typing import Final, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.worlds.changes import Change

Family = Literal["bernoulli", "beta", "ordinal"]
Numbers = NDArray[np.float64]

_STEPS: Final = 4  # marks from 1 to 5 are 0, .25, .5, .75, 1
_EDGE: Final = 1e-6  # a beta distribution needs both of its parameters positive


class NumberWorld(Struct, frozen=True, kw_only=True):
    """Independent units of one family, whose mean, or whose shape, changes as `change` says.

    Parameters
    ----------
    family
        ``bernoulli``: 0 or 1. ``beta``: graded, Beta(c m, c (1 - m)). ``ordinal``: marks 1 to 5 rescaled to
        [0, 1], beta-binomial with four steps.
    mean
        Before the change, in [0, 1].
    mean_after
        After it; a shape change keeps `mean`.
    concentration, concentration_after
        The c of beta and ordinal: small is spread out. Only a shape change uses the second.
    change
        When, and how fast.

    Raises
    ------
    ValueError
        For a mean outside [0, 1], a concentration that is not positive, or a shape change of coins: a rate
        has no shape beside its mean.

    Examples
    --------
    >>> from detectors.worlds.changes import generator
    >>> world = NumberWorld(mean_after=0.5, change=Change(kind="abrupt", at=1000))
    >>> x = world.draw(generator(10_000), replications=50, length=2000)
    >>> x.shape, round(float(x[:, :1000].mean()), 2), round(float(x[:, 1000:].mean()), 2)
    ((50, 2000), 0.9, 0.5)
    """

    family: Family = "bernoulli"
    mean: float = 0.9
    mean_after: float | None = None
    concentration: float = 10.0
    concentration_after: float | None = None
    change: Change = Change()

    def __post_init__(self) -> None:
        after = self.mean if self.mean_after is None else self.mean_after
        if not (0.0 <= self.mean <= 1.0 and 0.0 <= after <= 1.0):
            raise ValueError(f"means must be in [0, 1], got {self.mean} and {after}")
        if min(self.concentration, self.concentration_after or self.concentration) <= 0.0:
            raise ValueError("a concentration must be positive")
        if self.change.kind == "shape" and self.family == "bernoulli":
            raise ValueError("a rate has no shape beside its mean")

    @property
    def spread(self) -> float:
        """The variance before the change, as a share of the largest that the mean allows."""
        if self.family == "bernoulli":
            return 1.0
        graded = 1.0 / (self.concentration + 1.0)
        return graded if self.family == "beta" else (1.0 + (_STEPS - 1) * graded) / _STEPS

    def means(self, start: int, length: int) -> Numbers:
        """Return the mean of each unit, shape (length,)."""
        if self.mean_after is None or self.change.kind == "shape":
            return np.full(length, self.mean)
        return self.mean + (self.mean_after - self.mean) * self.change.progress(start, length)

    def draw(self, random: np.random.Generator, *, replications: int, length: int, start: int = 0) -> Numbers:
        """Return the units ``start .. start + length - 1`` of `replications` streams, one stream a row."""
        means = np.broadcast_to(self.means(start, length), (replications, length))
        return draw_family(random, self.family, means, self._concentrations(start, length))

    def reference(self, random: np.random.Generator, *, replications: int, n: int) -> Numbers:
        """Return `n` units from before the change for each stream, shape (replications, n)."""
        means = np.full((replications, n), self.mean)
        return draw_family(random, self.family, means, np.full(n, self.concentration))

    def _concentrations(self, start: int, length: int) -> Numbers:
        if self.change.kind != "shape" or self.concentration_after is None:
            return np.full(length, self.concentration)
        there = self.change.progress(start, length)
        return self.concentration + (self.concentration_after - self.concentration) * there


def draw_family(
    random: np.random.Generator, family: Family, means: Numbers, concentrations: Numbers
) -> Numbers:
    """Return one number for every entry of `means`; `concentrations` broadcasts against it."""
    if family == "bernoulli":
        return (random.random(means.shape) < means).astype(np.float64)
    m = np.clip(means, _EDGE, 1.0 - _EDGE)
    drawn: Numbers = random.beta(concentrations * m, concentrations * (1.0 - m))
    if family == "beta":
        return drawn
    return random.binomial(_STEPS, drawn) / _STEPS
