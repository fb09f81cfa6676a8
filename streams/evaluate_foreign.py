"""Detectors of other libraries, run in an interpreter of their own: their pins exclude ours."""

import io
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from detectors.evaluate.figures import Effort, Figure, arl_figure, delay_figure
from detectors.worlds.changes import Change, generator
from detectors.worlds.numbers import Numbers, NumberWorld

TIMEOUT_S: Final = 900.0
AT: Final = 1_000
MEANS: Final = (0.85, 0.8, 0.7)

_WORKER: Final = Path(__file__).with_name("evaluate_foreign_worker.py")
_STREAMS: Final = 40  # frouros feeds 50,000 observations a second: a tenth of the grid


def measure_foreign(interpreter: Path, effort: Effort, seed: int) -> tuple[list[Figure], str]:
    """Return what `interpreter`'s frouros and CapyMOA detectors do on coins, and why not if they do nothing.

    They get fewer streams than ours, because they are up to a hundred times slower; the figures say how many.

    Parameters
    ----------
    interpreter
        A Python that can import frouros or capymoa, and NumPy. It need not have plumbline.
    effort, seed
        As of the rest of the evaluation.
    """
    world, streams = NumberWorld(), min(_STREAMS, effort.pairs)
    arrays = {
        "null": world.draw(generator(seed, 1), replications=streams, length=effort.horizon // 2),
        **{f"{mean:.2f}": _changed(world, mean, streams, effort, seed) for mean in MEANS},
    }
    try:
        alarms = _run(interpreter, arrays)
    except subprocess.TimeoutExpired:
        return [], f"no answer within {TIMEOUT_S:.0f} s"
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        return [], f"it cannot run the detectors: {type(error).__name__}"
    if not alarms:
        return [], "neither frouros nor capymoa can be imported there"
    return [figure for name, found in alarms.items() for figure in _figures(name, found, effort)], ""


def _changed(world: NumberWorld, mean: float, streams: int, effort: Effort, seed: int) -> Numbers:
    changed = NumberWorld(mean=world.mean, mean_after=mean, change=Change(kind="abrupt", at=AT))
    random = generator(seed, 3, int(1000 * mean))
    return changed.draw(random, replications=streams, length=AT + effort.delay_horizon)


def _run(interpreter: Path, arrays: dict[str, Numbers]) -> dict[str, dict[str, list[list[int]]]]:
    """Return, for each detector and array, the indices of the alarms of each row."""
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    done = subprocess.run(  # noqa: S603 - the interpreter is the user's own choice, nothing else is in it
        [str(interpreter), "-I", str(_WORKER)],
        input=packed.getvalue(),
        capture_output=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    answer: dict[str, dict[str, list[list[int]]]] = json.loads(done.stdout)
    return answer


def _figures(name: str, found: Mapping[str, Any], effort: Effort) -> list[Figure]:
    nulls = [len(indices) for indices in found["null"]]
    figures = [arl_figure("delays", name, "bernoulli", nulls, effort.horizon // 2)]
    for mean in MEANS:
        delays = [
            next((index - AT + 1.0 for index in indices if index >= AT), float("nan"))
            for indices in found[f"{mean:.2f}"]
        ]
        world = f"bernoulli .90 -> {mean:.2f}"
        figures.append(delay_figure("delays", name, world, delays, effort.delay_horizon))
    return figures
