"""Runs a stage as its worker does, over topics that are full, and takes its time."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError
from msgspec import Struct

from detectors.records import Interaction
from streams.assembly import assemble
from streams.kafka.layout import topic_name
from streams.settings import KafkaSettings, Settings
from tests.bench.bench_path import fresh_cpu, score_all

_TIMEOUT_S = 600.0
_POLL_S = 0.25
_LEAST_SHARE = 0.2
_PROGRAM = "from streams.cli import main; main()"
_SOURCES = {"score": "interactions", "detect": "scorecards", "land": "scorecards"}
_CONFIG = """\
data_dir = "{folder}/data-{prefix}"
[door]
clamp = false
port = 0
[kafka]
bootstrap = "{bootstrap}"
topic_prefix = "{prefix}"
partitions = {partitions}
replication = 1
retention_s = 1e8
[worker]
batch = {batch}
[detect]
lateness_s = 0.0
"""
_SEGMENT = '[[segment]]\nname = "segment_{number}"\nsource = "attributes.segment_{number}"\n'


class Measured(Struct, frozen=True):
    """Rates: per second of the wall clock, and per second of the CPU of the processes measured.

    ``cpus``, ``broker_cpus``, ``idle_cpus`` and ``stolen_cpus``: how many cores these processes and the
    broker kept busy, how many nobody did, and how many the machine's host gave to others.
    """

    wall_per_s: float
    cpu_per_s: float
    cpus: float = 1.0
    broker_cpus: float = 0.0
    idle_cpus: float = 0.0
    stolen_cpus: float = 0.0

    def both(self) -> tuple[float, float]:
        """Return both."""
        return self.wall_per_s, self.cpu_per_s


class _Sample(Struct, frozen=True):
    done: int
    wall_s: float
    cpu_s: float
    broker_s: float
    idle_s: float
    stolen_s: float


def bare_scorers(interactions: Sequence[Interaction]) -> Measured:
    """Return how fast all scorers are in this process, on texts that they have not seen."""
    parts = assemble(Settings())
    rate = 1 / fresh_cpu(lambda items: score_all(parts, items), interactions)
    return Measured(rate, rate)


class Trial(Struct, frozen=True, kw_only=True):
    """What is to be measured: a stage over a source that holds so many `records`, by some workers."""

    stage: str
    records: int
    workers: int = 1
    segments: int = 0
    batch: int = 2_000


def run_stage(folder: Path, kafka: KafkaSettings, trial: Trial, broker_pid: int | None) -> Measured:
    """Let the workers read all of the source, which is full before they start; return the rates.

    The clocks run from when every partition has a commit to when the first of them is at its end: starting
    costs nothing, nobody waits for whoever is last, and as much is under way at the end as at the beginning.
    """
    stage, records = trial.stage, trial.records
    config = folder / f"{kafka.topic_prefix}.toml"
    text = _CONFIG.format(
        folder=folder,
        prefix=kafka.topic_prefix,
        bootstrap=kafka.bootstrap,
        partitions=kafka.partitions,
        batch=trial.batch,
    )
    config.write_text(text + "".join(_SEGMENT.format(number=at) for at in range(trial.segments)), "utf-8")
    topic = topic_name(_SOURCES[stage], kafka.topic_prefix)
    places = [TopicPartition(topic, part) for part in range(kafka.partitions)]
    with contextlib.ExitStack() as stack:
        admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        stack.callback(admin.close)
        ends = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
        until = {place: end.offset for place, end in ends.items()}
        processes = [_start(stage, number, config, folder, stack) for number in range(trial.workers)]
        look = _Look(processes, broker_pid)
        first, last = _follow(admin, f"{kafka.topic_prefix}.{stage}", until, look)
    share = (last.done - first.done) / sum(until.values())
    if share < _LEAST_SHARE:
        raise RuntimeError(f"{stage}: only {share:.0%} was left when everybody was at work: give it more")
    wall_s, cpu_s = last.wall_s - first.wall_s, last.cpu_s - first.cpu_s
    return Measured(
        records * share / wall_s,
        records * share / cpu_s,
        cpu_s / wall_s,
        (last.broker_s - first.broker_s) / wall_s,
        (last.idle_s - first.idle_s) / wall_s,
        (last.stolen_s - first.stolen_s) / wall_s,
    )


class _Look:
    """Reads the clocks: of the wall, of some processes, of the broker, and of the cores that do nothing."""

    def __init__(self, processes: Sequence["subprocess.Popen[bytes]"], broker_pid: int | None) -> None:
        self.processes = processes
        self._workers = [psutil.Process(process.pid) for process in processes]
        self._broker = [] if broker_pid is None else [psutil.Process(broker_pid)]

    def sample(self, done: int) -> _Sample:
        """Return all clocks."""
        times = psutil.cpu_times()
        cpu_s, broker_s = _cpu_s(self._workers), _cpu_s(self._broker)
        return _Sample(done, time.perf_counter(), cpu_s, broker_s, times.idle, times.steal)


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (one.cpu_times() for one in processes))


def _start(
    stage: str, number: int, config: Path, folder: Path, stack: contextlib.ExitStack
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", _PROGRAM, "worker", "-c", str(config), "--stages", stage]
    log = stack.enter_context((folder / f"{config.stem}-{number}.log").open("wb"))
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # one core a worker, whatever it multiplies
    process = subprocess.Popen([*command, "--id", f"{stage}-{number}"], stdout=log, stderr=log, env=alone)
    # A core each: threads that hand the interpreter on would wander between cores, and from cache to cache.
    psutil.Process(process.pid).cpu_affinity([number % (os.cpu_count() or 1)])
    stack.callback(_end, process)
    return process


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _follow(
    admin: KafkaAdminClient, group: str, until: Mapping[TopicPartition, int], look: _Look
) -> tuple[_Sample, _Sample]:
    """Return the first sample with every worker and partition at work, and that at the first one's end."""
    deadline = time.monotonic() + _TIMEOUT_S
    first: _Sample | None = None
    while time.monotonic() < deadline:
        for process in look.processes:
            if process.poll() is not None:
                raise RuntimeError(f"{group} ended with exit code {process.returncode}")
        done = _done(admin, group, until)
        if all(done.values()) and (first is not None or _members(admin, group) == len(look.processes)):
            sample = look.sample(sum(done.values()))
            first = first or sample
            if any(done[place] >= end for place, end in until.items()):
                return first, sample
        time.sleep(_POLL_S)
    raise RuntimeError(f"{group} did not get to the end of its source in {_TIMEOUT_S:.0f} s")


def _members(admin: KafkaAdminClient, group: str) -> int:
    """Return how many members the group has, 0 while it moves."""
    try:
        found = admin.describe_groups([group])[group]
    except KafkaError:
        return 0
    return len(found["members"]) if found["group_state"] == "Stable" else 0


def _done(admin: KafkaAdminClient, group: str, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """Return how far the group is in every partition, 0 where it has not begun."""
    try:
        found = admin.list_group_offsets({group: list(places)})[group]
    except KafkaError:
        found = {}
    return {place: max(0, found[place].offset) if place in found else 0 for place in places}
