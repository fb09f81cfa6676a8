"""Who carries a change: worse answers within segments, or more traffic where they were always worse."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

from detectors.records import Interval
from detectors.records.scorecard import Direction

SplitKind = Literal["within", "mix", "both", "unclear"]

_EMPTY: Final = 1e-12


class Tally(Struct, frozen=True, array_like=True):
    """Units of one segment: how many, their sum, and the sum of their squares."""

    n: int
    total: float
    squares: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Tally":
        """Return the tally of `values`.

        Examples
        --------
        >>> Tally.of([0.5, 1.0])
        Tally(n=2, total=1.5, squares=1.25)
        """
        return cls(len(values), math.fsum(values), math.fsum(x * x for x in values))

    @property
    def mean(self) -> float:
        """Mean of the units; 0 without any."""
        return self.total / self.n if self.n else 0.0

    @property
    def mean_variance(self) -> float:
        """Squared standard error of the mean; pulled towards that of a coin where there are few units.

        Two units that were both right do not prove that the third will be.
        """
        if not self.n:
            return 0.25
        spread = max(0.0, self.squares / self.n - self.mean**2)
        pulled = (self.n * spread + 0.25) / (self.n + 1)
        return pulled / self.n


class SegmentPart(Struct, frozen=True, kw_only=True):
    """What one segment adds to a change of the whole.

    ``within`` + ``mix``, summed over the segments, is the whole change. ``change`` is the segment's own, from
    ``mean_before`` to ``mean_after``, with its ``interval``, which holds for all segments together; both are
    None for a segment that is missing before or after.
    """

    segment: str
    n_before: int
    n_after: int
    mean_before: float
    mean_after: float
    within: float
    mix: float
    change: float | None
    interval: Interval | None


class Split(Struct, frozen=True, kw_only=True):
    """A change of the mean, split in two that add up: ``total = within + mix``.

    ``within`` is what the segments' own means changed, at the average of the old and the new traffic; ``mix``
    is what the traffic changed, at the average of the old and the new means. ``kind`` names those whose
    interval excludes 0. ``parts`` are ordered by the size of what they add.
    """

    total: float
    within: float
    mix: float
    within_interval: Interval
    mix_interval: Interval
    kind: SplitKind
    parts: tuple[SegmentPart, ...]

    def fallen(self, direction: Direction) -> list[SegmentPart]:
        """Return the segments whose own mean got worse beyond chance, the worst first.

        They are named even where the whole got better. A neutral metric has no worse side: either counts.
        """
        sign = {"higher": -1.0, "lower": 1.0, "neutral": 0.0}[direction]
        named = [
            (part.change, part)
            for part in self.parts
            if part.change is not None
            and part.interval is not None
            and not part.interval.low <= 0.0 <= part.interval.high
            and (sign == 0.0 or sign * part.change > 0.0)
        ]
        return [part for _, part in sorted(named, key=lambda pair: -abs(pair[0]))]


def split_change(before: Mapping[str, Tally], after: Mapping[str, Tally], *, level: float = 0.99) -> Split:
    r"""Return how a change of the mean splits into "within segments" and "mix of traffic".

    With shares w and means m of the segments s, before (0) and after (1),
    :math:`D = \sum_s \bar w_s (m_{1s} - m_{0s}) + \sum_s \bar m_s (w_{1s} - w_{0s})`, where a bar is the
    average of before and after. The split is exact. A segment that is missing on one side has only a mix
    part: nothing is known of a change within it.

    The intervals are normal approximations at this one moment, for independent units: an explanation of an
    alarm that something else raised, no test of its own. Each segment's own interval is widened for their
    number (Bonferroni).

    Parameters
    ----------
    before, after
        Tallies by segment, of the values of *one* segmentation (each unit in one of them): those of the
        reference, and those since the onset or of the confirming units.
    level
        Coverage of the intervals, in (0, 1).

    Raises
    ------
    ValueError
        If one side has no units at all.

    References
    ----------
    Kitagawa (1955), "Components of a difference between two rates", JASA 50.

    Examples
    --------
    >>> old = {"easy": Tally(8000, 7600, 7600), "hard": Tally(2000, 1400, 1400)}
    >>> new = {"easy": Tally(500, 475, 475), "hard": Tally(500, 350, 350)}
    >>> found = split_change(old, new)
    >>> round(found.total, 3), round(found.within, 3), round(found.mix, 3), found.kind
    (-0.075, 0.0, -0.075, 'mix')
    """
    n0, n1 = sum(t.n for t in before.values()), sum(t.n for t in after.values())
    if not n0 or not n1:
        raise ValueError("both sides need units")
    names = sorted(set(before) | set(after))
    z = _normal_quantile(0.5 + level / 2.0)
    z_each = _normal_quantile(1.0 - (1.0 - level) / (2.0 * len(names)))
    parts, within_variance, worths = [], 0.0, []
    for name in names:
        old, new = before.get(name, Tally(0, 0.0, 0.0)), after.get(name, Tally(0, 0.0, 0.0))
        w0, w1 = old.n / n0, new.n / n1
        m0, m1 = old.mean if old.n else new.mean, new.mean if new.n else old.mean
        weight, worth = (w0 + w1) / 2.0, (m0 + m1) / 2.0
        variance = old.mean_variance + new.mean_variance
        both = bool(old.n and new.n)
        within_variance += weight**2 * variance if both else 0.0
        worths.append((w0, w1, worth))
        radius = z_each * math.sqrt(variance)
        parts.append(
            SegmentPart(
                segment=name,
                n_before=old.n,
                n_after=new.n,
                mean_before=m0,
                mean_after=m1,
                within=weight * (m1 - m0),
                mix=worth * (w1 - w0),
                change=m1 - m0 if both else None,
                interval=Interval(m1 - m0 - radius, m1 - m0 + radius, level) if both else None,
            )
        )
    within, mix = math.fsum(p.within for p in parts), math.fsum(p.mix for p in parts)
    around_within = _around(within, z * math.sqrt(within_variance), level)
    around_mix = _around(mix, z * math.sqrt(_mix_variance(worths, n0, n1)), level)
    return Split(
        total=within + mix,
        within=within,
        mix=mix,
        within_interval=around_within,
        mix_interval=around_mix,
        kind=_kind(around_within, around_mix),
        parts=tuple(sorted(parts, key=lambda p: (-abs(p.within + p.mix), p.segment))),
    )


def evidence_by_segment(
    values: Sequence[float], segments: Sequence[str], *, intercept: float, slope: float
) -> dict[str, float]:
    """Return how much of a bet's log10 evidence each segment adds; the sum is the whole evidence, exactly.

    Parameters
    ----------
    values, segments
        The units since the onset and the segment of each.
    intercept, slope
        The factor of the bet, ``intercept + slope * x``, positive for x in [0, 1].

    Raises
    ------
    ValueError
        If the two are not equally long, or a factor is not positive.

    Examples
    --------
    >>> found = evidence_by_segment([0.0, 1.0, 0.0], ["de", "en", "de"], intercept=1.5, slope=-0.6)
    >>> {name: round(log, 2) for name, log in found.items()}
    {'de': 0.35, 'en': -0.05}
    """
    if len(values) != len(segments):
        raise ValueError("one segment for each value")
    found: dict[str, list[float]] = {}
    for x, name in zip(values, segments, strict=True):
        factor = intercept + slope * x
        if factor <= 0.0:
            raise ValueError("a bet's factor must be positive on [0, 1]")
        found.setdefault(name, []).append(math.log10(factor))
    return {name: math.fsum(logs) for name, logs in sorted(found.items())}


def _mix_variance(worths: Sequence[tuple[float, float, float]], n0: int, n1: int) -> float:
    """Return the variance of the mix part if the shares are drawn and the worths of the segments given."""
    mean0 = math.fsum(w0 * worth for w0, _, worth in worths)
    mean1 = math.fsum(w1 * worth for _, w1, worth in worths)
    spread0 = math.fsum(w0 * (worth - mean0) ** 2 for w0, _, worth in worths)
    spread1 = math.fsum(w1 * (worth - mean1) ** 2 for _, w1, worth in worths)
    return spread0 / n0 + spread1 / n1


def _kind(within: Interval, mix: Interval) -> SplitKind:
    moved = not within.low <= 0.0 <= within.high
    mixed = not mix.low <= 0.0 <= mix.high
    if moved and mixed:
        return "both"
    return "within" if moved else "mix" if mixed else "unclear"


def _around(centre: float, radius: float, level: float) -> Interval:
    radius = max(radius, _EMPTY)  # sums of rounded numbers: an exact 0 must not be "beyond chance"
    return Interval(centre - radius, centre + radius, level)


def _normal_quantile(p: float) -> float:
    """Return the standard normal quantile."""
    low, high = -10.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if 0.5 * math.erfc(-middle / math.sqrt(2.0)) < p:
            low = middle
        else:
            high = middle
    return high
