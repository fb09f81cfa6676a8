"""Which partitions are to be told that time went on: one rule for every runner. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

from detectors.records import Tick

_SILENCE_STEP_MS: Final = 5_000
"""In silence time goes on in such steps: every tick is a record that is kept, in every partition."""


def furthest_ms(reached: Mapping[int, int], *, live: bool, now_ms: int, silence_ms: int) -> int:
    """Return the event time up to which a drained partition may be said to have come; -1 for none.

    It is that of the furthest partition. While event time is wall-clock time (`live`), it is at least
    `silence_ms` before `now_ms`, in steps of five seconds: so silence closes buckets too. Without any
    traffic there is no time.

    Examples
    --------
    >>> furthest_ms({0: 5_000, 1: 9_000}, live=False, now_ms=100_000, silence_ms=60_000)
    9000
    >>> furthest_ms({0: 5_000, 1: 9_000}, live=True, now_ms=103_000, silence_ms=60_000)
    40000
    >>> furthest_ms({}, live=True, now_ms=103_000, silence_ms=60_000)
    -1
    """
    furthest = max(reached.values(), default=-1)
    if not live or furthest < 0:
        return furthest
    return max(furthest, (now_ms - silence_ms) // _SILENCE_STEP_MS * _SILENCE_STEP_MS)


def behind(reached: Mapping[int, int], furthest: int, partitions: Iterable[int]) -> list[Tick]:
    """Return a tick to `furthest` for each of `partitions` that has not come so far.

    Examples
    --------
    >>> behind({0: 9_000}, 9_000, range(2))
    [Tick(source_partition=1, watermark_ms=9000)]
    """
    return [Tick(partition, furthest) for partition in partitions if reached.get(partition, -1) < furthest]
