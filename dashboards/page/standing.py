"""How every deployment stands: what is still open in it, and which of its streams are not well."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from dashboards.page.view import HOUR_MS, Query, Row
from dashboards.queries import QUERIES

Mark = Literal["bad", "watch", "good"]
SILENCE_MS: Final = 900_000
LOOK_BACK_MS: Final = 24 * HOUR_MS
_RANK: Final[Mapping[Mark, int]] = {"bad": 0, "watch": 1, "good": 2}


class Standing(Struct, frozen=True):
    """What is wrong in one deployment, whatever window a page shows of it.

    ``open_decisions`` are those that nothing has ended, however old. ``troubled`` are the streams whose
    latest status of the last 24 h is ``drift``, ``warning`` or ``blind``.
    """

    open_decisions: tuple[Row, ...] = ()
    troubled: tuple[Row, ...] = ()

    @property
    def worse(self) -> list[Row]:
        """The streams in drift against their metric's direction."""
        return [row for row in self.troubled if row["state"] == "drift" and row["worse"]]

    @property
    def moved(self) -> list[Row]:
        """The streams in drift that are not worse."""
        return [row for row in self.troubled if row["state"] == "drift" and not row["worse"]]

    @property
    def warned(self) -> list[Row]:
        """The streams that are near to drift, for the worse."""
        return [row for row in self.troubled if row["state"] == "warning" and row["worse"]]

    def blind(self, *, candidate: bool) -> list[Row]:
        """Return the streams that cannot see: those of candidates, or the others."""
        blind = (row for row in self.troubled if row["state"] == "blind")
        return [row for row in blind if (row["role"] == "candidate") == candidate]

    def mark(self, silent_ms: int | None) -> Mark:
        """Return what the deployment's tab says, given how long nothing came in (None: does not matter)."""
        if self.open_decisions:
            return "bad"
        silent = silent_ms is not None and silent_ms > SILENCE_MS
        return "watch" if self.worse or silent or self.blind(candidate=True) else "good"


def standings(query: Query, known: Sequence[Row], *, to_ms: int | None = None) -> dict[str, Standing]:
    """Return the standing of each deployment of `known` (rows of the query ``deployments``).

    `to_ms` is the end of a look back in event time; None: now, which is where each deployment's events end.
    """
    end = max(row["last_event_ms"] for row in known) + HOUR_MS if to_ms is None else to_ms
    since = {
        row["deployment"]: (row["last_event_ms"] if to_ms is None else to_ms) - LOOK_BACK_MS for row in known
    }
    decisions = query(QUERIES["open_decisions"], {"from_ms": 0, "to_ms": end, "limit": 500})
    bounds = {"from_ms": min(since.values()), "to_ms": end, "limit": 2_000}
    troubled = [
        row for row in query(QUERIES["troubled"], bounds) if row["at_ms"] >= since.get(row["deployment"], end)
    ]
    return {
        name: Standing(
            tuple(row for row in decisions if row["deployment"] == name),
            tuple(row for row in troubled if row["deployment"] == name),
        )
        for name in since
    }


def marks(known: Sequence[Row], standing: Mapping[str, Standing], now_ms: int) -> dict[str, Mark]:
    """Return the mark of each deployment's tab."""
    return {
        row["deployment"]: standing[row["deployment"]].mark(now_ms - row["last_received_ms"]) for row in known
    }


def worst_off(known: Sequence[Row], marked: Mapping[str, Mark]) -> Row:
    """Return the deployment that needs somebody first; among equals the one heard of last."""
    return min(known, key=lambda row: (_RANK[marked[row["deployment"]]], -row["last_received_ms"]))


def names_of(rows: Sequence[Mapping[str, Any]], most: int = 2) -> str:
    """Return the metrics and releases of `rows`, the first ones by name.

    Examples
    --------
    >>> names_of([{"metric": m, "release": "2.3"} for m in ("refusal", "helpful", "honest")])
    'refusal of 2.3, helpful of 2.3 and 1 more'
    """
    names = list(dict.fromkeys(f"{row['metric']} of {row['release']}" for row in rows))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
