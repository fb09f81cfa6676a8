"""One run of the chaos: load, faults, the wait until all has settled, and the verdict."""

import time
from collections import Counter
from pathlib import Path

from msgspec import Struct

from detectors.records import Action
from tests.chaos.kafka_expected import Results
from tests.chaos.kafka_faults import Faults, run_faults
from tests.chaos.kafka_load import Load
from tests.chaos.kafka_sender import Sender
from tests.chaos.kafka_verdict import (
    HEADLINE,
    Finding,
    compare_actions,
    compare_dead_letters,
    compare_store,
    compare_topics,
    read_topics,
)
from tests.chaos.kafka_workers import Supervisor
from tests.chaos.kafka_world import PARTITIONS, World

_QUIET_S = 6.0
_POLL_S = 1.0


class ChaosPlan(Struct, frozen=True, kw_only=True):
    """How much is sent, how fast, and what is done to it.

    ``faults`` in all, each kind ``at_least`` so often; ``rate`` submissions a second.
    """

    interactions: int
    faults: int
    at_least: int
    rate: float
    seed: int = 5
    settle_s: float = 240.0

    @property
    def load(self) -> Load:
        """What is sent."""
        return Load(interactions=self.interactions, seed=self.seed)

    @property
    def window(self) -> int:
        """How many submissions may wait for admission: a tenth of all, a quarter of the lateness."""
        return max(2_000, self.interactions // 10)

    @property
    def gap_s(self) -> float:
        """The pause between faults that spreads them over the load, given what a fault itself takes."""
        return max(0.5, self.interactions / self.rate / max(1, self.faults) - 7.0)


class Verdict(Struct, frozen=True):
    """What a run found; `lines` tell it to a reader."""

    findings: tuple[Finding, ...]
    faults: dict[str, int]
    lines: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing is lost, doubled, wrong or too much."""
        return all(finding.clean for finding in self.findings)

    def __str__(self) -> str:
        """Return the table."""
        return "\n".join([*self.lines, HEADLINE, *map(str, self.findings)])


def run_chaos(world: World, plan: ChaosPlan) -> Verdict:
    """Send the load through workers that are hurt all the time, and judge what came of it."""
    world.calculate()
    began_s = time.monotonic()
    supervisor = world.supervise()
    faults = Faults(world, supervisor, seed=plan.seed)
    with Sender(world.settings.kafka, world.spool.path, rate=plan.rate, window=plan.window) as sender:
        sending = sender.begin(plan.load.messages())
        wait_for_first(world, supervisor)
        kinds = faults.plan(plan.faults, plan.at_least)
        run_faults(faults, kinds, sender, load=plan.interactions, gap_s=plan.gap_s)
        sending.join(1_800)
        sender.check()
        close_buckets(sender, plan.load)
    expected = world.expected()
    settled_s = settle(world, expected, timeout_s=plan.settle_s)
    forced = supervisor.stop()
    findings, actions = judge(world, expected)
    lines = (
        f"{plan.interactions:,} interactions, {sum(faults.counts.values())} faults "
        f"({', '.join(f'{kind} {count}' for kind, count in sorted(faults.counts.items()))})",
        *faults.told,
        f"inserts that met a fault: {dict(world.proxy.hits)} of {world.proxy.inserts}",
        f"workers ended: {dict(supervisor.ends())}; forced at the end: {forced or 'none'}",
        f"what they said: {last_words(supervisor)}",
        f"by way of the client's disk {sender.spooled:,}, refused by a full one {sender.refused} times",
        f"held back {sender.held_s:.0f} s; settled in {settled_s:.0f} s; "
        f"{time.monotonic() - began_s:.0f} s in all; acts {act_states(actions)}",
    )
    return Verdict(tuple(findings), dict(faults.counts), lines)


def wait_for_first(world: World, supervisor: Supervisor, *, timeout_s: float = 240.0) -> None:
    """Return when the first row has landed: from then on a fault meets a running system."""
    deadline = time.monotonic() + timeout_s
    while not world.landed()["scorecards"]:
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing has landed in {timeout_s:.0f} s: {last_words(supervisor)}")
        time.sleep(_POLL_S)


def close_buckets(sender: Sender, load: Load, *, timeout_s: float = 300.0) -> None:
    """When all is admitted, send what carries event time past the end: nothing may be made late by it."""
    deadline = time.monotonic() + timeout_s
    while (behind := sender.backlog()) != 0:
        assert time.monotonic() < deadline, f"{behind} submissions were not admitted"
        time.sleep(_POLL_S)
    sender.begin(load.closing(PARTITIONS)).join(120)
    sender.check()


def settle(world: World, expected: Results, *, timeout_s: float) -> float:
    """Wait until the store has what is expected and nothing moves any more; return for how long it took."""
    began_s = moved_s = time.monotonic()
    before: dict[str, int] = {}
    while time.monotonic() - began_s < timeout_s:
        now = world.landed()
        if now != before:
            before, moved_s = now, time.monotonic()
        complete = all(now.get(table, 0) >= count for table, count in expected.rows.items() if table in now)
        if complete and time.monotonic() - moved_s >= _QUIET_S and not world.open_acts():
            break
        time.sleep(_POLL_S)
    return time.monotonic() - began_s


def judge(world: World, expected: Results) -> tuple[list[Finding], list[Action]]:
    """Return every finding, and the transitions of acts."""
    kafka = world.settings.kafka
    found, actions = read_topics(kafka)
    findings = compare_topics(found, expected)
    findings.append(compare_dead_letters(kafka, expected))
    findings += compare_store(world.store, expected, actions)
    findings.append(compare_actions(actions, world.gateway.moves(), world.gateway.wrongs()))
    return findings, actions


def act_states(actions: list[Action]) -> dict[str, int]:
    """Return how many acts of each kind reached which state."""
    latest = {one.action_id: one for one in sorted(actions, key=lambda one: one.seq)}
    return dict(Counter(f"{one.kind} {one.state}" for one in latest.values()))


def last_words(supervisor: Supervisor) -> dict[str, int]:
    """Return what workers said when they ended by themselves, and how often."""
    return dict(Counter(end.said for end in supervisor.exits if end.code > 0).most_common(12))


def write_verdict(verdict: Verdict, folder: Path) -> None:
    """Print the verdict, and keep it in `folder`."""
    (folder / "verdict.txt").write_text(f"{verdict}\n", "utf-8")
    print(verdict)
