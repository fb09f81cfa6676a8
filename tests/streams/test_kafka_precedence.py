"""Where cores are short: urgent stages keep their priority and wait less for records."""

import os
import subprocess
import sys

import pytest

from streams.kafka.fetching import consumer_options
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
def test_on_the_way_to_a_page_nothing_waits_as_long_as_in_bulk(stage):
    soon = options(stage)["fetch_max_wait_ms"] < options("score")["fetch_max_wait_ms"]
    assert soon or options(stage)["fetch_min_bytes"] == 1
