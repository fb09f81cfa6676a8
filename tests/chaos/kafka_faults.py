"""What is done to the world, each kind by its name, and counted when it met something."""

import contextlib
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Sequence

from tests.chaos.kafka_proxy import InsertFault
from tests.chaos.kafka_sender import Sender
from tests.chaos.kafka_workers import Supervisor
from tests.chaos.kafka_world import SESSION_S, World

KINDS = (
    "kill_worker",
    "pause_worker",
    "kill_broker",
    "slow_inserts",
    "refused_inserts",
    "unknown_inserts",
    "rebalance_storm",
    "full_disk",
    "terminate_worker",
    "kill_store",
)
_INSERTS_S = 6.0
_PATIENCE_S = 90.0


class Faults:
    """Does one fault after the other.

    Parameters
    ----------
    world, supervisor
        What is hurt.
    seed
        Which workers are hit, and the order of the kinds.

    Attributes
    ----------
    counts
        How many faults of each kind met something.
    told
        One line for each.
    """

    def __init__(self, world: World, supervisor: Supervisor, *, seed: int) -> None:
        self._world, self._supervisor = world, supervisor
        self._rng = random.Random(f"{seed}/faults")
        self.counts: Counter[str] = Counter()
        self.told: list[str] = []
        self._began_s = time.monotonic()
        self._storms = 0
        self._turns: dict[str, int] = {}

    def plan(self, total: int, at_least: int) -> list[str]:
        """Return `total` kinds in a random order, each at least `at_least` times, as evenly as it goes."""
        each = [kind for kind in KINDS for _ in range(at_least)]
        if len(each) > total:
            raise ValueError(f"{total} faults are too few for {at_least} of each of {len(KINDS)} kinds")
        each += self._rng.choices(KINDS[:3], k=total - len(each))
        self._rng.shuffle(each)
        return each

    def do(self, kind: str) -> None:
        """Do a fault of `kind` and return when it is over; what met nothing is tried again."""
        for _ in range(5):
            what = getattr(self, f"_{kind}")()
            if what:
                self.counts[kind] += 1
                self.told.append(f"{time.monotonic() - self._began_s:6.1f} s  {kind}: {what}")
                return
            time.sleep(2.0)
        raise RuntimeError(f"the fault {kind} met nothing, five times")

    def _victim(
        self, kind: str, stages: Sequence[str] = ("score", "land", "detect", "admit", "decide", "act")
    ) -> str:
        """Return a worker that runs: stages take turns, so that each is hit by every kind in time."""
        turn = self._turns[kind] = self._turns.get(kind, self._rng.randrange(len(stages))) + 1
        names = self._supervisor.names(stages[turn % len(stages)]) or self._supervisor.names()
        return self._rng.choice(names) if names else ""

    def _kill_worker(self) -> str:
        name = self._victim("kill")
        return name if name and self._supervisor.send(name, signal.SIGKILL) else ""

    def _terminate_worker(self) -> str:
        name = self._victim("terminate")
        return name if name and self._supervisor.send(name, signal.SIGTERM) else ""

    def _pause_worker(self) -> str:
        name = self._victim("pause")
        if not name or not self._supervisor.send(name, signal.SIGSTOP):
            return ""
        time.sleep(SESSION_S + 3.0)
        self._supervisor.send(name, signal.SIGCONT)
        return name

    def _kill_broker(self) -> str:
        self._world.broker.kill()
        time.sleep(self._rng.uniform(0.5, 3.0))
        self._world.broker.start()
        return "killed and started again"

    def _kill_store(self) -> str:
        self._world.store.kill()
        time.sleep(self._rng.uniform(0.5, 2.0))
        self._world.store.start()
        return "killed and started again"

    def _slow_inserts(self) -> str:
        return self._break_inserts({"slow": 0.7}, slow_s=1.5)

    def _refused_inserts(self) -> str:
        refused = self._break_inserts({"refused": 0.6})
        self._world.proxy.go_away()
        time.sleep(3.0)
        self._world.proxy.come_back()
        return refused and f"{refused}, then 3 s away"

    def _unknown_inserts(self) -> str:
        return self._break_inserts({"answered": 0.3, "cut": 0.3, "torn": 0.3})

    def _break_inserts(self, shares: dict[InsertFault, float], *, slow_s: float = 0.0) -> str:
        proxy = self._world.proxy
        before = Counter(proxy.hits)
        for fault, share in shares.items():
            proxy.break_inserts(fault, share, slow_s=slow_s)
        until_s = time.monotonic() + _PATIENCE_S
        time.sleep(_INSERTS_S)
        while proxy.hits == before and time.monotonic() < until_s:
            time.sleep(0.2)  # what lands may itself be on its way back
        for fault in shares:
            proxy.break_inserts(fault, 0.0)
        hit = Counter(proxy.hits) - before
        return ", ".join(f"{count} {fault}" for fault, count in sorted(hit.items()))

    def _rebalance_storm(self) -> str:
        """Let workers of one stage come and go."""
        self._storms += 1
        stage = ("score", "admit", "land", "detect")[self._storms % 4]
        names = [f"{stage}-storm-{self._storms}-{number}" for number in range(3)]
        for name in names:
            self._supervisor.join(stage, name)
            time.sleep(2.5)
        for name in names:
            self._supervisor.leave(name)
            time.sleep(1.0)
        return f"{len(names)} workers of {stage} came and went"

    def _full_disk(self) -> str:
        """Fill the store's disk and let the ledger's process write nothing; then the client's disk."""
        world = self._world
        world.store.disk.fill()
        self._limit_ledger(1)
        time.sleep(5.0)
        self._limit_ledger(resource.RLIM_INFINITY)
        world.store.disk.free()
        if not world.spool.mounted:
            return "the ledger's"
        world.spool.fill()
        world.broker.kill()
        time.sleep(7.0)
        world.spool.free()
        world.broker.start()
        return "the store's, the ledger's and, with the broker away, the client's"

    def _limit_ledger(self, most_bytes: int) -> None:
        for name, pid in self._supervisor.pids().items():
            if name.startswith("act"):
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))


def run_faults(faults: Faults, plan: Sequence[str], sender: Sender, *, load: int, gap_s: float) -> None:
    """Do the faults of `plan`, `gap_s` apart, spread over a load of so many submissions."""
    for number, kind in enumerate(plan, start=1):
        sender.check()
        sender.slow_down_after(load * number // len(plan))
        time.sleep(gap_s)
        faults.do(kind)
    sender.slow_down_after(None)
