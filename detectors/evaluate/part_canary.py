"""Bar 4: a canary of one unit in ten, against stable users, under a season, looked at after every unit."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np

from detectors.drift.arm_betting_test import ArmBettingTest
from detectors.evaluate.figures import Bar, Effort, Figure, Task, bar, select
from detectors.evaluate.run_lengths import Z
from detectors.worlds.canaries import CanaryWorld
from detectors.worlds.changes import generator

ALPHA: Final = 0.01
TARGETS: Final = ((0.05, 520), (0.1, 150), (0.2, 60))

_NULLS: Final = {
    "season": CanaryWorld(),
    "season, users who differ": CanaryWorld(spread=3.0, visits=5.0),
    "season, users who differ, one visit": CanaryWorld(spread=3.0),
}
_HORIZON: Final = 60_000
_NAME: Final = "ArmBettingTest"
_PIECE: Final = 4_000


def tasks(effort: Effort, seed: int) -> list[Task]:
    """Return the steps of this part."""
    nulls = [
        Task(part="canary", name=f"no change, {name}", run=partial(_false_alarms, effort, seed, name))
        for name in _NULLS
    ]
    drops = [
        Task(part="canary", name=f"drop of {drop:g}", run=partial(_units, effort, seed, drop))
        for drop, _ in TARGETS
    ]
    return nulls + drops


def judge(figures: Sequence[Figure]) -> list[Bar]:
    """Return the bars: false alarms within alpha (and chance), mean canary units within the targets."""
    bars = []
    for figure in select(figures, part="canary", measure="false_share"):
        chance = Z * math.sqrt(ALPHA * (1.0 - ALPHA) / figure.n)
        note = f"{figure.value * figure.n:.0f} of {figure.n} streams; bound: alpha and chance"
        bars.append(bar(4, f"canary: false alarms, {figure.world}", figure.value, "<=", ALPHA + chance, note))
    targets = {f"drop of {drop:g}": units for drop, units in TARGETS}
    for figure in select(figures, part="canary", measure="units"):
        note = f"standard error {figure.se:.1f}, missed {figure.missed:.0%}"
        name = f"canary: mean canary units to the alarm, {figure.world}"
        bars.append(bar(4, name, figure.value, "<=", targets[figure.world], note))
    return bars


def _false_alarms(effort: Effort, seed: int, name: str) -> list[Figure]:
    world = _NULLS[name]
    number = list(_NULLS).index(name)
    found = [
        _run(world, generator(seed, 4, number, row), effort.canary_units).drift_detected
        for row in range(effort.canaries)
    ]
    share = sum(found) / len(found)
    return [
        Figure(
            part="canary",
            detector=_NAME,
            world=name,
            measure="false_share",
            value=share,
            se=math.sqrt(max(share, 1.0 / len(found)) / len(found)),
            n=len(found),
        )
    ]


def _units(effort: Effort, seed: int, drop: float) -> list[Figure]:
    world = CanaryWorld(drop=drop)
    tests = [
        _run(world, generator(seed, 5, int(1000 * drop), row), _HORIZON)
        for row in range(effort.canary_changes)
    ]
    n = len(tests)
    treated = [test.n_treated for test in tests]
    mean = sum(treated) / n
    return [
        Figure(
            part="canary",
            detector=_NAME,
            world=f"drop of {drop:g}",
            measure="units",
            value=mean,
            se=math.sqrt(sum((t - mean) ** 2 for t in treated) / max(1, n - 1) / n),
            n=n,
            missed=sum(not test.drift_detected for test in tests) / n,
        )
    ]


def _run(world: CanaryWorld, random: np.random.Generator, units: int) -> ArmBettingTest:
    """Return the test after its alarm, or after `units` units; it is looked at after every one."""
    test = ArmBettingTest(worse="lower", alpha=ALPHA)
    for start in range(0, units, _PIECE):
        x, treated = world.draw(random, replications=1, length=min(_PIECE, units - start), start=start)
        for value, arm in zip(x[0].tolist(), treated[0].tolist(), strict=True):
            test.update(value, treated=arm, share=world.share)
            if test.drift_detected:
                return test
    return test
