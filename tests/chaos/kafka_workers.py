"""``plumbline worker`` processes under a small supervisor that starts again whatever ends."""

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

STAGES = ("admit", "score", "detect", "decide", "act", "land")
_RESTART_S = 0.3
_POLL_S = 0.05
_DRAIN_S = 45.0
_LANDING_S = 4.0
_PROGRAM = "from streams.cli import main; main()"


class Exit(Struct, frozen=True):
    """How one run of a worker ended; a negative `code` is the signal that ended it."""

    name: str
    code: int
    lived_s: float
    said: str


class Worker:
    """One place in a group: a name, and the process that has it now."""

    def __init__(self, stage: str, name: str, config: Path, folder: Path) -> None:
        self.stage, self.name = stage, name
        self._config, self.log = config, folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.started_s = 0.0
        self.ended_s = 0.0
        self.wanted = True

    def start(self) -> None:
        """Start the process."""
        command = [sys.executable, "-c", _PROGRAM, "worker", "-c", str(self._config)]
        command += ["--stages", self.stage, "--id", self.name]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.started_s = time.monotonic()

    def alive(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def send(self, what: signal.Signals) -> bool:
        """Send a signal; return whether there was anybody to get it."""
        if not self.alive():
            return False
        assert self.process is not None
        self.process.send_signal(what)
        return True

    def last_words(self) -> str:
        """Return the last line it wrote."""
        with self.log.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - 2_000))
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else ""


class Supervisor:
    """Keeps so many workers of every stage running between ``with`` and its end.

    Attributes
    ----------
    exits
        Every end of a worker, in order.
    """

    def __init__(self, config: Path, folder: Path, counts: Mapping[str, int]) -> None:
        self._config, self._folder, self._counts = config, folder, dict(counts)
        self.workers: dict[str, Worker] = {}
        self.exits: list[Exit] = []
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor")

    def __enter__(self) -> Self:
        for stage, count in self._counts.items():
            for number in range(1, count + 1):
                self.join(stage, f"{stage}-{number}")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def join(self, stage: str, name: str) -> None:
        """Start one more worker of `stage`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        worker = Worker(stage, name, self._config, self._folder)
        worker.start()
        with self._lock:
            self.workers[name] = worker

    def leave(self, name: str) -> None:
        """Let a worker drain and go for good."""
        worker = self.workers[name]
        worker.wanted = False
        worker.send(signal.SIGTERM)

    def names(self, stage: str = "") -> list[str]:
        """Return the names of the workers (of `stage`) that run and are wanted, in order."""
        with self._lock:
            found = [w for w in self.workers.values() if w.wanted and w.alive() and stage in {"", w.stage}]
        return sorted(worker.name for worker in found)

    def send(self, name: str, what: signal.Signals) -> bool:
        """Send a signal to a worker; return whether it was there."""
        return self.workers[name].send(what)

    def pids(self) -> dict[str, int]:
        """Return the process of every worker that runs."""
        with self._lock:
            return {
                name: worker.process.pid
                for name, worker in self.workers.items()
                if worker.process is not None and worker.alive()
            }

    def ends(self) -> Counter[str]:
        """Return how often workers ended, by stage and exit code."""
        return Counter(f"{self.workers[end.name].stage} exit {end.code}" for end in self.exits)

    def stop(self) -> list[str]:
        """End everything in good order; return the names of those that had to be forced."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            workers = list(self.workers.values())
        landing = [worker for worker in workers if worker.stage == "land"]
        forced = _end([worker for worker in workers if worker not in landing])
        if any(worker.alive() for worker in landing):
            time.sleep(_LANDING_S)  # what the others said last is to land, or the audit cannot tell
        return forced + _end(landing)

    def _watch(self) -> None:
        while not self._ending.wait(_POLL_S):
            with self._lock:
                workers = list(self.workers.values())
            for worker in workers:
                self._look_after(worker)

    def _look_after(self, worker: Worker) -> None:
        now = time.monotonic()
        if worker.alive() or worker.process is None:
            return
        if not worker.ended_s:
            worker.ended_s = now
            lived_s = now - worker.started_s
            self.exits.append(
                Exit(worker.name, worker.process.returncode, round(lived_s, 1), worker.last_words())
            )
        if worker.wanted and now - worker.ended_s >= _RESTART_S:
            worker.ended_s = 0.0
            worker.start()


def _end(workers: Sequence[Worker]) -> list[str]:
    """Let `workers` drain and end; return the names of those that had to be forced."""
    for worker in workers:
        worker.send(signal.SIGCONT)
        worker.send(signal.SIGTERM)
    deadline, forced = time.monotonic() + _DRAIN_S, []
    for worker in workers:
        if worker.process is None:
            continue
        try:
            worker.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.send(signal.SIGKILL)
            worker.process.wait()
            forced.append(worker.name)
    return forced
