"""What each part costs on Kafka, on one core, beside stock Faust and a plain loop in the same run.

``make bench-kafka``: a real broker, interactions of about 1 kB. Rates are given by the wall clock and per CPU
second of the process, which a busy neighbour changes less; the promised ratios are of the latter, where the
thing measured is one process. Exit code 1 if one is missed.

Detection is promised for 12 metrics x 4 segments: 48 detectors are fed with every scorecard, of each metric
the whole and its slices of three segments. Beside it stands what four segments beside the whole cost: 60.

Two workers are measured against one of them in slices of one run (see ``bench_kafka_pair``). What they gain
by the wall clock ends where the cores do: on two of them, two workers share with the broker, and with whoever
is there as well; so it is printed who kept which cores busy. Every worker is bound to one core. For the score
stage the broker compiles its code quickly rather than well: the other takes a tenth of a core for minutes.
``PLUMBLINE_BENCH_ONLY`` runs some parts alone, of ``transport,score,scorecards``.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from msgspec import Struct

from deploy.kafka import LocalBroker
from detectors.records import Interaction
from streams.settings import KafkaSettings
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
from tests.bench.bench_kafka_pair import run_pair
from tests.bench.bench_kafka_stages import Measured, Trial, bare_scorers, run_stage

SCALE = float(os.environ.get("PLUMBLINE_BENCH_SCALE", "1.0"))
"""Of how much is read: 1 takes some minutes."""
ONLY = os.environ.get("PLUMBLINE_BENCH_ONLY", "transport,score,scorecards").split(",")
SCORE_TURNS = max(1, round(3 * SCALE))
"""How often a worker is measured beside the scorers alone; the middle one of the ratios counts."""
_ALONE = 18_000
_WARM_S = 15.0
_SLICES = {48: 3, 60: 4}  # segments beside the whole, by detectors that a scorecard of 12 metrics is fed to


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


def bench_score(folder: Path, broker: LocalBroker, interactions: Sequence[Interaction]) -> list[Line]:
    """Measure the score stage with one worker beside the scorers alone, and two workers against one."""
    bare, ones = [], []
    for turn in range(SCORE_TURNS):
        bare.append(bare_scorers(turn))
        kafka, trial = _filled(broker, interactions[:_ALONE], f"score-{turn}", workers=1)
        ones.append(run_stage(folder, kafka, trial, broker.pid))
        print(f"score, 1: {ones[-1].wall_per_s:,.0f} a second; {_cores(ones[-1])}", flush=True)
    kafka, trial = _filled(broker, interactions, "score-pair", workers=2)
    pair = run_pair(folder, kafka, trial, broker.pid, warm_s=_WARM_S)
    print(f"score, alone, {pair.turns} turns: {pair.alone.wall_per_s:,.0f} a second; {_cores(pair.alone)}")
    print(f"score, both, {pair.turns} turns: {pair.both.wall_per_s:,.0f} a second; {_cores(pair.both)}")
    of_bare = median(one.cpu_per_s / by_itself.cpu_per_s for one, by_itself in zip(ones, bare, strict=True))
    return [
        Line("all scorers, bare", *_middle(bare)),
        Line("score stage, of the bare scorers", *_middle(ones), wanted=0.85, reached=of_bare),
        Line("score stage, two workers, of one", *pair.both.both(), wanted=1.7, reached=pair.ratio),
    ]


def _filled(
    broker: LocalBroker, interactions: Sequence[Interaction], prefix: str, *, workers: int
) -> tuple[KafkaSettings, Trial]:
    kafka = settings_of(broker.bootstrap, prefix)
    make_topics(kafka)
    fill_interactions(kafka, interactions)
    return kafka, Trial(stage="score", records=len(interactions), workers=workers, batch=500)


def _middle(measured: Sequence[Measured]) -> tuple[float, float]:
    return median(one.wall_per_s for one in measured), median(one.cpu_per_s for one in measured)


def bench_scorecards(folder: Path, broker: LocalBroker) -> list[Line]:
    """Measure what reads scorecards: landing, and detection."""
    count = round(120_000 * SCALE)
    lines: list[Line] = []
    for detectors, segments in _SLICES.items():
        kafka = settings_of(broker.bootstrap, f"scorecards-{detectors}")
        make_topics(kafka)
        fill_scorecards(kafka, count, segments=segments)
        detect = Trial(stage="detect", records=count, segments=segments)
        found = run_stage(folder, kafka, detect, broker.pid)
        print(f"detect, {detectors}: {_cores(found)}")
        if not lines:
            land = Trial(stage="land", records=count * len(METRICS))
            rows = run_stage(folder, kafka, land, broker.pid)
            lines = [
                Line("landing, rows of scores", *rows.both(), wanted=60_000.0, reached=rows.cpu_per_s),
                Line("detect, 12 metrics x 4: whole and 3 slices", *found.both(), wanted=20_000.0,
                     reached=found.cpu_per_s),
            ]  # fmt: skip
        else:
            lines.append(Line("detect, 12 metrics x 5: whole and 4 slices", *found.both()))
    return lines


def _cores(measured: Measured) -> str:
    cores = os.cpu_count() or 1
    known = measured.cpus + measured.broker_cpus + measured.idle_cpus + measured.stolen_cpus
    return (
        f"of {cores} cores its workers kept {measured.cpus:.2f} busy, the broker {measured.broker_cpus:.2f}, "
        f"everybody else {max(0.0, cores - known):.2f}; {measured.idle_cpus:.2f} were idle, "
        f"{measured.stolen_cpus:.2f} were the host's"
    )


def main() -> int:
    """Run everything; exit code 1 if a promise is not kept."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        lines: list[Line] = []
        if {"transport", "scorecards"} & set(ONLY):
            with LocalBroker(folder / "lasting", heap_mb=1_024, lasting=True) as broker:
                if "transport" in ONLY:
                    lines += bench_transport(broker.bootstrap, make_interactions(round(54_000 * SCALE)))
                if "scorecards" in ONLY:
                    lines += bench_scorecards(folder, broker)
        if "score" in ONLY:
            interactions = make_interactions(max(90_000, round(180_000 * SCALE)))
            with LocalBroker(folder / "quick", heap_mb=1_024) as broker:
                lines += bench_score(folder, broker, interactions)
    print(f"{'a second: interactions; rows, for landing':<46}{'wall':>12}{'per CPU s':>12}")
    print("\n".join(map(str, lines)))
    print(json.dumps({line.name: [line.wall_per_s, line.cpu_per_s, line.reached] for line in lines}))
    missed = [line.name for line in lines if not line.kept]
    print(f"verdict: {'every promise kept' if not missed else 'MISSED: ' + '; '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
