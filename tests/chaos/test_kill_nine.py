"""kill -9 at random moments under a retrying client: nothing accepted is lost, counts twice or moves twice.

20,000 interactions and 10 kills by default (``make chaos``); ``make test`` runs a tenth of it.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from detectors.records import Action, Decision, Signal, Tick
from detectors.records.ids import interaction_id
from detectors.stages.detect_state import DetectState
from plumbline.client import Client, ClientError
from streams.assembly import assemble
from streams.embedded.journal import Journal
from streams.embedded.pipeline import Pipeline
from streams.response import Ledger, outbox
from streams.settings import Settings, load_settings
from streams.store import open_store
from tests.chaos.gateway_thread import GatewayThread
from tests.conftest import support_payloads

INTERACTIONS = int(os.environ.get("PLUMBLINE_CHAOS_INTERACTIONS", "2000"))
KILLS = int(os.environ.get("PLUMBLINE_CHAOS_KILLS", "3"))
SEED = int(os.environ.get("PLUMBLINE_CHAOS_SEED", "5"))
BATCH = 50
PAUSE_S = 0.02
TAIL = 800
"""Sent after the kills: two minutes of event time and more, in which the one act meets its deadline."""


class Process:
    """``plumbline run`` in a process of its own, started again after every kill."""

    def __init__(self, config: Path, log: Path) -> None:
        self._config, self._log = config, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            program = "from streams.cli import main; main()"
            command = [sys.executable, "-c", program, "run", "-c", str(self._config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=300)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def send_all(url: str, payloads: list[tuple[str, bytes]], accepted: set[str]) -> None:
    """Send everything in order, each batch again until it is answered."""
    batch: list[dict[str, Any]] = []
    for kind, payload in payloads:
        body = msgspec.json.decode(payload)
        if kind == "interaction":
            batch.append(body)
        if kind == "release" or len(batch) == BATCH:
            retry(partial(send_batch, url, batch, accepted))
            batch = []
            time.sleep(PAUSE_S)
        if kind == "release":
            retry(partial(declare, url, body))
    retry(partial(send_batch, url, batch, accepted))


def retry(call: Any) -> None:
    for _ in range(600):
        try:
            call()
        except ClientError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the monitor did not come back")


def send_batch(url: str, batch: list[dict[str, Any]], accepted: set[str]) -> None:
    if batch:
        with Client(url, timeout_s=30.0) as client:
            for body, verdict in zip(batch, client.send(batch), strict=True):
                assert verdict.verdict in {"accepted", "duplicate"}, verdict
                accepted.add(interaction_id(body["deployment"], body["id"]))


def declare(url: str, body: dict[str, Any]) -> None:
    with Client(url, timeout_s=30.0) as client:
        client.declare_release(**body)


def write_config(folder: Path, port: int, owner: GatewayThread) -> Path:
    config = folder / "plumbline.toml"
    secret = f'secret_file = "{owner.secret_file}"'
    config.write_text(
        f'data_dir = "{folder / "data"}"\n'
        f"[door]\nport = {port}\nclamp = false\n"
        "[journal]\nbatch = 100\n"
        "[detect]\nreference_units = 300\nunits_per_week = 20_000\n"
        "[land]\nflush_s = 0.2\nbatch = 400\n"
        "[act]\ndry_run = false\nclock = 'wall'\nconverge_s = 15.0\nallow_networks = ['127.0.0.0/8']\n"
        f"[[notifier]]\nname = 'webhook'\nurl = '{owner.url}/page'\n{secret}\n"
        f"[[rollback]]\nname = 'webhook'\nurl = '{owner.url}/rollback'\n"
        f"state_url = '{owner.url}/state'\n{secret}\n",
        encoding="utf-8",
    )
    return config


@pytest.mark.chaos
def test_nothing_accepted_is_lost_or_doubled(tmp_path: Path) -> None:
    with GatewayThread(tmp_path, seed=SEED) as owner:
        port = free_port()
        config = write_config(tmp_path, port, owner)
        process = Process(config, tmp_path / "run.log")
        payloads = support_payloads(INTERACTIONS + TAIL, seed=SEED, canary_from=INTERACTIONS // 3)
        accepted: set[str] = set()
        url = f"http://127.0.0.1:{port}"
        process.start()
        with sending(url, payloads[: len(payloads) - TAIL], accepted):
            kill_at_random(process, owner)
        # Traffic goes on after the last kill, as it would: what was resumed must cope with more.
        with sending(url, payloads[len(payloads) - TAIL :], accepted):
            pass
        wait_until_read(tmp_path)
        wait_until_told(tmp_path)
        assert process.stop() == 0, (tmp_path / "run.log").read_text()[-2_000:]

    assert len(accepted) == INTERACTIONS + TAIL
    settings = load_settings(config)
    assert_landed_once(tmp_path, accepted)
    assert_same_as_fresh_run(tmp_path, settings)
    assert_acted_once(tmp_path, settings, owner)


@contextmanager
def sending(url: str, payloads: list[tuple[str, bytes]], accepted: set[str]) -> Iterator[None]:
    """Send everything beside the block, and be done at its end."""
    errors: list[BaseException] = []

    def send() -> None:
        try:
            send_all(url, payloads, accepted)
        except BaseException as error:  # noqa: BLE001 - carried to the test
            errors.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join(timeout=900)
    assert not sender.is_alive()
    assert not errors, errors


def kill_at_random(process: Process, owner: GatewayThread) -> None:
    """Kill at random moments, and once as soon as the gateway has moved traffic, before that is stored."""
    rng = random.Random(SEED)
    for _ in range(KILLS - 1):
        time.sleep(rng.uniform(1.5, 4.0))
        process.kill()
        process.start()
    deadline = time.monotonic() + 600
    while not owner.moves():
        assert time.monotonic() < deadline, "the gateway was never called"
        time.sleep(0.001)
    process.kill()
    process.start()


def wait_until_read(folder: Path) -> None:
    """Wait until scoring has read everything; stopping then drains the rest."""
    journal = Journal(folder / "data" / "journal.db", partitions=4)
    deadline = time.monotonic() + 600
    consumers = (("score", "interactions"), ("detect", "scorecards"), ("decide", "signals"))
    while any(journal.positions(stage, topic) != journal.ends(topic) for stage, topic in consumers):
        assert time.monotonic() < deadline, "the stages did not catch up"
        time.sleep(0.2)
    journal.close()


def wait_until_told(folder: Path) -> None:
    """Wait until the act has ended and everybody was told so."""
    ledger = Ledger(f"sqlite:///{folder / 'data' / 'ledger.db'}")
    deadline = time.monotonic() + 240  # an attempt that was killed is resumed when its lease has run out
    while True:
        with ledger.begin() as transaction:
            acts, told = ledger.latest_actions(transaction), outbox.every(transaction)
        if all(act.state in {"ROLLED_BACK", "FAILED"} for act in acts) and all(
            one.state == "sent" for one in told
        ):
            break
        assert time.monotonic() < deadline, (acts, [(one.state, one.reason) for one in told])
        time.sleep(0.2)
    ledger.close()


def assert_acted_once(folder: Path, settings: Settings, owner: GatewayThread) -> None:
    """One bad release, one act with one effect, ended by its own rule; every page arrived under its id."""
    ledger = Ledger(f"sqlite:///{folder / 'data' / 'ledger.db'}")
    with ledger.begin() as transaction:
        (act,) = ledger.latest_actions(transaction)
        trail = [action for _, action in ledger.transitions_after(transaction, 0, limit=10_000)]
        notices = outbox.every(transaction)
    ledger.close()
    assert owner.moves() == [act.action_id]
    assert owner.wrongs() == []
    # This traffic does not ask the gateway: the bad release goes on serving, and the act says so.
    assert [one.state for one in trail] == ["DECIDED", "EXECUTING", "VERIFYING", "FAILED"]
    assert act.reason == "not_converged"
    arrived = [page.message_id for page in owner.gateway.pages]
    assert sorted(arrived) == sorted(one.notice.notice_id for one in notices)
    assert {one.notice.transition for one in notices} >= {"DECIDED", "FAILED"}

    journal = Journal(folder / "data" / "journal.db", partitions=settings.journal.partitions)
    copies = [row.record for row in journal.read_topic("actions", 0, 10**9) if isinstance(row.record, Action)]
    journal.close()
    assert len({(one.action_id, one.seq) for one in copies}) == len(copies)
    assert [one for one in copies if one.kind == "rollback"] == trail
    assert len(copies) == len(trail) + len(notices)


def assert_landed_once(folder: Path, accepted: set[str]) -> None:
    store = open_store(path=folder / "data" / "store")
    reader = store.reader()
    rows = reader.query("SELECT interaction_id AS id, count() AS n FROM interactions GROUP BY id", {})
    assert {row["id"] for row in rows} == accepted
    assert {row["n"] for row in rows} == {1}
    per_score = reader.query(
        "SELECT interaction_id AS id, count() AS n, uniqExact(metric) AS metrics FROM scores GROUP BY id", {}
    )
    assert {row["id"] for row in per_score} == accepted
    assert all(row["n"] == row["metrics"] for row in per_score)
    assert len({row["n"] for row in per_score}) == 1
    for table in ("scorecards", "interaction_text"):
        (row,) = reader.query(f"SELECT count() AS n, uniqExact(interaction_id) AS ids FROM {table}", {})  # noqa: S608
        assert (row["n"], row["ids"]) == (len(accepted), len(accepted)), table
    (row,) = reader.query("SELECT count() AS n, uniqExact(signal_id) AS ids FROM signals", {})
    assert row["n"] == row["ids"] > 0
    (row,) = reader.query("SELECT count() AS n, uniqExact(decision_id) AS ids FROM decisions", {})
    assert row["n"] == row["ids"] > 0
    (row,) = reader.query("SELECT count() AS n, uniqExact(action_id, seq) AS ids FROM actions", {})
    assert row["n"] == row["ids"] > 0
    store.close()


def assert_same_as_fresh_run(folder: Path, settings: Settings) -> None:
    survivor = Journal(folder / "data" / "journal.db", partitions=settings.journal.partitions)
    fresh = Journal(folder / "fresh.db", partitions=settings.journal.partitions)
    inputs = survivor.read_topic("interactions", 0, 10**9)
    assert any(isinstance(row.record, Tick) for row in inputs)
    with fresh.transaction() as db:
        fresh.append(db, [(row.topic, row.partition, row.record) for row in inputs])
    Pipeline(fresh, assemble(settings).stages, batch=777).drain()
    assert signals_of(fresh) == signals_of(survivor)
    assert decisions_of(fresh) == decisions_of(survivor)
    for partition in range(settings.journal.partitions):
        assert state_of(fresh, partition) == state_of(survivor, partition)


def signals_of(journal: Journal) -> list[bytes]:
    rows = journal.read_topic("signals", 0, 10**9)
    signals = [row.record for row in rows if isinstance(row.record, Signal)]
    assert len({s.signal_id for s in signals}) == len(signals)
    assert any(s.kind == "change" for s in signals)
    return sorted(msgspec.json.encode(s) for s in signals)


def decisions_of(journal: Journal) -> list[bytes]:
    rows = journal.read_topic("decisions", 0, 10**9)
    made = [row.record for row in rows if isinstance(row.record, Decision)]
    assert len({one.decision_id for one in made}) == len(made) > 0
    return sorted(msgspec.json.encode(one) for one in made)


def state_of(journal: Journal, partition: int) -> dict[str, Any]:
    found = journal.connection().execute(
        "SELECT name, value FROM states WHERE stage = 'detect' AND part = ?", (partition,)
    )
    state = DetectState(dict(found.fetchall()))
    return {
        "streams": {key: stream.to_state() for key, stream in state.streams.items()},
        "arms": {key: stream.to_state() for key, stream in state.arms.items()},
        "anchors": state.anchors,
        "builders": {key: builder.moments.to_state() for key, builder in state.builders.items()},
        "open": {key: sorted(map(msgspec.json.encode, entries)) for key, entries in state.open.items()},
        "closed_until_ms": state.closed_until_ms,
        "seen": state.seen_units,
        "releases": state.releases,
    }
