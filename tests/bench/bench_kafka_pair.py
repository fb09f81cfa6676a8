"""Measures two workers against one of them, in slices of one run.

A machine of the cloud is a tenth faster or slower from one minute to the next, which is as much as there is
to find. So one and two are not measured one after the other: both run, and every other slice of some seconds
one of them stands still (SIGSTOP; its session outlives that), in turn. What both do a second is compared with
what one does while the other is stopped, each over all of its slices.
"""

import signal
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from streams.settings import KafkaSettings
from tests.bench.bench_kafka_stages import Measured, Running, Sample, Trial, measured_over, workers_running

_SLICE_S = 2.0
_TURN = ("both", "first", "both", "second")
_LEAST_TURNS = 3

Span = tuple[Sample, Sample]


class Pair(Struct, frozen=True):
    """What two workers do together, and what each does alone, on average of the two."""

    both: Measured
    alone: Measured
    turns: int

    @property
    def ratio(self) -> float:
        """How many of one two are, by the wall clock."""
        return self.both.wall_per_s / self.alone.wall_per_s


def run_pair(folder: Path, kafka: KafkaSettings, trial: Trial, broker_pid: int | None, warm_s: float) -> Pair:
    """Let two workers read a source that is full, one of them paused every other slice; return the rates.

    The first `warm_s` seconds with both at work do not count. A batch that is under way when a slice ends is
    counted in the slice that it ends in: on the average as much is carried in as out.

    Raises
    ------
    RuntimeError
        If the source is at its end before each has been alone a few times, or takes too long.
    """
    spans: dict[str, list[Span]] = {name: [] for name in _TURN}
    with workers_running(folder, kafka, trial, broker_pid) as running:
        running.await_begun(len(running.until))
        time.sleep(warm_s)
        records_each = trial.records / sum(running.until.values())
        turns = 0
        while (turn := _one_turn(running)) is not None:
            turns += 1
            for name, span in turn:
                spans[name].append(span)
    if turns < _LEAST_TURNS:
        raise RuntimeError(f"{trial.stage}: only {turns} turns until the end of the source: give it more")
    alone = [*spans["first"], *spans["second"]]
    return Pair(measured_over(spans["both"], records_each), measured_over(alone, records_each), turns)


def _one_turn(running: Running) -> Sequence[tuple[str, Span]] | None:
    """Return the spans of one turn, None if a partition came to its end in it."""
    found = []
    for name in _TURN:
        for worker, process in zip(("first", "second"), running.processes, strict=True):
            process.send_signal(signal.SIGCONT if name in ("both", worker) else signal.SIGSTOP)
        before = running.sample()
        time.sleep(_SLICE_S)
        after = running.sample()
        if after.ended:
            return None
        found.append((name, (before, after)))
    return found
