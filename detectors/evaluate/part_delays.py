"""Bar 2: the delay at one measured time between false alarms, beside the limit and river's grid."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Final

from detectors.evaluate.contenders import (
    KNOWN,
    PLUGGED,
    Contender,
    Start,
    river_contenders,
    special_contenders,
)
from detectors.evaluate.figures import Bar, Effort, Figure, Task, arl_figure, bar, delay_figure, select
from detectors.evaluate.oracle import best_bet, world_oracle
from detectors.evaluate.run_lengths import Runner, delays_after
from detectors.worlds.changes import Change, generator
from detectors.worlds.numbers import Family, Numbers, NumberWorld

MEANS: Final = (0.85, 0.8, 0.7)
FAMILIES: Final[tuple[Family, ...]] = ("bernoulli", "beta")
N_REF: Final = 5_000

_TARGET: Final = 1e4
_CLOSE: Final = 1.1  # a measured time between false alarms within this factor of the target counts as equal
_BEFORE: Final = 1_000  # observations in control before the change: what an adaptive detector learns from
_SLOWER: Final = 40  # a slow detector runs on this part of the streams
_ORACLE: Final = "oracle (likelihood ratio)"
_BEST_BET: Final = "best bet on the mean"


def tasks(effort: Effort, seed: int) -> list[Task]:
    """Return the steps of this part."""
    found = []
    for family in FAMILIES:
        for contender in (KNOWN, PLUGGED):
            run = partial(_house, effort, seed, family, contender)
            found.append(Task(part="delays", name=f"{contender.name}, {family}", run=run))
        special = special_contenders() if family == "bernoulli" and effort.specials else ()
        for contender in (*river_contenders(), *special):
            run = partial(_river, effort, seed, family, contender)
            found.append(Task(part="delays", name=f"{contender.name}, {family}", run=run))
    return found


def judge(figures: Sequence[Figure]) -> list[Bar]:
    """Return the bars that the figures of this part say something about."""
    delays = {(f.detector, f.world): f for f in select(figures, part="delays", measure="delay")}
    lengths = {(f.detector, f.world): f for f in select(figures, part="delays", measure="arl")}
    bars = []
    for contender, ratio in ((KNOWN, 1.25), (PLUGGED, 1.6)):
        for family in FAMILIES:
            for mean in MEANS:
                world = _world_name(family, mean)
                for limit, words in ((_ORACLE, "the oracle's"), (_BEST_BET, "that of the best bet")):
                    ours = delays.get((contender.name, world))
                    theirs = delays.get((f"{limit} at the run length of {contender.name}", world))
                    if ours is not None and theirs is not None:
                        name = f"{contender.name}: delay over {words}, {world}"
                        note = f"{ours.value:.1f} over {theirs.value:.1f}"
                        bars.append(bar(2, name, ours.value / theirs.value, "<=", ratio, note))
    for contender in (KNOWN, PLUGGED):
        for family in FAMILIES:
            for mean in MEANS:
                found = _beside_river(contender, family, mean, delays, lengths)
                bars += [] if found is None else [found]
    return bars


def _beside_river(
    contender: Contender,
    family: Family,
    mean: float,
    delays: dict[tuple[str, str], Figure],
    lengths: dict[tuple[str, str], Figure],
) -> Bar | None:
    """Return by how many standard errors we are slower than the fastest river setting with our run length."""
    world = _world_name(family, mean)
    ours, ours_length = delays.get((contender.name, world)), lengths.get((contender.name, family))
    if ours is None or ours_length is None:
        return None
    rivals = [
        (figure, lengths[rival.name, family])
        for rival in river_contenders()
        if (figure := delays.get((rival.name, world))) is not None
        and lengths[rival.name, family].value >= ours_length.value
    ]
    if not rivals:
        return None
    fastest, length = min(rivals, key=lambda pair: pair[0].value)
    error = math.hypot(ours.se, fastest.se) or 1.0
    note = f"{ours.value:.1f} against {fastest.value:.1f} of {fastest.detector} (ARL {length.value:.0f})"
    name = f"{contender.name}: standard errors slower than river's best, {world}"
    return bar(2, name, (ours.value - fastest.value) / error, "<=", 2.0, note)


def _house(effort: Effort, seed: int, family: Family, contender: Contender) -> list[Figure]:
    world = NumberWorld(family=family)
    null = world.draw(generator(seed, 1), replications=effort.pairs, length=effort.horizon)
    references = _references(effort.pairs, seed, world, contender)
    alpha, figure = _calibrate(contender, world, null, references)
    figures = [figure]
    others = _references(effort.delays, seed + 1, world, contender)
    for mean in MEANS:
        changed = _changed(world, mean)
        x = _draw_changed(effort, seed, changed)
        runner = contender.runner(_starts(others, world, alpha))
        figures.append(_delay(runner, x, contender.name, _world_name(family, mean), effort))
        for limit, oracle in ((_ORACLE, world_oracle), (_BEST_BET, best_bet)):
            known = oracle(changed, _TARGET).calibrated(null, figure.value)
            name = f"{limit} at the run length of {contender.name}"
            figures.append(_delay(known, x, name, _world_name(family, mean), effort))
    return figures


def _river(effort: Effort, seed: int, family: Family, contender: Contender) -> list[Figure]:
    world = NumberWorld(family=family)
    null = world.draw(generator(seed, 1), replications=effort.pairs, length=effort.horizon)
    streams = slice(0, max(4, effort.pairs // _SLOWER) if contender.slow else None)
    runner = contender.runner(
        [Start(mean=world.mean, row=row) for row in range(effort.delays + effort.pairs)]
    )
    figures = [_length(runner, null[streams], contender.name, family)]
    for mean in MEANS:
        x = _draw_changed(effort, seed, _changed(world, mean))[streams]
        figures.append(_delay(runner, x, contender.name, _world_name(family, mean), effort))
    return figures


def _calibrate(
    contender: Contender, world: NumberWorld, null: Numbers, references: list[tuple[float, ...]]
) -> tuple[float, Figure]:
    """Return the alpha at which the contender's measured run length is the target, and that run length."""
    log_alpha = -math.log(_TARGET)
    for _ in range(4):
        runner = contender.runner(_starts(references, world, math.exp(log_alpha)))
        figure = _length(runner, null, contender.name, world.family)
        if _TARGET / _CLOSE <= figure.value <= _TARGET * _CLOSE:
            break
        log_alpha += math.log(figure.value / _TARGET)
    return math.exp(log_alpha), figure


