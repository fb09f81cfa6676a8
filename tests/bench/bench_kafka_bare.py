"""Takes the time of all scorers alone, in a process that does nothing else: ``bench_kafka_bare TURN``.

``bench_kafka`` starts it with one thread, as a worker has it; its heap holds little else.
"""

import json
import sys

from streams.assembly import assemble
from streams.settings import Settings
from tests.bench.bench_kafka_fill import make_interactions
from tests.bench.bench_path import fresh_cpu, score_all

COUNT = 4_500
"""Interactions of a turn; the first third warms up."""


def main() -> int:
    """Print how many interactions all scorers take per CPU second, on texts that they have not seen."""
    turn = int(sys.argv[1])
    parts = assemble(Settings())
    interactions = make_interactions((turn + 1) * COUNT)[turn * COUNT :]
    print(json.dumps(1 / fresh_cpu(lambda items: score_all(parts, items), interactions)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
