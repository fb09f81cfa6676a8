"""Chaos on a real broker and a real store: nothing is lost, nothing counts twice, every result is the same.

60,000 interactions and one fault of each kind by default; ``make chaos`` asks for 500,000 and sixty.
"""

import os
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from tests.chaos.kafka_chaos import ChaosPlan, run_chaos, write_verdict
from tests.chaos.kafka_faults import KINDS
from tests.chaos.kafka_world import World
from tests.integration.conftest import need_tools

PLAN = ChaosPlan(
    interactions=int(os.environ.get("PLUMBLINE_CHAOS_KAFKA_INTERACTIONS", "60000")),
    faults=int(os.environ.get("PLUMBLINE_CHAOS_KAFKA_FAULTS", "10")),
    at_least=int(os.environ.get("PLUMBLINE_CHAOS_KAFKA_AT_LEAST", "1")),
    rate=float(os.environ.get("PLUMBLINE_CHAOS_KAFKA_RATE", "450")),
    seed=int(os.environ.get("PLUMBLINE_CHAOS_SEED", "5")),
)
SABOTAGE = (
    "ALTER TABLE scorecards DELETE WHERE interaction_id IN"
    " (SELECT interaction_id FROM scorecards ORDER BY interaction_id LIMIT 5)",
    "ALTER TABLE signals DELETE WHERE signal_id IN"
    " (SELECT signal_id FROM signals ORDER BY signal_id LIMIT 3)",
    "INSERT INTO interactions SELECT * FROM interactions ORDER BY interaction_id LIMIT 4",
    "INSERT INTO scores SELECT * FROM scores ORDER BY interaction_id DESC, metric LIMIT 6",
)
REPEATED = {("interactions", "doubled"): 4, ("scores", "doubled"): 6}
pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("kafka")]


def test_nothing_is_lost_doubled_or_different(tmp_path: Path) -> None:
    need_tools()
    with World(tmp_path, PLAN.load) as world:
        verdict = run_chaos(world, PLAN)
        write_verdict(verdict, tmp_path)
        assert verdict.clean, f"\n{verdict}"
        assert all(verdict.faults.get(kind, 0) >= PLAN.at_least for kind in KINDS), verdict.faults
        assert_reconciled(world)
        assert_sabotage_is_found(world)


def assert_reconciled(world: World) -> None:
    told = world.plumbline("reconcile", "--full")
    assert told.returncode == 0, told.stdout + told.stderr


def assert_sabotage_is_found(world: World) -> None:
    tables = ("scorecards", "signals")
    before = world.store.counts(tables)
    world.store.sabotage(SABOTAGE)
    after = world.store.counts(tables)
    cards, signals = (before[table] - after[table] for table in tables)
    assert cards >= 5
    assert signals >= 3
    told = world.plumbline("reconcile", "--full", "--json")
    assert told.returncode == 1, told.stdout[:1_000] + told.stderr
    found: Counter[tuple[str, str]] = Counter()
    for table in msgspec.json.decode(told.stdout)["tables"]:
        for kind in ("lost", "doubled", "stray"):
            found[table["table"], kind] += table[kind]
    gone = {
        ("scorecards", "lost"): cards,
        ("scorecards of interactions", "lost"): cards,
        ("signals", "lost"): signals,
    }
    assert +found == REPEATED | gone
