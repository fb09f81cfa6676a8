"""Traffic in segments: each with its share and its rate, before and after a change."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.worlds.changes import Change
from detectors.worlds.numbers import Numbers


class SegmentWorld(Struct, frozen=True, kw_only=True):
    """Coins, each in one segment; shares and rates change together, as `change` says.

    Parameters
    ----------
    names
        Of the segments.
    shares, shares_after
        Of the traffic, each in sum 1.
    rates, rates_after
        Means of the segments.
    change
        When.

    Examples
    --------
    >>> from detectors.worlds.changes import generator
    >>> world = pure_mix_shift(at=0)
    >>> x, of = world.draw(generator(10_000), length=20_000)
    >>> round(float(x[of == 1].mean()), 1), round(float((of == 1).mean()), 1)
    (0.7, 0.5)
    """

    names: tuple[str, ...]
    shares: tuple[float, ...]
    rates: tuple[float, ...]
    shares_after: tuple[float, ...]
    rates_after: tuple[float, ...]
    change: Change = Change()

    def __post_init__(self) -> None:
        fields = (self.shares, self.rates, self.shares_after, self.rates_after)
        if {len(field) for field in fields} != {len(self.names)}:
            raise ValueError("one share and one rate for each segment, before and after")
        if any(abs(sum(shares) - 1.0) > 1e-9 for shares in (self.shares, self.shares_after)):
            raise ValueError("shares must sum to 1")

    def draw(
        self, random: np.random.Generator, *, length: int, start: int = 0
    ) -> tuple[Numbers, NDArray[np.int64]]:
        """Return the units ``start .. start + length - 1`` and the segment (a number) of each."""
        changed = random.random(length) < self.change.progress(start, length)
        count = len(self.names)
        old = random.choice(count, size=length, p=self.shares)
        new = random.choice(count, size=length, p=self.shares_after)
        of = np.where(changed, new, old)
        rates = np.where(changed, np.array(self.rates_after)[of], np.array(self.rates)[of])
        return (random.random(length) < rates).astype(np.float64), of


def pure_mix_shift(*, at: int) -> SegmentWorld:
    """Return a world in which the hard fifth of the traffic becomes half of it, and nothing else changes."""
    return SegmentWorld(
        names=("easy", "hard"),
        shares=(0.8, 0.2),
        rates=(0.95, 0.7),
        shares_after=(0.5, 0.5),
        rates_after=(0.95, 0.7),
        change=Change(kind="abrupt", at=at),
    )


def hidden_fall(*, at: int, segments: int = 20) -> SegmentWorld:
    """Return a world in which one segment of 1/`segments` falls from .90 to .60 and the others rise to .93.

    With 20 segments the whole rises, by more than a point.
    """
    share = (1.0 / segments,) * segments
    return SegmentWorld(
        names=tuple(f"s{i:02d}" for i in range(segments)),
        shares=share,
        rates=(0.9,) * segments,
        shares_after=share,
        rates_after=(0.6, *(0.93,) * (segments - 1)),
        change=Change(kind="abrupt", at=at),
    )
