"""Bar 5: two thousand streams on one budget of false pages, a hundred of which change."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.drift.bank import Bank
from detectors.drift.betting_sr import BettingSR
from detectors.drift.budget import FalsePageBudget
from detectors.evaluate.contenders import reference_of_mean
from detectors.evaluate.figures import Bar, Effort, Figure, Task, bar, select
from detectors.evaluate.run_lengths import Z
from detectors.worlds.changes import generator

STREAMS: Final = 2_000
UNITS: Final = 2_000
BUDGET: Final = 20.0
CHANGED: Final = 100

_MEAN, _DROP, _N_REF = 0.9, 0.1, 5_000
_AT: Final = 500
_CHUNK: Final = 50
_NAME: Final = "Bank of BettingSR, reference"


def tasks(effort: Effort, seed: int) -> list[Task]:
    """Return the steps of this part."""
    name = f"{STREAMS} streams, {effort.fleets} replications"
    return [Task(part="fleet", name=name, run=partial(_fleets, effort, seed))]


def judge(figures: Sequence[Figure]) -> list[Bar]:
    """Return the bars: the upper bound of the mean number of false alarms, and the share found."""
    bars = []
    for figure in select(figures, part="fleet", measure="alarms"):
        note = f"mean {figure.value:.1f} of {figure.n} replications"
        name = "fleet: upper bound of the mean false alarms on a budget of 20"
        bars.append(bar(5, name, figure.high or 0.0, "<=", BUDGET, note))
    for figure in select(figures, part="fleet", measure="found"):
        name = f"fleet: share of changed streams found, {figure.world}"
        bars.append(bar(5, name, figure.value, ">=", 1.0, f"{figure.n} changed streams"))
    return bars


def _fleets(effort: Effort, seed: int) -> list[Figure]:
    false, found, delays = [], 0, []
    for row in range(effort.fleets):
        alarms = _one_fleet(generator(seed, 10, row))
        changed = alarms[:CHANGED]
        false.append(int(np.count_nonzero(alarms[CHANGED:])) + int(np.count_nonzero(changed[:, :_AT])))
        hits = changed[:, _AT:].any(axis=1)
        found += int(hits.sum())
        delays += (changed[:, _AT:].argmax(axis=1)[hits] + 1).tolist()
    n = len(false)
    mean = sum(false) / n
    se = math.sqrt(sum((count - mean) ** 2 for count in false) / max(1, n - 1) / n)
    change = f"{CHANGED} of {STREAMS} fall by {_DROP:g}"
    delay = sum(delays) / max(1, len(delays))
    return [
        Figure(
            part="fleet",
            detector=_NAME,
            world="no change",
            measure="alarms",
            value=mean,
            se=se,
            high=mean + Z * se,
            n=n,
        ),
        Figure(
            part="fleet",
            detector=_NAME,
            world=change,
            measure="found",
            value=found / (n * CHANGED),
            n=n * CHANGED,
            note=f"mean delay {delay:.0f}",
        ),
    ]


def _one_fleet(random: np.random.Generator) -> NDArray[np.bool_]:
    """Return where each stream alarmed, to within a chunk, shape (streams, units); the first ones change."""
    pinned = random.binomial(_N_REF, _MEAN, size=STREAMS) / _N_REF
    names = [f"s{number}" for number in range(STREAMS)]
    budget = FalsePageBudget(
        pages_per_week=BUDGET,
        metrics={"score": 1.0},
        segments={"score": dict.fromkeys(names, 1.0 / STREAMS)},
    )
    bank = Bank(
        [
            BettingSR.from_reference(
                reference_of_mean(mean, _N_REF),
                tolerance=0.0,
                alpha=budget.alpha("score", name, units=UNITS),
            )
            for name, mean in zip(names, pinned.tolist(), strict=True)
        ]
    )
    alarms = np.zeros((STREAMS, UNITS), dtype=bool)
    for start in range(0, UNITS, _CHUNK):
        means = np.full((1, STREAMS), _MEAN)
        means[:, :CHANGED] -= _DROP if start >= _AT else 0.0
        bank.update_many((random.random((_CHUNK, STREAMS)) < means).astype(np.float64))
        rows = np.flatnonzero(bank.drift_detected)
        alarms[rows, start + _CHUNK - 1] = True
        bank.reset(rows)
    return alarms
