"""Traffic whose units are not independent coins: seasons, sessions, memory."""

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.worlds.changes import Change
from detectors.worlds.numbers import Family, Numbers, draw_family

Indices = NDArray[np.int64]


class SeasonalWorld(Struct, frozen=True, kw_only=True):
    """Independent units whose mean follows a wave, and drops by `drop` as `change` says.

    Parameters
    ----------
    family, mean, concentration
        As in :class:`~detectors.worlds.numbers.NumberWorld`; `mean` is over a whole period.
    amplitude, period
        Of the wave around `mean`: its height, and its length in units.
    bins
        Into how many equal parts of the period a baseline may divide it (24: hours of a day).
    drop
        How far the mean falls, at all times of the season alike.

    Examples
    --------
    >>> world = SeasonalWorld(period=4, amplitude=0.05)
    >>> [round(m, 2) for m in world.means(0, 4).tolist()], world.bins_of(0, 4).tolist()
    ([0.9, 0.95, 0.9, 0.85], [0, 6, 12, 18])
    """

    family: Family = "bernoulli"
    mean: float = 0.9
    concentration: float = 10.0
    amplitude: float = 0.04
    period: int = 2400
    bins: int = 24
    drop: float = 0.0
    change: Change = Change()

    def means(self, start: int, length: int) -> Numbers:
        """Return the mean of each unit, shape (length,)."""
        phase = np.arange(start, start + length) % self.period / self.period
        there = self.change.progress(start, length)
        wave: Numbers = self.mean + self.amplitude * np.sin(2.0 * math.pi * phase) - self.drop * there
        return np.clip(wave, 0.0, 1.0)

    def bins_of(self, start: int, length: int) -> Indices:
        """Return the part of the season that each unit falls in, shape (length,), values 0 to bins - 1."""
        return np.arange(start, start + length) % self.period * self.bins // self.period

    def draw(self, random: np.random.Generator, *, replications: int, length: int, start: int = 0) -> Numbers:
        """Return the units ``start .. start + length - 1`` of `replications` streams, one stream a row."""
        means = np.broadcast_to(self.means(start, length), (replications, length))
        return draw_family(random, self.family, means, np.full(length, self.concentration))


class SessionWorld(Struct, frozen=True, kw_only=True):
    """Messages in sessions: those of one session share a quality of their own.

    A session has 1 + Geometric messages (`messages` on average), its quality is Beta with mean `mean` and
    concentration `spread`, each message is a coin of that quality. So messages depend on each other and
    sessions do not. As closed units the sessions count; their means still have mean `mean`.

    Examples
    --------
    >>> from detectors.worlds.changes import generator
    >>> units = SessionWorld().draw(generator(10_000), replications=20, length=1000)
    >>> units.shape, round(float(units.mean()), 2)
    ((20, 1000), 0.9)
    """

    mean: float = 0.9
    mean_after: float | None = None
    messages: float = 8.0
    spread: float = 4.0
    change: Change = Change()

    def means(self, start: int, length: int) -> Numbers:
        """Return the mean of each session, shape (length,)."""
        after = self.mean if self.mean_after is None else self.mean_after
        return self.mean + (after - self.mean) * self.change.progress(start, length)

    def draw(self, random: np.random.Generator, *, replications: int, length: int, start: int = 0) -> Numbers:
        """Return the session means ``start .. start + length - 1`` of every stream, one stream a row."""
        good, counts = self._sessions(random, replications, length, start)
        return good / counts

    def messages_of(self, random: np.random.Generator, *, sessions: int) -> Numbers:
        """Return the single messages of one stream of `sessions` sessions, in order, shape (messages,)."""
        good, counts = self._sessions(random, 1, sessions, 0)
        parts = [
            random.permutation(np.arange(count) < hits).astype(np.float64)
            for hits, count in zip(good[0], counts[0], strict=True)
        ]
        return np.concatenate(parts)

    def _sessions(
        self, random: np.random.Generator, replications: int, length: int, start: int
    ) -> tuple[Indices, Indices]:
        """Return how many messages of each session were good, and how many there were."""
        means = np.broadcast_to(self.means(start, length), (replications, length))
        quality = draw_family(random, "beta", means, np.full(length, self.spread))
        counts = random.geometric(1.0 / self.messages, size=quality.shape)
        return random.binomial(counts, quality), counts


class MemoryWorld(Struct, frozen=True, kw_only=True):
    """Coins with a memory: a unit repeats the one before it with probability `memory`.

    The mean over all time is `mean` and the correlation at distance k is ``memory ** k``. The mean of a unit
    given the past is not `mean`: no detector here promises anything on it, which is what it is for.

    Examples
    --------
    >>> from detectors.worlds.changes import generator
    >>> x = MemoryWorld(memory=0.5).draw(generator(10_000), replications=4000, length=100)
    >>> round(float(np.mean(x[:, 1:] == x[:, :-1])), 2)
    0.91
    """

    mean: float = 0.9
    memory: float = 0.5

    def draw(self, random: np.random.Generator, *, replications: int, length: int) -> Numbers:
        """Return `length` units of `replications` streams, one stream a row."""
        fresh = random.random((replications, length)) < self.mean
        renewed = random.random((replications, length)) >= self.memory
        renewed[:, 0] = True
        latest = np.maximum.accumulate(np.where(renewed, np.arange(length), 0), axis=1)
        return np.take_along_axis(fresh, latest, axis=1).astype(np.float64)


def block_means(x: Numbers, size: int) -> Numbers:
    """Return the means of consecutive blocks of `size` units of each row; an incomplete last one is dropped.

    Examples
    --------
    >>> block_means(np.array([[0.0, 1.0, 1.0, 1.0, 0.0]]), 2).tolist()
    [[0.5, 1.0]]
    """
    whole = x.shape[1] // size * size
    means: Numbers = x[:, :whole].reshape(x.shape[0], -1, size).mean(axis=2)
    return means
