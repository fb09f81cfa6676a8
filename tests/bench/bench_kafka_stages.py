"""Runs a stage as its worker does, over topics that are full, and takes its time."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError
from msgspec import Struct

from streams.kafka.layout import topic_name
from streams.settings import KafkaSettings

_TIMEOUT_S = 600.0
_POLL_S = 0.25
_LEAST_SHARE = 0.5
_ALONE = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # one core a process, whatever it multiplies
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


class Sample(Struct, frozen=True):
    """What all clocks show, how many Kafka records are done, how many partitions have begun and ended."""

    done: int
    begun: int
    ended: int
    wall_s: float
    cpu_s: float
    broker_s: float
    idle_s: float
    stolen_s: float


def bare_scorers(turn: int) -> Measured:
    """Return how fast all scorers are alone, by the CPU clock; each turn has texts of its own."""
    command = [sys.executable, "-m", "tests.bench.bench_kafka_bare", str(turn)]
    ran = subprocess.run(command, env=_ALONE, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if ran.returncode:
        raise RuntimeError(f"the scorers alone: {ran.stderr[-2_000:]}")
    rate = float(json.loads(ran.stdout))
    return Measured(rate, rate)


class Trial(Struct, frozen=True, kw_only=True):
    """What is to be measured: a stage over a source that holds so many `records`, by some workers."""

    stage: str
    records: int
    workers: int = 1
    segments: int = 0
    batch: int = 2_000


class Running(Struct, frozen=True):
    """Workers of one stage over a source that was full before they started, and who to ask how far they are.

    ``until`` has the end of each partition of the source; by ``deadline_s``, on the monotonic clock, they
    should long have got there.
    """

    processes: Sequence["subprocess.Popen[bytes]"]
    admin: KafkaAdminClient
    group: str
    until: Mapping[TopicPartition, int]
    broker_pid: int | None
    deadline_s: float

    def done(self) -> dict[TopicPartition, int]:
        """Return how far the group is in every partition, 0 where it has not begun."""
        try:
            found = self.admin.list_group_offsets({self.group: list(self.until)})[self.group]
        except KafkaError:
            found = {}
        return {place: max(0, found[place].offset) if place in found else 0 for place in self.until}

    def sample(self) -> Sample:
        """Return all clocks, and how far the group is; raise if a worker has ended, or all take too long."""
        if time.monotonic() > self.deadline_s:
            raise RuntimeError(f"{self.group} did not get to the end of its source in {_TIMEOUT_S:.0f} s")
        for process in self.processes:
            if process.poll() is not None:
                raise RuntimeError(f"{self.group} ended with exit code {process.returncode}")
        done, times = self.done(), psutil.cpu_times()
        cpu_s = _cpu_s([process.pid for process in self.processes])
        broker_s = 0.0 if self.broker_pid is None else _cpu_s([self.broker_pid])
        begun = sum(at > 0 for at in done.values())
        ended = sum(done[place] >= end for place, end in self.until.items())
        clocks = (time.perf_counter(), cpu_s, broker_s, times.idle, times.steal)
        return Sample(sum(done.values()), begun, ended, *clocks)

    def await_begun(self, partitions: int) -> Sample:
        """Return the first sample with every worker a member, and a commit in so many partitions."""
        while True:
            sample = self.sample()
            if sample.begun >= partitions and _members(self.admin, self.group) == len(self.processes):
                return sample
            time.sleep(_POLL_S)


@contextlib.contextmanager
def workers_running(
    folder: Path, kafka: KafkaSettings, trial: Trial, broker_pid: int | None
) -> Iterator[Running]:
    """Start the workers of a trial over its source, which is full; at the end, end them."""
    config = folder / f"{kafka.topic_prefix}.toml"
    text = _CONFIG.format(
        folder=folder,
        prefix=kafka.topic_prefix,
        bootstrap=kafka.bootstrap,
        partitions=kafka.partitions,
        batch=trial.batch,
    )
    config.write_text(text + "".join(_SEGMENT.format(number=at) for at in range(trial.segments)), "utf-8")
    topic = topic_name(_SOURCES[trial.stage], kafka.topic_prefix)
    places = [TopicPartition(topic, part) for part in range(kafka.partitions)]
    with contextlib.ExitStack() as stack:
        admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        stack.callback(admin.close)
        ends = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
        until = {place: end.offset for place, end in ends.items()}
        processes = [_start(trial.stage, number, config, folder, stack) for number in range(trial.workers)]
        group, deadline_s = f"{kafka.topic_prefix}.{trial.stage}", time.monotonic() + _TIMEOUT_S
        yield Running(processes, admin, group, until, broker_pid, deadline_s)


def run_stage(folder: Path, kafka: KafkaSettings, trial: Trial, broker_pid: int | None) -> Measured:
    """Let one worker read all of the source, which is full before it starts; return the rates.

    The clocks run from its first commit, so that starting costs nothing, to its last. It may take partitions
    one after another, as landing does.
    """
    with workers_running(folder, kafka, trial, broker_pid) as running:
        first = last = running.await_begun(1)
        while last.ended < len(running.until):
            time.sleep(_POLL_S)
            last = running.sample()
        records_each = trial.records / sum(running.until.values())
    if (last.done - first.done) * records_each < _LEAST_SHARE * trial.records:
        raise RuntimeError(f"{trial.stage}: too little was left when it was at work: give it more")
    return measured_over([(first, last)], records_each)


def measured_over(spans: Sequence[tuple[Sample, Sample]], records_each: float) -> Measured:
    """Return the rates over some spans of time, where what is counted as done is `records_each` records."""

    def total(name: str) -> float:
        return sum(float(getattr(last, name)) - float(getattr(first, name)) for first, last in spans)

    wall_s, cpu_s, records = total("wall_s"), total("cpu_s"), total("done") * records_each
    others = (total(name) / wall_s for name in ("broker_s", "idle_s", "stolen_s"))
    return Measured(records / wall_s, records / cpu_s, cpu_s / wall_s, *others)


def _cpu_s(pids: Sequence[int]) -> float:
    return sum(times.user + times.system for times in (psutil.Process(pid).cpu_times() for pid in pids))


def _start(
    stage: str, number: int, config: Path, folder: Path, stack: contextlib.ExitStack
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", _PROGRAM, "worker", "-c", str(config), "--stages", stage]
    log = stack.enter_context((folder / f"{config.stem}-{number}.log").open("wb"))
    process = subprocess.Popen([*command, "--id", f"{stage}-{number}"], stdout=log, stderr=log, env=_ALONE)
    # A core each: threads that hand the interpreter on would wander between cores, and from cache to cache.
    psutil.Process(process.pid).cpu_affinity([number % (os.cpu_count() or 1)])
    stack.callback(_end, process)
    return process


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGCONT)  # one that is paused hears nothing else
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _members(admin: KafkaAdminClient, group: str) -> int:
    """Return how many members the group has, 0 while it moves."""
    try:
        found = admin.describe_groups([group])[group]
    except KafkaError:
        return 0
    return len(found["members"]) if found["group_state"] == "Stable" else 0
