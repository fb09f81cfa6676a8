"""Bar 1: the time between false alarms is as promised, in every kind of traffic that the promise covers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from detectors.drift.betting_sr import BettingSR
from detectors.drift.seasonal_baseline import SeasonalBaseline
from detectors.evaluate.contenders import KNOWN, PLUGGED, POLYA, Contender, Start
from detectors.evaluate.figures import Bar, Effort, Figure, Task, arl_figure, bar, select
from detectors.worlds.changes import generator
from detectors.worlds.dependence import MemoryWorld, SeasonalWorld, SessionWorld, block_means
from detectors.worlds.numbers import Numbers, NumberWorld

ALPHA: Final = 1e-4

_REQUIRED: Final = 0.9
_UNPROMISED: Final = "nothing is promised here"
_MEMORY_BLOCK: Final = 50
_PERIODS: Final = 8  # of the season, in the reference
_SEASONAL: Final = "BettingSR on a SeasonalBaseline"
_SEASON_NAME: Final = f"season of +-.04, reference of {_PERIODS} periods"


class _Case:
    """One contender in one world: how to draw references and streams, of shape (pairs, n)."""

    def __init__(
        self,
        contender: Contender,
        world: str,
        draw: Callable[[np.random.Generator, int, int], Numbers],
        n_ref: int = 0,
        note: str = "",
        *,
        spread: float | None = None,
    ) -> None:
        self.contender, self.world, self.draw, self.n_ref, self.note = contender, world, draw, n_ref, note
        self.spread = spread


def tasks(effort: Effort, seed: int) -> list[Task]:
    """Return the steps of this part."""
    found = [
        Task(
            part="false-alarms",
            name=f"{case.contender.name}, {case.world}",
            run=partial(_measure, case, effort, seed + number),
        )
        for number, case in enumerate(_cases())
    ]
    run = partial(_seasonal, effort, seed)
    found.append(Task(part="false-alarms", name=f"{_SEASONAL}, {_SEASON_NAME}", run=run))
    return found


def judge(figures: Sequence[Figure]) -> list[Bar]:
    """Return one bar for each promised case: its lower bound against .9 / alpha."""
    return [
        bar(
            1,
            f"{figure.detector}: lower bound of the time between false alarms, {figure.world}",
            figure.low or 0.0,
            ">=",
            _REQUIRED / ALPHA,
            f"{figure.value:.0f} from {figure.note}, {figure.n} pairs",
        )
        for figure in select(figures, part="false-alarms", measure="arl")
        if _UNPROMISED not in figure.note
    ]


def _cases() -> list[_Case]:
    coins, graded = NumberWorld(), NumberWorld(family="beta")
    marks, sessions, small = NumberWorld(family="ordinal"), SessionWorld(), (200, 1_000)
    found = [
        *(
            _Case(KNOWN, f"{w.family}, baseline known", _drawn(w), spread=w.spread)
            for w in (coins, graded, marks)
        ),
        *(
            _Case(PLUGGED, f"{w.family}, n_ref {n}", _drawn(w), n)
            for n in (5_000, 20_000)
            for w in (coins, graded)
        ),
        _Case(KNOWN, "sessions as units, baseline known", _drawn(sessions)),
        _Case(PLUGGED, "sessions as units, n_ref 5000", _drawn(sessions), 5_000),
        *(
            _Case(POLYA, f"{w.family}, n_ref {n}", _drawn(w), n)
            for n in (200, 1_000)
            for w in (coins, graded)
        ),
        *(_Case(PLUGGED, f"{w.family}, n_ref {n}", _drawn(w), n) for w in (coins, graded) for n in small),
    ]
    memory = MemoryWorld(memory=0.5)
    found.append(_Case(KNOWN, "autocorrelated items", _drawn(memory), note=_UNPROMISED))
    blocks = f"autocorrelated, means of {_MEMORY_BLOCK}"
    found.append(_Case(KNOWN, blocks, _blocks(memory), note=_UNPROMISED))
    return found


def _drawn(world: Any) -> Callable[[np.random.Generator, int, int], Numbers]:
    def draw(random: np.random.Generator, pairs: int, length: int) -> Numbers:
        drawn: Numbers = world.draw(random, replications=pairs, length=length)
        return drawn

    return draw


def _blocks(world: MemoryWorld) -> Callable[[np.random.Generator, int, int], Numbers]:
    def draw(random: np.random.Generator, pairs: int, length: int) -> Numbers:
        return np.concatenate(  # one stream at a time: the items are many times the units
            [
                block_means(world.draw(random, replications=1, length=length * _MEMORY_BLOCK), _MEMORY_BLOCK)
                for _ in range(pairs)
            ]
        )

    return draw


def _measure(case: _Case, effort: Effort, seed: int) -> list[Figure]:
    references: list[tuple[float, ...]] = [()] * effort.pairs
    if case.n_ref:
        drawn = case.draw(generator(seed, 2), effort.pairs, case.n_ref)
        references = [tuple(row) for row in drawn.tolist()]
    starts = [
        Start(mean=0.9, spread=case.spread, reference=reference, alpha=ALPHA, row=row)
        for row, reference in enumerate(references)
    ]
    x = case.draw(generator(seed, 1), effort.pairs, effort.horizon)
    alarms = case.contender.runner(starts).run(x).sum(axis=1)
    return [arl_figure("false-alarms", case.contender.name, case.world, alarms, x.shape[1], case.note)]


def _seasonal(effort: Effort, seed: int) -> list[Figure]:
    """Return the figure of a detector whose band follows a season learnt from whole periods before."""
    world, alarms = SeasonalWorld(), []
    slot, n_ref = world.period // world.bins, _PERIODS * world.period
    for row in range(effort.pairs):
        random = generator(seed, 9, row)
        reference = world.draw(random, replications=1, length=n_ref)[0].tolist()
        baseline = SeasonalBaseline.fit(reference, range(n_ref), slots=world.bins, slot_ms=slot)
        watch = baseline.watch(tolerance=0.0, alpha=ALPHA)
        shifts = np.array(baseline.shifts)[world.bins_of(0, effort.horizon)].tolist()
        x = world.draw(random, replications=1, length=effort.horizon)[0].tolist()
        alarms.append(_count(watch, x, shifts))
    return [arl_figure("false-alarms", _SEASONAL, _SEASON_NAME, alarms, effort.horizon)]


def _count(watch: BettingSR, values: list[float], shifts: list[float]) -> int:
    alarms = 0
    for x, shift in zip(values, shifts, strict=True):
        watch.update(x, shift=shift)
        if watch.drift_detected:
            alarms += 1
            watch.reset()
    return alarms
