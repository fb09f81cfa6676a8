"""Bar 8: slow decline over releases, a segment that falls unseen, and a shift that is only one of mix."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.attribution import ConfirmationWindow, Split, Tally, split_change
from detectors.evaluate.contenders import watch_reference
from detectors.evaluate.feeding import alarm_indices
from detectors.evaluate.figures import Bar, Effort, Figure, Task, bar, select
from detectors.worlds.changes import generator
from detectors.worlds.numbers import Numbers
from detectors.worlds.segments import SegmentWorld, hidden_fall, pure_mix_shift

RELEASES: Final = 10
UNITS: Final = 1_000
BY_RELEASE: Final = 8

_N_REF: Final = 5_000
_ALPHA: Final = 1e-4
_REQUIRED: Final = 0.95
_LENGTH: Final = 20_000
_CREEP, _FALL, _MIX = (
    "ten releases, each a point worse: found by release 8",
    "a segment of 5 % falls while the whole rises: named",
    "a pure mix shift: called one",
)


def tasks(effort: Effort, seed: int) -> list[Task]:
    """Return the steps of this part."""
    found: tuple[tuple[str, Callable[[int], bool]], ...] = (
        (_CREEP, lambda row: found_by(row, seed) <= BY_RELEASE),
        (_FALL, lambda row: names_the_fallen(row, seed)),
        (_MIX, lambda row: calls_it_mix(row, seed)),
    )
    return [
        Task(part="releases", name=name, run=partial(_share, name, held, effort.releases))
        for name, held in found
    ]


def judge(figures: Sequence[Figure]) -> list[Bar]:
    """Return the bars: each must be right in 95 % of the replications."""
    return [
        bar(8, figure.world, figure.value, ">=", _REQUIRED, f"share of {figure.n} replications")
        for figure in select(figures, part="releases", measure="found")
    ]


def found_by(row: int, seed: int) -> int:
    """Return the first of ten releases, each .01 worse, that a detector pinned to the anchor alarms on.

    Every release has a detector of its own, against the anchor of .90 that all of them inherit; a release
    without an alarm leaves nothing to the next. 11 if there is none.
    """
    random = generator(seed, 6, row)
    anchor = (random.random(_N_REF) < 0.9).astype(np.float64)
    for release in range(1, RELEASES + 1):
        units = (random.random(UNITS) < 0.9 - 0.01 * release).astype(np.float64)
        watch = watch_reference(anchor.tolist(), alpha=_ALPHA, direction="down")
        if any(True for _ in alarm_indices(watch, units.tolist())):
            return release
    return RELEASES + 1


def names_the_fallen(row: int, seed: int) -> bool:
    """Return whether the fallen segment alarms, first of all, and is the one that the split names."""
    world, random = hidden_fall(at=0), generator(seed, 7, row)
    x, of, old, old_of = _streams(world, random)
    alarms: dict[int, int] = {}
    for s in range(len(world.names)):
        places = np.flatnonzero(of == s)
        watch = watch_reference(old[old_of == s].tolist(), alpha=_ALPHA, direction="down")
        first = next(alarm_indices(watch, x[places].tolist()), None)
        if first is not None:
            alarms[s] = int(places[first])
    if min(alarms, key=lambda s: alarms[s], default=None) != 0:
        return False
    since = slice(alarms[0] + 1, None)
    split = _split(world, old, old_of, x[since], of[since])
    return [part.segment for part in split.fallen("higher")][:1] == [world.names[0]] and split.total > 0.0


def calls_it_mix(row: int, seed: int) -> bool:
    """Return whether the whole alarms, and its confirming units say "mix" and nothing else."""
    world, random = pure_mix_shift(at=0), generator(seed, 8, row)
    x, of, old, old_of = _streams(world, random)
    watch = watch_reference(old.tolist(), alpha=_ALPHA, direction="down")
    first = next(alarm_indices(watch, x.tolist()), None)
    if first is None:
        return False
    window = slice(first + 1, first + 1 + ConfirmationWindow(baseline=0.9).units)
    return _split(world, old, old_of, x[window], of[window]).kind == "mix"


def _streams(
    world: SegmentWorld, random: np.random.Generator
) -> tuple[Numbers, NDArray[np.int64], Numbers, NDArray[np.int64]]:
    """Return units and segments after the change, and those of a reference before it."""
    x, of = world.draw(random, length=_LENGTH)
    rates, shares = np.array(world.rates), world.shares
    old_of = random.choice(len(world.names), size=_LENGTH, p=shares)
    return x, of, (random.random(_LENGTH) < rates[old_of]).astype(np.float64), old_of


def _split(
    world: SegmentWorld, old: Numbers, old_of: NDArray[np.int64], x: Numbers, of: NDArray[np.int64]
) -> Split:
    def tallies(values: Numbers, where: NDArray[np.int64]) -> dict[str, Tally]:
        return {name: Tally.of(values[where == s].tolist()) for s, name in enumerate(world.names)}

    return split_change(tallies(old, old_of), tallies(x, of))


def _share(name: str, held: Callable[[int], bool], replications: int) -> list[Figure]:
    share = sum(held(row) for row in range(replications)) / replications
    return [
        Figure(
            part="releases",
            detector="BettingSR, reference, and attribution",
            world=name,
            measure="found",
            value=share,
            se=math.sqrt(max(share * (1.0 - share), 1.0 / replications) / replications),
            n=replications,
        )
    ]
