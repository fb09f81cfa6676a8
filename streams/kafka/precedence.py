"""What comes first where cores are short: the way from a scorecard to a page."""

import os
from typing import Final

from streams.kafka.fetching import FetchSize

URGENT: Final = frozenset({"detect", "decide", "act"})
"""The stages that somebody waits for when a release regresses. All others carry what may wait a second."""

_BULK_WAIT_MS: Final = 250
_LEAST_BULK_WAIT_MS: Final = 50
_LAND_WAIT_MS: Final = 100
"""Landing waits for more by itself, as long as it is told."""

_BULK_NICENESS: Final = 10


def fetch_size(stage: str, batch_bytes: int) -> FetchSize:
    """Return what a member of `stage` fetches at once.

    An urgent one is given what comes as it comes: it is rare, or came in batches from stages that waited.

    Examples
    --------
    >>> fetch_size("detect", 4_194_304).min_bytes
    1
    >>> fetch_size("score", 4_194_304).least_wait_ms
    50
    """
    if stage in URGENT:
        return FetchSize(batch_bytes, _BULK_WAIT_MS, min_bytes=1)
    if stage == "land":
        return FetchSize(batch_bytes, _LAND_WAIT_MS)
    return FetchSize(batch_bytes, _BULK_WAIT_MS, least_wait_ms=_LEAST_BULK_WAIT_MS)


def give_way(stage: str) -> None:
    """Let urgent stages on the same cores go first, if this process runs another one.

    It lowers the priority of this process, which only a superuser can raise again.
    """
    if stage not in URGENT and hasattr(os, "nice"):
        os.nice(_BULK_NICENESS)
