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


def test_urgent_stages_fetch_sooner_and_every_one_waits():
    waits = {}
    for stage in BUILDERS:
        options = consumer_options(KafkaSettings(), "g", "", 6.0, fetch_size(stage, 65_536))
        waits[stage] = options["fetch_max_wait_ms"]
        assert options["max_partition_fetch_bytes"] == options["fetch_min_bytes"] == 65_536
    assert waits.keys() > URGENT
    assert 0 < max(waits[stage] for stage in URGENT) < min(waits[stage] for stage in waits.keys() - URGENT)
