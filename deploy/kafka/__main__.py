"""``python -m deploy.kafka``: one local broker in the foreground, until Ctrl-C."""

import argparse
import signal
import sys
from pathlib import Path

from deploy.kafka.broker import LocalBroker
from deploy.kafka.jars import LocalBrokerError


def main() -> int:
    """Run the broker; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.kafka", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("build/kafka"), help="kept between runs")
    parser.add_argument("--port", type=int, default=9092, help="0: any free one (default: %(default)s)")
    chosen = parser.parse_args()
    # SIGTERM ends it as Ctrl-C does: in good order.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with LocalBroker(chosen.directory, port=chosen.port, lasting=True) as broker:
            print(f"kafka  {broker.bootstrap}  (data and log: {chosen.directory}; Ctrl-C ends it)")  # noqa: T201
            print("one broker cannot replicate; in Plumbline's configuration:")  # noqa: T201
            print(f'  [kafka]\n  bootstrap = "{broker.bootstrap}"\n  replication = 1', flush=True)  # noqa: T201
            code = broker.wait()
            print(f"plumbline: the broker ended by itself: read {broker.log}", file=sys.stderr)  # noqa: T201
            return code or 1
    except LocalBrokerError as error:
        print(f"plumbline: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
