"""Two releases side by side: which scores moved, which way, and how surely."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import NormalDist, fmean, variance
from typing import Final

from msgspec import Struct

from detectors.records import Direction, Interval, Scorecard

MIN_UNITS: Final = 30
_PAIRED_SHARE: Final = 0.8

Values = Mapping[tuple[str, str], float]


class Comparison(Struct, frozen=True, kw_only=True):
    """One metric of two releases.

    ``difference`` is new minus old with a simultaneous ``interval``: all intervals of one report hold
    together with the stated level. ``moved`` means that the interval excludes 0. ``paired`` tells whether
    the same units (prompts, conversations) were compared with themselves.
    """

    metric: str
    direction: Direction
    n_old: int
    n_new: int
    mean_old: float
    mean_new: float
    difference: float
    interval: Interval
    paired: bool
    moved: bool
    worse: bool


class ReleaseSample:
    """Unit means of every metric of one release, gathered from scorecards.

    Examples
    --------
    >>> from detectors.records import Score
    >>> sample = ReleaseSample()
    >>> for unit, value in (("c:1", 1.0), ("c:1", 0.0), ("c:2", 1.0)):
    ...     sample.add(Scorecard(deployment="d", interaction_id="i", release="1", event_time_ms=0,
    ...         received_at_ms=0, unit=unit, scores=(Score(name="helpful", value=value, direction="higher"),),
    ...     ))
    >>> sample.means("helpful")
    {'c:1': 0.5, 'c:2': 1.0}
    """

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.directions: dict[str, Direction] = {}

    def add(self, card: Scorecard) -> None:
        """Take in one scorecard."""
        for score in card.scores:
            if score.value is not None:
                self._values[score.name][card.unit].append(score.value)
                self.directions[score.name] = score.direction

    def means(self, metric: str) -> dict[str, float]:
        """Return the mean of `metric` by unit."""
        return {unit: fmean(values) for unit, values in self._values.get(metric, {}).items()}


def compare_releases(old: ReleaseSample, new: ReleaseSample, *, level: float = 0.95) -> list[Comparison]:
    """Return the comparison of every metric with at least 30 units on both sides, largest shift first.

    Where at least 80 % of the new release's units are units of the old one too, the same units are compared
    with themselves (paired), which finds far smaller shifts. Intervals are normal approximations with
    Wilson's floor on the variance, Bonferroni-corrected over the metrics.

    Parameters
    ----------
    old, new
        What each release scored.
    level
        Probability that all intervals together hold, in (0, 1).
    """
    metrics = sorted(set(old.directions) & set(new.directions))
    rows = {metric: (old.means(metric), new.means(metric)) for metric in metrics}
    rows = {metric: pair for metric, pair in rows.items() if min(map(len, pair)) >= MIN_UNITS}
    z = NormalDist().inv_cdf(1.0 - (1.0 - level) / (2.0 * max(1, len(rows))))
    found = [
        _compare(metric, new.directions[metric], pair, z=z, level=level) for metric, pair in rows.items()
    ]
    return sorted(found, key=lambda row: (not row.moved, -abs(row.difference), row.metric))


def _compare(
    metric: str,
    direction: Direction,
    means: tuple[dict[str, float], dict[str, float]],
    *,
    z: float,
    level: float,
) -> Comparison:
    old, new = means
    shared = sorted(old.keys() & new.keys())
    paired = len(shared) >= max(MIN_UNITS, _PAIRED_SHARE * len(new))
    if paired:
        differences = [new[unit] - old[unit] for unit in shared]
        difference, squared = fmean(differences), _squared_error(differences, z)
    else:
        difference = fmean(new.values()) - fmean(old.values())
        squared = _squared_error(old.values(), z) + _squared_error(new.values(), z)
    half = z * math.sqrt(squared)
    moved = abs(difference) > half
    return Comparison(
        metric=metric,
        direction=direction,
        n_old=len(old),
        n_new=len(new),
        mean_old=fmean(old.values()),
        mean_new=fmean(new.values()),
        difference=difference,
        interval=Interval(difference - half, difference + half, level),
        paired=paired,
        moved=moved,
        worse=moved and (direction == "higher") == (difference < 0) and direction != "neutral",
    )


def _squared_error(values: Iterable[float], z: float) -> float:
    """Return the squared standard error of the mean, with a floor for samples that do not vary."""
    sample = list(values)
    return variance(sample) / len(sample) + (z / len(sample)) ** 2 / 4.0
