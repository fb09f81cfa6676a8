"""The published grid's small fixed part, held to the committed figures.

``plumbline evaluate`` runs the whole. ``python tests/quality/test_detector_grid.py`` prints the small figures
anew; commit them beside this file when a detector was changed on purpose.
"""

import json
import math
import sys
from functools import cache
from pathlib import Path

import pytest

from detectors.evaluate.figures import FIRST_EVALUATION_SEED, SMALL, Figure
from detectors.evaluate.grid import PARTS, conclude, plan

COMMITTED = json.loads(Path(__file__).with_name("detector_grid.json").read_text(encoding="utf-8"))
TOLERATED = 3.0  # standard errors of a difference: other random streams must not fail, another detector must

pytestmark = pytest.mark.xdist_group("detector_grid")  # the figures are measured once


@cache
def figures() -> tuple[Figure, ...]:
    tasks = plan(PARTS, SMALL, FIRST_EVALUATION_SEED)
    return tuple(figure for task in tasks for figure in task.run())


def rows() -> dict[str, dict[str, float]]:
    return {
        f"{f.part}: {f.measure}, {f.detector}, {f.world}": {"value": round(f.value, 4), "se": round(f.se, 4)}
        for f in figures()
    }


@pytest.mark.parametrize("name", sorted(COMMITTED["figures"]))
def test_figure_is_the_committed_one(name):
    found, committed = rows()[name], COMMITTED["figures"][name]
    margin = TOLERATED * math.hypot(found["se"], committed["se"]) + 1e-3 * abs(committed["value"])
    assert found["value"] == pytest.approx(committed["value"], abs=margin)


def test_every_figure_is_committed():
    assert set(rows()) == set(COMMITTED["figures"])


def test_no_bar_fell_that_stood():
    # So few streams leave some bars to chance: those are for the whole grid, and not in the list.
    done = conclude(PARTS, SMALL, FIRST_EVALUATION_SEED, figures())
    held = {bar.name for bar in done.bars if bar.held}
    assert set(COMMITTED["held"]) - held == set()


if __name__ == "__main__":
    evaluation = conclude(PARTS, SMALL, FIRST_EVALUATION_SEED, figures())
    standing = sorted(bar.name for bar in evaluation.bars if bar.held)
    sys.stdout.write(json.dumps({"figures": rows(), "held": standing}, indent=2) + "\n")
