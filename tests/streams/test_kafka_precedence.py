"""Where cores are short: urgent stages keep their priority and wait less for records."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.fetching import FetchSize, Pace, consumer_options
from streams.kafka.precedence import URGENT, fetch_size
from streams.kafka.worker import BUILDERS
from streams.settings import KafkaSettings

PROGRAM = """\
import os, sys
from streams.kafka.precedence import give_way
give_way(sys.argv[1])
print(os.nice(0))
"""


@pytest.mark.parametrize("stage", BUILDERS)
def test_only_bulk_stages_give_way(stage):
    ran = subprocess.run([sys.executable, "-c", PROGRAM, stage], capture_output=True, text=True, check=True)
    wanted = os.nice(0) if stage in URGENT else min(19, os.nice(0) + 10)
    assert int(ran.stdout) == wanted


def options(stage):
    return consumer_options(KafkaSettings(), "g", "", 6.0, fetch_size(stage, 65_536))


@pytest.mark.parametrize("stage", BUILDERS)
def test_every_stage_waits_for_records_and_is_given_whole_batches(stage):
    assert options(stage)["fetch_max_wait_ms"] > 0
    assert options(stage)["max_partition_fetch_bytes"] == 65_536


@pytest.mark.parametrize("stage", [stage for stage in BUILDERS if stage not in URGENT])
def test_bulk_stages_wait_for_more(stage):
    assert options(stage)["fetch_min_bytes"] == 65_536


@pytest.mark.parametrize("stage", sorted(URGENT))
def test_on_the_way_to_a_page_nothing_waits_for_more(stage):
    assert options(stage)["fetch_min_bytes"] == 1


@pytest.mark.parametrize("stage", [stage for stage in BUILDERS if stage not in {*URGENT, "land"}])
def test_bulk_stages_wait_less_while_their_transactions_are_soon_over(stage):
    pace = Pace(fetch_size(stage, 65_536))
    began_ms = pace.wait_ms
    pace.look(100, 1.0, partitions=1)  # 10 ms each
    soon_ms = pace.wait_ms
    pace.look(200, 4.0, partitions=1)  # 30 ms each
    later_ms = pace.wait_ms
    pace.look(300, 7.0, partitions=2)  # as long, and two for each fetch
    assert soon_ms < later_ms < pace.wait_ms == began_ms
    pace.look(400, 7.1, partitions=1)
    assert 0 < pace.wait_ms < soon_ms


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 60)), max_size=20), st.integers(1, 64))
def test_a_pace_stays_between_its_bounds_and_says_nothing_without_transactions(looks, partitions):
    size = FetchSize(65_536, 250, least_wait_ms=50)
    pace, count, seconds = Pace(size), 0, 0.0
    for more, took_s in looks:
        before_ms = pace.wait_ms
        count, seconds = count + more, seconds + (took_s if more else 0.0)
        pace.look(count, seconds, partitions=partitions)
        assert size.least_wait_ms <= pace.wait_ms <= size.wait_ms
        assert more or pace.wait_ms == before_ms


def test_a_pace_without_a_least_wait_stays():
    pace = Pace(FetchSize(65_536, 100))
    pace.look(1_000, 1.0, partitions=1)
    assert pace.wait_ms == 100
