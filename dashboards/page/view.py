"""What part of the store a page shows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

Row = dict[str, Any]
Query = Callable[[str, Mapping[str, Any]], list[Row]]
"""Runs a SQL text with parameters; the reader of the store, or anything like it."""

HOUR_MS: Final = 3_600_000
WINDOWS: Final[Mapping[str, int]] = {
    "1h": HOUR_MS,
    "6h": 6 * HOUR_MS,
    "24h": 24 * HOUR_MS,
    "7d": 168 * HOUR_MS,
}
_BUCKETS: Final = (60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000)
_MOST_POINTS: Final = 60


class View(Struct, frozen=True, kw_only=True):
    """What part of the store a page shows: ``deployment`` in event time [``from_ms``, ``to_ms``)."""

    deployment: str
    from_ms: int
    to_ms: int
    window: str

    @property
    def bounds(self) -> dict[str, Any]:
        """The parameters every query takes."""
        return {"deployment": self.deployment, "from_ms": self.from_ms, "to_ms": self.to_ms}

    def link(self, path: str, **more: Any) -> str:
        """Return `path` with this view, and `more`, as its query string."""
        return f"{path}?{urlencode(self.bounds | {'window': self.window} | more, errors='replace')}"


def view_of(row: Row, window: str, to_ms: int | None) -> View:
    """Return the view of a deployment's row that ends at `to_ms`, or just after its newest interaction."""
    reach = row["last_event_ms"] - row["first_event_ms"]
    name = (
        window if window in WINDOWS else next((key for key in ("1h", "6h") if reach <= WINDOWS[key]), "24h")
    )
    end = to_ms if to_ms is not None else row["last_event_ms"] // 60_000 * 60_000 + 60_000
    return View(deployment=row["deployment"], from_ms=end - WINDOWS[name], to_ms=end, window=name)


def bucket_of(view: View) -> int:
    """Return the width of a bucket in milliseconds that gives a curve of at most sixty points."""
    reach = view.to_ms - view.from_ms
    return next((bucket for bucket in _BUCKETS if reach / bucket <= _MOST_POINTS), _BUCKETS[-1])


def trimmed(view: View, releases: Sequence[Row]) -> View:
    """Return the view without the empty time before its first interaction."""
    if not releases:
        return view
    bucket_ms = bucket_of(view)
    first = min(row["first_ms"] for row in releases) // bucket_ms * bucket_ms
    return msgspec.structs.replace(view, from_ms=max(view.from_ms, first))
