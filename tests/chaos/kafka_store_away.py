"""The store is away under load while the canary regresses: page and rollback must happen all the same.

``python -m tests.chaos.kafka_store_away [SECONDS]`` takes it away for ten minutes, or for so many seconds.
"""

import sys
import tempfile
import time
from pathlib import Path

from msgspec import Struct

from tests.chaos.kafka_chaos import close_buckets, judge, settle, wait_for_first
from tests.chaos.kafka_load import Load
from tests.chaos.kafka_sender import Sender
from tests.chaos.kafka_verdict import HEADLINE, Finding
from tests.chaos.kafka_world import World

COUNTS = {"admit": 1, "score": 1, "detect": 1, "decide": 1, "act": 1, "land": 1}
_BEFORE, _AWAY = 0.15, 0.75
"""Which part of the load comes before the store goes, and while it is away; the canary begins in between."""
LATENESS_SHARE = 0.3
_WINDOW_SHARE = LATENESS_SHARE / 4.2
"""What may wait for admission, of the load: all in one of four partitions it still is not late."""


class AwayPlan(Struct, frozen=True, kw_only=True):
    """For how long the store is away, under how many submissions a second."""

    away_s: float
    rate: float = 300.0
    seed: int = 7

    @property
    def load(self) -> Load:
        """What is sent, from before to after."""
        count = round(self.away_s / _AWAY * self.rate)
        return Load(interactions=count, seed=self.seed, rate_per_s=count / 200.0)


class Outcome(Struct, frozen=True):
    """What had happened when the store came back, and what was found when all had landed."""

    pages: int
    moves: int
    rows_while_away: int
    findings: tuple[Finding, ...]
    lines: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether somebody was paged, traffic moved once, and nothing was lost, doubled or different."""
        acted = self.pages >= 1 and self.moves == 1 and self.rows_while_away == 0
        return acted and all(finding.clean for finding in self.findings)

    def __str__(self) -> str:
        """Return the table."""
        return "\n".join([*self.lines, HEADLINE, *map(str, self.findings)])


def run_store_away(world: World, plan: AwayPlan) -> Outcome:
    """Take the store away in the midst of the load, and judge."""
    world.calculate()
    supervisor = world.supervise()
    count = plan.load.interactions
    window = max(500, round(_WINDOW_SHARE * count))
    with Sender(world.settings.kafka, world.spool.path, rate=plan.rate, window=window) as sender:
        sending = sender.begin(plan.load.messages())
        wait_for_first(world, supervisor)
        _wait_for(sender, round(_BEFORE * count))
        world.proxy.go_away()
        time.sleep(2.0)  # what was on its way may still land
        before, began_s = world.landed(), time.monotonic()
        _wait_for(sender, round((_BEFORE + _AWAY) * count))
        time.sleep(max(0.0, plan.away_s - (time.monotonic() - began_s)))
        _wait_for_acts(world)  # a slow machine may take longer; what counts is that the store is away
        pages, moves = len(world.gateway.gateway.pages), len(world.gateway.moves())
        rows = sum(world.landed().values()) - sum(before.values())
        away_s = time.monotonic() - began_s
        world.proxy.come_back()
        sending.join(1_800)
        sender.check()
        close_buckets(sender, plan.load)
    expected = world.expected()
    settled_s = settle(world, expected, timeout_s=max(90.0, plan.away_s))
    supervisor.stop()
    findings, _ = judge(world, expected)
    lines = (
        f"{count:,} interactions; the store was away for {away_s:.0f} s; meanwhile {pages} pages arrived, "
        f"traffic moved {moves} times and {rows} rows landed",
        f"workers ended: {dict(supervisor.ends())}; settled in {settled_s:.0f} s",
    )
    return Outcome(pages, moves, rows, tuple(findings), lines)


def _wait_for(sender: Sender, count: int) -> None:
    """Wait until `count` submissions are sent."""
    deadline = time.monotonic() + 3_600
    while sender.sent < count:
        sender.check()
        assert time.monotonic() < deadline, f"{sender.sent} of {count} sent"
        time.sleep(0.1)


def _wait_for_acts(world: World, within_s: float = 120.0) -> None:
    """Wait for a page and a move, for a while: who judges complains if they do not come."""
    deadline = time.monotonic() + within_s
    while not (world.gateway.gateway.pages and world.gateway.moves()) and time.monotonic() < deadline:
        time.sleep(0.1)


def main(away_s: float = 600.0) -> int:
    """Run once and print the verdict; exit code 1 if it is not clean."""
    plan = AwayPlan(away_s=away_s)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        World(Path(folder), plan.load, counts=COUNTS, lateness_share=LATENESS_SHARE) as world,
    ):
        outcome = run_store_away(world, plan)
    print(outcome)
    print("verdict: paged, rolled back, landed exactly" if outcome.clean else "verdict: NOT CLEAN")
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:])))
