"""What each part costs on Kafka, on one core, beside stock Faust and a plain loop in the same run.

``make bench-kafka``: a real broker, interactions of about 1 kB. Rates are given by the wall clock and per CPU
second of the process, which a busy neighbour changes less; the promised ratios are of the latter, where the
thing measured is one process. Exit code 1 if one is missed.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from deploy.kafka import LocalBroker
from detectors.records import Interaction
from tests.bench.bench_kafka_fill import (
    METRICS,
    PARTITIONS,
    fill_interactions,
    fill_raw,
    fill_scorecards,
    make_interactions,
    make_topics,
    settings_of,
)
from tests.bench.bench_kafka_stages import Measured, bare_scorers, run_stage

SCALE = float(os.environ.get("PLUMBLINE_BENCH_SCALE", "1.0"))
"""Of how much is read: 1 takes some minutes."""


class Line(Struct, frozen=True):
    """One line of the table; `wanted` and `reached` where a promise goes with it."""

    name: str
    wall_per_s: float
    cpu_per_s: float
    wanted: float | None = None
    reached: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the promise is kept."""
        return self.wanted is None or (self.reached is not None and self.reached >= self.wanted)

    def __str__(self) -> str:
        """Return it as a row."""
        promise = ""
        if self.wanted is not None and self.reached is not None:
            promise = f"   {self.reached:,.2f} of {self.wanted:,.2f} {'kept' if self.kept else 'MISSED'}"
        return f"{self.name:<46}{self.wall_per_s:>12,.0f}{self.cpu_per_s:>12,.0f}{promise}"


def read_with(kind: str, bootstrap: str, topic: str, count: int) -> Measured:
    """Return the rates of one way to read, measured in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.bench_kafka_consumers", kind, bootstrap, topic]
    ran = subprocess.run(
        [*command, str(PARTITIONS), str(count)], capture_output=True, text=True, timeout=600, check=False
    )
    if ran.returncode:
        raise RuntimeError(f"{kind}: {ran.stderr[-2_000:]}")
    taken = json.loads(ran.stdout.strip().splitlines()[-1])
    return Measured(taken["count"] / taken["wall_s"], taken["count"] / taken["cpu_s"])


def bench_transport(bootstrap: str, interactions: Sequence[Interaction]) -> list[Line]:
    """Measure reading and decoding; ours against stock Faust is the promise."""
    count = round(200_000 * SCALE)
    topic = fill_raw(bootstrap, interactions, count)
    found = {kind: read_with(kind, bootstrap, topic, count) for kind in ("plain", "stock", "ours")}
    kafka = settings_of(bootstrap, "envelopes")
    make_topics(kafka)
    sealed = fill_interactions(kafka, interactions)
    envelopes = read_with("envelopes", bootstrap, sealed, len(interactions))
    ratio = found["ours"].cpu_per_s / found["stock"].cpu_per_s
    return [
        Line("plain confluent-kafka loop + decode", *found["plain"].both()),
        Line("stock Faust + decode", *found["stock"].both()),
        Line("our transport + decode, record by record", *found["ours"].both(), wanted=8.0, reached=ratio),
        Line("our transport + decode, envelopes", *envelopes.both()),
    ]


def bench_score(folder: Path, bootstrap: str, interactions: Sequence[Interaction]) -> list[Line]:
    """Measure the score stage with one worker and with two, beside the scorers alone."""
    bare = bare_scorers(interactions[:4_500])
    rates, third = {}, len(interactions) // 3
    for workers, part in ((1, interactions[:third]), (2, interactions[third:])):
        kafka = settings_of(bootstrap, f"score-{workers}")
        make_topics(kafka)
        fill_interactions(kafka, part)
        rates[workers] = run_stage(folder, kafka, "score", records=len(part), workers=workers)
    one, two = rates[1], rates[2]
    of_bare, of_one = one.cpu_per_s / bare.cpu_per_s, two.wall_per_s / one.wall_per_s
    return [
        Line("all scorers, bare", *bare.both()),
        Line("score stage, of the bare scorers", *one.both(), wanted=0.85, reached=of_bare),
        Line("score stage, two workers, of one", *two.both(), wanted=1.7, reached=of_one),
    ]


def bench_scorecards(folder: Path, bootstrap: str) -> list[Line]:
    """Measure what reads scorecards: landing, and detection."""
    count = round(120_000 * SCALE)
    kafka = settings_of(bootstrap, "scorecards")
    make_topics(kafka)
    fill_scorecards(kafka, count)
    land = run_stage(folder, kafka, "land", records=count * len(METRICS))
    detect = run_stage(folder, kafka, "detect", records=count)
    return [
        Line("landing, rows of scores", *land.both(), wanted=60_000.0, reached=land.cpu_per_s),
        Line("detect, 12 metrics x 4 segments", *detect.both(), wanted=20_000.0, reached=detect.cpu_per_s),
    ]


def main() -> int:
    """Run everything; exit code 1 if a promise is not kept."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        interactions = make_interactions(max(9_000, round(54_000 * SCALE)))
        with LocalBroker(folder / "broker", heap_mb=1_024) as broker:
            lines = bench_transport(broker.bootstrap, interactions)
            lines += bench_score(folder, broker.bootstrap, interactions)
            lines += bench_scorecards(folder, broker.bootstrap)
    print(f"{'a second: interactions; rows, for landing':<46}{'wall':>12}{'per CPU s':>12}")
    print("\n".join(map(str, lines)))
    print(json.dumps({line.name: [line.wall_per_s, line.cpu_per_s, line.reached] for line in lines}))
    missed = [line.name for line in lines if not line.kept]
    print(f"verdict: {'every promise kept' if not missed else 'MISSED: ' + '; '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
