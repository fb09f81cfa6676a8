"""The demonstration on many seeds: how often it is right, and how little one score gives away.

``make seeds`` runs 20 regressed and 40 healthy seeds; ``--regressed 3 --healthy 3`` runs fewer.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from msgspec import Struct

from detectors.records import Decision, Scorecard
from streams.embedded.journal import Journal

PARTITIONS = 4
FIRST_REGRESSED, FIRST_HEALTHY = 1_001, 2_001
MAX_AUROC = 0.65


class Run(Struct, frozen=True):
    """One run of the demonstration: its exit code, and what its journal says."""

    seed: int
    exit_code: int
    pages: int
    rollbacks: int
    canary: int
    auroc: dict[str, float]


def run_demo(seed: int, *flags: str) -> Run:
    """Run the demonstration in a process of its own and read its journal."""
    with tempfile.TemporaryDirectory() as folder:
        program = "from streams.cli import main; main()"
        command = [
            sys.executable,
            "-c",
            program,
            "demo",
            "--seed",
            str(seed),
            "--data-dir",
            folder + "/d",
            *flags,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        journal = Journal(Path(folder) / "d" / "monitor" / "journal.db", partitions=PARTITIONS)
        rows = journal.read_topic("decisions", 0, 10**6)
        decisions = [row.record for row in rows if isinstance(row.record, Decision)]
        values, canary = gather(journal)
        journal.close()
    return Run(
        seed,
        done.returncode,
        sum("page" in decision.verbs for decision in decisions),
        sum("rollback" in decision.verbs for decision in decisions),
        canary,
        {name: auroc(*sides) for name, sides in values.items() if all(map(len, sides))},
    )


def gather(journal: Journal) -> tuple[dict[str, tuple[list[float], list[float]]], int]:
    """Return the values of every score under 2.3 and under 2.4, and how many answers 2.4 gave."""
    values: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    canary = after = 0
    while rows := journal.read_topic("scorecards", after, 5_000):
        after = rows[-1].row_id
        for card in (row.record for row in rows):
            if isinstance(card, Scorecard):
                canary += card.release == "2.4"
                for score in card.scores:
                    if score.value is not None:
                        values[score.name][card.release == "2.4"].append(score.value)
    return dict(values), canary


def auroc(old: list[float], new: list[float]) -> float:
    """Return how well one value alone tells the releases apart: .5 not at all, 1 wholly."""
    ordered = np.sort(np.asarray(old))
    below = np.searchsorted(ordered, new, side="left") + np.searchsorted(ordered, new, side="right")
    area = float(below.mean() / 2.0 / len(ordered))
    return max(area, 1.0 - area)


def main() -> int:
    """Run the seeds and print what came of them; exit code 1 if any promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regressed", type=int, default=20)
    parser.add_argument("--healthy", type=int, default=40)
    asked = parser.parse_args()
    with ThreadPoolExecutor(2) as pool:
        bad = list(pool.map(run_demo, range(FIRST_REGRESSED, FIRST_REGRESSED + asked.regressed)))
        good = list(
            pool.map(
                lambda seed: run_demo(seed, "--healthy"), range(FIRST_HEALTHY, FIRST_HEALTHY + asked.healthy)
            )
        )
    for run in bad:
        print(f"regressed seed {run.seed}: exit {run.exit_code}, {run.canary:,} answers by 2.4")
    caught = sum(run.exit_code == 0 for run in bad)
    rollbacks, pages = sum(run.rollbacks for run in good), sum(run.pages for run in good)
    worst = max(((area, name) for run in bad for name, area in run.auroc.items()), default=(0.5, "none"))
    print(f"regressed: {caught} of {len(bad)} caught, rolled back and verified")
    print(
        f"healthy: {rollbacks} rollbacks and {pages} pages in {len(good)} runs, "
        f"{sum(run.exit_code != 0 for run in good)} runs not as they must be"
    )
    print(f"largest AUROC of one score between the releases: {worst[0]:.3f} ({worst[1]})")
    held = caught >= 0.95 * len(bad) and rollbacks == 0 and pages <= 1 and worst[0] <= MAX_AUROC
    print("held" if held else "BROKEN")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
