"""What an evaluation is made of: tasks that measure figures, and bars that figures are held to."""

import math
from collections.abc import Callable, Sequence
from typing import Final, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from detectors.evaluate.run_lengths import Counts, delay, run_length

Part = Literal["false-alarms", "delays", "embeddings", "canary", "fleet", "releases", "shapes"]
Measure = Literal["arl", "delay", "found", "false_share", "alarms", "units"]

FIRST_EVALUATION_SEED: Final = 10_000
"""Seeds below 1,000 are for tuning; an evaluation starts here, so nothing is judged on what tuned it."""


class Effort(Struct, frozen=True, kw_only=True):
    """How much is simulated.

    Parameters
    ----------
    pairs, horizon
        Pairs of reference and stream for a time between false alarms, and observations of each stream.
    delays, delay_horizon
        Streams for a mean delay, and how long one may take.
    embedding_pairs, embedding_horizon, worlds, dimensions
        The same for embeddings; `worlds` are those with a change.
    canaries, canary_units, canary_changes
        Streams without a change, the units of each, and the streams with one.
    fleets, releases
        Replications of the fleet, and of the scenes of releases and segments.
    specials
        Whether those of river's are run that are slow, or made for 0 and 1 alone.
    """

    pairs: int
    horizon: int
    delays: int
    delay_horizon: int
    embedding_pairs: int
    embedding_horizon: int
    worlds: int
    dimensions: tuple[int, ...]
    canaries: int
    canary_units: int
    canary_changes: int
    fleets: int
    releases: int
    specials: bool


FULL: Final = Effort(
    pairs=320,
    horizon=20_000,
    delays=400,
    delay_horizon=5_000,
    embedding_pairs=300,
    embedding_horizon=3_000,
    worlds=60,
    dimensions=(384, 1_536),
    canaries=500,
    canary_units=10_000,
    canary_changes=800,
    fleets=100,
    releases=200,
    specials=True,
)
"""The published grid."""

SMALL: Final = Effort(
    pairs=40,
    horizon=10_000,
    delays=40,
    delay_horizon=3_000,
    embedding_pairs=8,
    embedding_horizon=1_000,
    worlds=6,
    dimensions=(64,),
    canaries=40,
    canary_units=3_000,
    canary_changes=30,
    fleets=2,
    releases=20,
    specials=False,
)
"""A fixed part, small enough to run at every change."""


class Figure(Struct, frozen=True, kw_only=True):
    """One measured number: a detector in a world.

    ``se`` is its standard error, ``low`` and ``high`` are one-sided 95 % bounds where they matter; ``n`` is
    the streams, pairs or replications behind it; ``missed`` the share of streams that never alarmed, which
    count as the horizon.
    """

    part: Part
    detector: str
    world: str
    measure: Measure
    value: float
    se: float = 0.0
    low: float | None = None
    high: float | None = None
    n: int = 0
    missed: float = 0.0
    note: str = ""


class Bar(Struct, frozen=True, kw_only=True):
    """One promise: a value, the bound it is held to, and whether it held. ``number`` groups them."""

    number: int
    name: str
    value: float
    relation: Literal[">=", "<="]
    bound: float
    held: bool
    note: str = ""


class Task(Struct, frozen=True, kw_only=True):
    """One step of an evaluation; `run` takes seconds to minutes and returns its figures."""

    part: Part
    name: str
    run: Callable[[], list[Figure]]


def bar(  # noqa: PLR0917 - a line of a table
    number: int, name: str, value: float, relation: Literal[">=", "<="], bound: float, note: str = ""
) -> Bar:
    """Return a bar, judged.

    Examples
    --------
    >>> bar(2, "delay", 300.0, "<=", 326.0).held
    True
    """
    held = value >= bound if relation == ">=" else value <= bound
    return Bar(number=number, name=name, value=value, relation=relation, bound=bound, held=held, note=note)


def arl_figure(  # noqa: PLR0917 - a line of a table
    part: Part, detector: str, world: str, alarms: Sequence[int] | Counts, horizon: int, note: str = ""
) -> Figure:
    """Return the figure of a time between false alarms, from the `alarms` of each stream."""
    found = run_length(alarms, horizon)
    words = f"{found.alarms} alarms"
    return Figure(
        part=part,
        detector=detector,
        world=world,
        measure="arl",
        value=found.arl,
        se=found.arl / math.sqrt(max(1, found.alarms)),
        low=found.low,
        n=found.pairs,
        note=f"{words}; {note}" if note else words,
    )


def delay_figure(
    part: Part, detector: str, world: str, delays: Sequence[float] | NDArray[np.float64], horizon: int
) -> Figure:
    """Return the figure of a mean delay; a NaN in `delays` is a miss."""
    found = delay(delays, horizon)
    return Figure(
        part=part,
        detector=detector,
        world=world,
        measure="delay",
        value=found.mean,
        se=found.se,
        n=found.streams,
        missed=found.missed,
    )


def select(figures: Sequence[Figure], *, part: Part, measure: Measure) -> list[Figure]:
    """Return the figures of one part and measure, in their order."""
    return [figure for figure in figures if figure.part == part and figure.measure == measure]
