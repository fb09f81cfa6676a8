"""What comes first where cores are short: the way from a scorecard to a page."""

import os
from collections.abc import Mapping
from typing import Final

from streams.kafka.fetching import FetchSize

URGENT: Final = frozenset({"detect", "decide", "act"})
"""The stages that somebody waits for when a release regresses. All others carry what may wait a second."""

_BULK_WAIT_MS: Final = 250
_WAIT_MS: Final[Mapping[str, int]] = {"detect": 50, "land": 100}
"""Each wait of detect is on the way to a page; landing waits for more by itself, as long as it is told."""

_RARE: Final = frozenset({"decide", "act"})
"""What these read is rare, and comes to them at once: else they would ask for it ten times a second."""

_BULK_NICENESS: Final = 10


def fetch_size(stage: str, batch_bytes: int) -> FetchSize:
    """Return what a member of `stage` fetches at once.

    Examples
    --------
    >>> fetch_size("detect", 4_194_304).wait_ms < fetch_size("score", 4_194_304).wait_ms
    True
    >>> fetch_size("decide", 4_194_304).min_bytes
    1
    """
    if stage in _RARE:
        return FetchSize(batch_bytes, _BULK_WAIT_MS, min_bytes=1)
    return FetchSize(batch_bytes, _WAIT_MS.get(stage, _BULK_WAIT_MS))


def give_way(stage: str) -> None:
    """Let urgent stages on the same cores go first, if this process runs another one.

    It lowers the priority of this process, which only a superuser can raise again.
    """
    if stage not in URGENT and hasattr(os, "nice"):
        os.nice(_BULK_NICENESS)
