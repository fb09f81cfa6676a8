"""Figures without a bar: ramps, changes of shape at an equal mean, small references, seasons, labels."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from detectors.drift.blocks_of_categories import CategoryBlocks
from detectors.drift.polya_block_sr import PolyaBlockSR
from detectors.drift.seasonal_baseline import SeasonalBaseline
from detectors.evaluate.contenders import KNOWN, PLUGGED, POLYA, Contender, Start, river_contenders
from detectors.evaluate.feeding import alarm_indices
from detectors.evaluate.figures import Bar, Effort, Figure, Task, arl_figure, delay_figure
from detectors.evaluate.run_lengths import delays_after
from detectors.worlds.categories import CategoryWorld, with_share
from detectors.worlds.changes import Change, generator
from detectors.worlds.dependence import SeasonalWorld
from detectors.worlds.numbers import NumberWorld

_AT: Final = 1_000
_N_REF: Final = 1_000
_SMALL_REFS: Final = (200, 1_000)
_SMALL_FALLS: Final = (0.85, 0.8, 0.7)
_LABEL_REF: Final = 2_000
_FEWER: Final = 4  # a quarter of the streams: nothing is held to these figures
_ALPHA: Final = 1e-4
_LABELS: Final = tuple(n / 100 for n in (40, 25, 15, 10, 8, 2))
_RARER: Final = ((5, 0.06), (5, 0.12), (2, 0.25))
_RIVALS: Final = ("ADWIN delta=0.002", "ADWIN delta=0.3", "PageHinkley threshold=30")

_RAMP: Final = NumberWorld(mean_after=0.8, change=Change(kind="ramp", at=_AT, over=10_000))
_SHAPES: Final[dict[str, NumberWorld]] = {
    "beta, spread 10 -> 4": NumberWorld(
        family="beta", concentration_after=4.0, change=Change(kind="shape", at=_AT)
    ),
    "beta, spread 10 -> 30": NumberWorld(
        family="beta", concentration_after=30.0, change=Change(kind="shape", at=_AT)
    ),
    "ordinal, spread 10 -> 1": NumberWorld(
        family="ordinal", mean=0.7, concentration_after=1.0, change=Change(kind="shape", at=_AT)
    ),
}


def tasks(effort: Effort, seed: int) -> list[Task]:
    """Return the steps of this part."""
    rivals = [c for c in river_contenders() if c.name in _RIVALS]
    steps: list[tuple[str, Callable[[], list[Figure]]]] = [
        *(
            (f"ramp, {c.name}", partial(_numbers, effort, seed, "ramp .90 -> .80 over 10,000", _RAMP, c))
            for c in (KNOWN, *rivals)
        ),
        *(
            (f"{name}, {c.name}", partial(_numbers, effort, seed, name, world, c))
            for name, world in _SHAPES.items()
            for c in (POLYA, PLUGGED)
        ),
        *(
            (
                f"{mean:.2f} at n_ref {n}, {c.name}",
                partial(_numbers, effort, seed, f"bernoulli .90 -> {mean:.2f}, n_ref {n}", _fall(mean), c, n),
            )
            for n in _SMALL_REFS
            for mean in _SMALL_FALLS
            for c in (POLYA, PLUGGED)
        ),
        ("drop of .05 under a season", partial(_season, effort, seed)),
        ("labels", partial(_labels, effort, seed)),
    ]
    return [Task(part="shapes", name=name, run=run) for name, run in steps]


def judge(figures: Sequence[Figure]) -> list[Bar]:
    """Return no bars: these figures are shown, and held to nothing."""
    del figures
    return []


def _fall(mean: float) -> NumberWorld:
    return NumberWorld(mean_after=mean, change=Change(kind="abrupt", at=_AT))


def _numbers(  # noqa: PLR0917 - a step of a table
    effort: Effort, seed: int, name: str, world: NumberWorld, contender: Contender, n_ref: int = _N_REF
) -> list[Figure]:
    streams, horizon = _streams(effort), _horizon(effort, world.change)
    drawn = world.reference(generator(seed, 11), replications=streams, n=n_ref)
    starts = [
        Start(mean=world.mean, reference=tuple(reference), alpha=_ALPHA, row=row)
        for row, reference in enumerate(drawn.tolist())
    ]
    x = world.draw(generator(seed, 12), replications=streams, length=_AT + horizon)
    delays = delays_after(contender.runner(starts).run(x, until=_AT), _AT)
    return [delay_figure("shapes", contender.name, name, delays, horizon)]


def _season(effort: Effort, seed: int) -> list[Figure]:
    world, delays = SeasonalWorld(drop=0.05, change=Change(kind="abrupt", at=_AT)), []
    calm, n_ref, slot = SeasonalWorld(), 8 * world.period, world.period // world.bins
    for row in range(_streams(effort)):
        random = generator(seed, 13, row)
        reference = calm.draw(random, replications=1, length=n_ref)[0].tolist()
        baseline = SeasonalBaseline.fit(reference, range(n_ref), slots=world.bins, slot_ms=slot)
        x = world.draw(random, replications=1, length=_AT + effort.delay_horizon)[0].tolist()
        fed = _Shifted(baseline, alpha=_ALPHA)
        delays.append(_first(alarm_indices(fed, enumerate(x))))
    name = "drop of .05 in a season of +-.04"
    return [delay_figure("shapes", "BettingSR on a SeasonalBaseline", name, delays, effort.delay_horizon)]


class _Shifted:
    """A detector fed with ``(time, value)``, which looks up its own season."""

    def __init__(self, baseline: SeasonalBaseline, *, alpha: float) -> None:
        self._baseline, self._watch = baseline, baseline.watch(tolerance=0.0, alpha=alpha)

    @property
    def drift_detected(self) -> bool:
        """As the detector's."""
        return bool(self._watch.drift_detected)

    def update(self, at: tuple[int, float]) -> None:
        """Take the next value."""
        self._watch.update(at[1], shift=self._baseline.shift(at[0]))

    def reset(self) -> None:
        """As the detector's."""
        self._watch.reset()


