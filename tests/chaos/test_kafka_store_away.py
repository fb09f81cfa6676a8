"""The thinking path needs only Kafka: without a store for twenty seconds it pages and rolls back."""

from pathlib import Path

import pytest

from tests.chaos.kafka_store_away import COUNTS, LATENESS_SHARE, AwayPlan, run_store_away
from tests.chaos.kafka_world import World
from tests.integration.conftest import need_tools

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("kafka")]


def test_a_store_that_is_away_delays_no_page_and_no_rollback(tmp_path: Path) -> None:
    need_tools()
    plan = AwayPlan(away_s=20.0, rate=400.0)
    with World(tmp_path, plan.load, counts=COUNTS, lateness_share=LATENESS_SHARE) as world:
        outcome = run_store_away(world, plan)
    assert outcome.clean, f"\n{outcome}"
