"""The whole evaluation: which parts there are, their steps, and what their figures are held to."""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol, get_args

from msgspec import Struct

from detectors.evaluate import (
    part_canary,
    part_delays,
    part_embeddings,
    part_false_alarms,
    part_fleet,
    part_releases,
    part_shapes,
)
from detectors.evaluate.figures import FIRST_EVALUATION_SEED, Bar, Effort, Figure, Part, Task


class _PartModule(Protocol):
    def tasks(self, effort: Effort, seed: int) -> list[Task]: ...

    def judge(self, figures: Sequence[Figure]) -> list[Bar]: ...


PARTS: Final[tuple[Part, ...]] = get_args(Part)
"""Names of the parts, in the order of their bars."""

_MODULES: Final[dict[Part, _PartModule]] = {
    "false-alarms": part_false_alarms,
    "delays": part_delays,
    "embeddings": part_embeddings,
    "canary": part_canary,
    "fleet": part_fleet,
    "releases": part_releases,
    "shapes": part_shapes,
}


class Evaluation(Struct, frozen=True, kw_only=True):
    """What was measured: everything needed to repeat it, the figures, and the bars."""

    seed: int
    effort: Effort
    parts: tuple[Part, ...]
    figures: tuple[Figure, ...]
    bars: tuple[Bar, ...]

    @property
    def held(self) -> bool:
        """Whether every bar held."""
        return all(bar.held for bar in self.bars)

    @property
    def tuning(self) -> bool:
        """Whether the seed is one that detectors may have been tuned on: then it proves nothing."""
        return self.seed < FIRST_EVALUATION_SEED


def plan(parts: Sequence[Part], effort: Effort, seed: int) -> list[Task]:
    """Return the steps of `parts`; equal seeds give equal figures.

    Examples
    --------
    >>> from detectors.evaluate.figures import SMALL
    >>> [task.name for task in plan(["releases"], SMALL, 10_000)][-1]
    'a pure mix shift: called one'
    """
    return [task for part in parts for task in _MODULES[part].tasks(effort, seed)]


def measure(tasks: Sequence[Task]) -> Iterator[tuple[Task, list[Figure]]]:
    """Run the steps one by one, and yield each with its figures."""
    for task in tasks:
        yield task, task.run()


def conclude(parts: Sequence[Part], effort: Effort, seed: int, figures: Sequence[Figure]) -> Evaluation:
    """Return the evaluation of `figures`, judged."""
    bars = [bar for part in parts for bar in _MODULES[part].judge(figures)]
    return Evaluation(seed=seed, effort=effort, parts=tuple(parts), figures=tuple(figures), bars=tuple(bars))