def _labels(effort: Effort, seed: int) -> list[Figure]:
    streams, figures = _streams(effort), []
    still = CategoryWorld(before=_LABELS, after=_LABELS)
    starts = still.reference(generator(seed, 14), replications=streams, n=_LABEL_REF)
    quiet = still.draw(generator(seed, 15), replications=streams, length=effort.horizon)
    alarms = [
        sum(1 for _ in alarm_indices(_label_watch(ref, row), map(str, x)))
        for row, (ref, x) in enumerate(zip(starts.tolist(), quiet.tolist(), strict=True))
    ]
    world = f"labels, n_ref {_LABEL_REF}"
    figures.append(arl_figure("shapes", POLYA.name, world, alarms, effort.horizon))
    for label, share in _RARER:
        changed = CategoryWorld(
            before=_LABELS, after=with_share(_LABELS, label, share), change=Change(kind="abrupt", at=_AT)
        )
        x = changed.draw(generator(seed, 16, label), replications=streams, length=_AT + effort.delay_horizon)
        delays = [
            _first(alarm_indices(_label_watch(ref, row), map(str, values)))
            for row, (ref, values) in enumerate(zip(starts.tolist(), x.tolist(), strict=True))
        ]
        name = f"a label of {_LABELS[label]:.2f} -> {share:.2f}"
        figures.append(delay_figure("shapes", POLYA.name, name, delays, effort.delay_horizon))
    return figures


def _label_watch(reference: list[int], row: int) -> Any:
    blocks = CategoryBlocks.fit([str(label) for label in reference], seed=row)
    return PolyaBlockSR(blocks=blocks, alpha=_ALPHA, seed=row)


def _first(indices: Any) -> float:
    return next((index - _AT + 1.0 for index in indices if index >= _AT), math.nan)


def _streams(effort: Effort) -> int:
    return max(10, effort.delays // _FEWER)


def _horizon(effort: Effort, change: Change) -> int:
    return max(effort.delay_horizon, change.over + effort.delay_horizon if change.kind == "ramp" else 0)