def _length(runner: Runner, null: Numbers, name: str, world: str) -> Figure:
    return arl_figure("delays", name, world, runner.run(null).sum(axis=1), null.shape[1])


def _delay(runner: Runner, x: Numbers, name: str, world: str, effort: Effort) -> Figure:
    delays = delays_after(runner.run(x, until=_BEFORE), _BEFORE)
    return delay_figure("delays", name, world, delays, effort.delay_horizon)


def _starts(references: list[tuple[float, ...]], world: NumberWorld, alpha: float) -> list[Start]:
    return [
        Start(mean=world.mean, spread=world.spread, reference=reference, alpha=alpha, row=row)
        for row, reference in enumerate(references)
    ]


def _references(count: int, seed: int, world: NumberWorld, contender: Contender) -> list[tuple[float, ...]]:
    if contender.knows != "reference":
        return [()] * count
    drawn = world.reference(generator(seed, 2), replications=count, n=N_REF)
    return [tuple(row) for row in drawn.tolist()]


def _changed(world: NumberWorld, mean: float) -> NumberWorld:
    return NumberWorld(
        family=world.family, mean_after=mean, change=Change(kind="abrupt", at=_BEFORE), mean=world.mean
    )


def _draw_changed(effort: Effort, seed: int, world: NumberWorld) -> Numbers:
    random = generator(seed, 3, int(1000 * (world.mean_after or 0.0)))
    return world.draw(random, replications=effort.delays, length=_BEFORE + effort.delay_horizon)


def _world_name(family: Family, mean: float) -> str:
    return f"{family} .90 -> {mean:.2f}"
