"""Run by an interpreter that is not ours: feeds arrays to frouros and CapyMOA, and prints their alarms.

Reads an NPZ of arrays (one stream a row) from standard input, and writes JSON: detector, array, the indices
of the alarms of each row. It imports nothing of this house, for the interpreter does not have it.
"""

import io
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Answer = dict[str, dict[str, list[list[int]]]]

Feed = Callable[[float], bool]
"""Takes one observation and returns whether the detector alarms; it starts anew after an alarm."""


def frouros_feeds() -> dict[str, Callable[[], Feed]]:
    """Return makers of frouros detectors; ImportError where it is missing."""
    from frouros.detectors.concept_drift import (  # type: ignore[import-not-found]  # noqa: PLC0415
        ADWIN,
        ADWINConfig,
        PageHinkley,
        PageHinkleyConfig,
    )

    def feed(detector: Any) -> Feed:
        def take(x: float) -> bool:
            detector.update(value=x)
            alarm = bool(detector.status["drift"])
            if alarm:
                detector.reset()
            return alarm

        return take

    return {
        "frouros ADWIN delta=0.002": lambda: feed(ADWIN(config=ADWINConfig(delta=0.002))),
        "frouros ADWIN delta=0.3": lambda: feed(ADWIN(config=ADWINConfig(delta=0.3))),
        "frouros PageHinkley": lambda: feed(PageHinkley(config=PageHinkleyConfig())),
    }


def capymoa_feeds() -> dict[str, Callable[[], Feed]]:
    """Return makers of CapyMOA detectors; ImportError where it is missing."""
    from capymoa.drift import detectors  # type: ignore[import-not-found]  # noqa: PLC0415

    def feed(detector: Any) -> Feed:
        def take(x: float) -> bool:
            detector.add_element(x)
            alarm = bool(detector.detected_change())
            if alarm:
                detector.reset()
            return alarm

        return take

    return {
        "CapyMOA ADWIN delta=0.002": lambda: feed(detectors.ADWIN(delta=0.002)),
        "CapyMOA ADWIN delta=0.3": lambda: feed(detectors.ADWIN(delta=0.3)),
        "CapyMOA PageHinkley": lambda: feed(detectors.PageHinkley()),
        "CapyMOA HDDM_A": lambda: feed(detectors.HDDMAverage()),
    }


def run(makers: dict[str, Callable[[], Feed]], arrays: dict[str, Any]) -> Answer:
    """Return the indices of the alarms, by detector, array and row.

    Examples
    --------
    >>> run({"always": lambda: lambda x: True}, {"null": np.zeros((1, 2))})
    {'always': {'null': [[0, 1]]}}
    """
    return {
        name: {key: [_alarms(make(), row.tolist()) for row in x] for key, x in arrays.items()}
        for name, make in makers.items()
    }


def _alarms(feed: Feed, values: Iterable[float]) -> list[int]:
    # Errors, not successes: some of these detectors see a rise only.
    return [index for index, value in enumerate(values) if feed(1.0 - value)]


def main() -> None:
    """Read, run, print."""
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as packed:
        arrays = {name: packed[name] for name in packed.files}
    makers: dict[str, Callable[[], Feed]] = {}
    for find in (frouros_feeds, capymoa_feeds):
        try:
            makers.update(find())
        except ImportError:
            continue
    answer = run(makers, arrays)
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
