"""What the chaos runs on: broker, store, proxy, gateway and workers, started and ended together."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from deploy.kafka import LocalBroker
from streams.kafka.topics import TopicAdmin
from streams.settings import Settings, WorkerSettings, load_settings
from tests.chaos.gateway_thread import GatewayThread
from tests.chaos.kafka_disk import SmallDisk
from tests.chaos.kafka_expected import Results
from tests.chaos.kafka_load import SHARE, Load
from tests.chaos.kafka_proxy import StoreProxy
from tests.chaos.kafka_store import WRITER, StoreProcess
from tests.chaos.kafka_workers import Supervisor

PARTITIONS = 4
SESSION_S = 6
COUNTS = {"admit": 2, "score": 2, "detect": 2, "decide": 1, "act": 1, "land": 2}
LATENESS_SHARE = 0.45
"""Of the load's span of event time: what an outage of the longest kind can cost, and more."""

_CONFIG = """\
data_dir = "{folder}/data"
[door]
clamp = false
user_key_file = "{folder}/user.key"
[kafka]
bootstrap = "{bootstrap}"
topic_prefix = "chaos"
partitions = {partitions}
replication = 1
[journal]
partitions = {partitions}
[worker]
session_s = {session_s}
drain_s = 20
stuck_after_s = 45
flood_share = 0.9
tick_s = 0.5
[detect]
unit_s = 10.0
lateness_s = {lateness_s}
status_s = 30.0
reference_units = 400
units_per_week = 20_000
[land]
dsn = "http://lander@127.0.0.1:{store_port}"
password_env = "PLUMBLINE_CHAOS_WRITER"
batch = 4_000
flush_s = {flush_s}
[act]
dry_run = false
clock = "wall"
converge_s = 15.0
allow_networks = ["127.0.0.0/8"]
[[segment]]
name = "locale"
source = "attributes.locale"
top = 3
[[scorer]]
name = "over_refusal"
[[scorer]]
name = "answer_length"
[[scorer]]
name = "hedging"
[[notifier]]
name = "webhook"
url = "{gateway}/page"
secret_file = "{secret_file}"
[[rollback]]
name = "webhook"
deployment = "support"
url = "{gateway}/rollback"
state_url = "{gateway}/state"
secret_file = "{secret_file}"
"""


class World:
    """Started by ``with``; the workers are started by :meth:`supervise`.

    Attributes
    ----------
    broker, store, proxy, spool, gateway
        What can be hurt (``spool`` is the client's disk), and what collects pages and moves.
    settings, config
        What every worker runs with.

    With `lasting`, broker, store and sessions are what is shipped; else the store keeps rows to be counted,
    its disk can be filled, inserts pass a proxy that can break them, and a worker is missed after 6 seconds.
    """

    def __init__(
        self,
        folder: Path,
        load: Load,
        *,
        counts: Mapping[str, int] | None = None,
        lateness_share: float = LATENESS_SHARE,
        partitions: int = PARTITIONS,
        flush_s: float = 0.5,
        lasting: bool = False,
    ) -> None:
        self.folder, self.load, self._lasting = folder, load, lasting
        self._counts = dict(counts or COUNTS)
        self._lateness_share, self._partitions, self._flush_s = lateness_share, partitions, flush_s
        self.config = folder / "plumbline.toml"
        self._stack = contextlib.ExitStack()
        self._calculator: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "user.key").write_text(secrets.token_hex(16), "ascii")
        os.environ["PLUMBLINE_CHAOS_WRITER"] = WRITER
        self.gateway = self._stack.enter_context(GatewayThread(self.folder, seed=self.load.seed))
        self.gateway.gateway.set_shares({"2.3": 1.0 - SHARE, "2.4": SHARE})
        self.broker = self._stack.enter_context(LocalBroker(self.folder / "broker", lasting=self._lasting))
        self.store = StoreProcess(self.folder / "store", free_port(), countable=not self._lasting)
        self.spool = self._stack.enter_context(SmallDisk(self.folder / "spool", megabytes=64))
        store_port = self._open_store() if self._lasting else self._open_fragile_store()
        self.settings = self._configure(store_port)
        with TopicAdmin(self.settings.kafka) as admin:
            admin.create()

    def _open_store(self) -> int:
        self._stack.callback(self.store.stop)
        self.store.start()
        return self.store.port

    def _open_fragile_store(self) -> int:
        """Open the store on a disk that can be filled, behind a proxy that can break inserts."""
        self._stack.enter_context(self.store.disk)
        self._open_store()
        self.proxy = self._stack.enter_context(StoreProxy(self.store.port, seed=self.load.seed))
        return self.proxy.port

    def _configure(self, store_port: int) -> Settings:
        lateness_s = self._lateness_share * self.load.interactions / self.load.rate_per_s
        text = _CONFIG.format(
            folder=self.folder,
            bootstrap=self.broker.bootstrap,
            partitions=self._partitions,
            session_s=WorkerSettings().session_s if self._lasting else SESSION_S,
            lateness_s=max(10.0, round(lateness_s)),
            flush_s=self._flush_s,
            store_port=store_port,
            gateway=self.gateway.url,
            secret_file=self.gateway.secret_file,
        )
        self.config.write_text(text, "utf-8")
        return load_settings(self.config)

    def supervise(self, counts: Mapping[str, int] | None = None) -> Supervisor:
        """Return a supervisor of the workers; it is ended before what they use."""
        chosen = dict(counts or self._counts)
        return self._stack.enter_context(Supervisor(self.config, self.folder / "workers", chosen))

    def calculate(self) -> None:
        """Begin to compute the expected results, beside everything else."""
        command = ["nice", sys.executable, "-m", "tests.chaos.kafka_expected"]
        command += [str(self.config), str(self.folder / "expected"), msgspec.json.encode(self.load).decode()]
        with (self.folder / "expected.log").open("wb") as log:
            self._calculator = subprocess.Popen(command, stdout=log, stderr=log)
        self._stack.callback(self._calculator.kill)

    def expected(self) -> Results:
        """Wait for the expected results and return them."""
        assert self._calculator is not None
        if self._calculator.wait(1_800) != 0:
            raise RuntimeError((self.folder / "expected.log").read_text("utf-8")[-2_000:])
        return msgspec.msgpack.decode((self.folder / "expected").read_bytes(), type=Results)

    def plumbline(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of the program's commands with this world's configuration."""
        program = "from streams.cli import main; main()"
        command = [sys.executable, "-c", program, *words, "-c", str(self.config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    def landed(self) -> dict[str, int]:
        """Return how many rows the store holds by table; it waits for a store that is starting."""
        tables = ("interactions", "scorecards", "scores", "signals", "decisions", "actions", "releases")
        for _ in range(60):
            with contextlib.suppress(Exception):
                return self.store.counts((*tables, "feedback", "labels", "reference_points"))
            time.sleep(0.5)
        return self.store.counts(tables)

    def open_acts(self) -> int:
        """Return how many acts have not come to their end, as far as it has landed."""
        latest = "SELECT action_id, argMax(state, seq) AS state FROM actions GROUP BY action_id"
        ended = "('ROLLED_BACK', 'FAILED', 'DELIVERED')"
        (row,) = self.store.rows(f"SELECT count() AS n FROM ({latest}) WHERE state NOT IN {ended}")  # noqa: S608
        return int(row["n"])


def free_port() -> int:
    """Return a port below those that the system gives to outgoing connections."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
