"""What comes first where cores are short: the way from a scorecard to a page."""

import os
from typing import Final

from streams.kafka.fetching import FetchSize

URGENT: Final = frozenset({"detect", "decide", "act"})
"""The stages that somebody waits for when a release regresses. All others carry what may wait a second."""

_URGENT_WAIT_MS: Final = 100
_BULK_WAIT_MS: Final = 250
_BULK_NICENESS: Final = 10


def fetch_size(stage: str, batch_bytes: int) -> FetchSize:
    """Return what a member of `stage` fetches at once.

    Examples
    --------
    >>> fetch_size("detect", 4_194_304).wait_ms < fetch_size("score", 4_194_304).wait_ms
    True
    """
    return FetchSize(batch_bytes, _URGENT_WAIT_MS if stage in URGENT else _BULK_WAIT_MS)


def give_way(stage: str) -> None:
    """Let urgent stages on the same cores go first, if this process runs another one.

    It lowers the priority of this process, which only a superuser can raise again.
    """
    if stage not in URGENT and hasattr(os, "nice"):
        os.nice(_BULK_NICENESS)
