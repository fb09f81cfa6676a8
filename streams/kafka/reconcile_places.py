"""Which rows the log says there must be, against those that there are. Pure."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from detectors.records import Interaction, Scorecard
from streams.kafka.envelope import place_of, split_place
from streams.kafka.land_lane import Arrival, tables_of
from streams.kafka.reconcile_report import TableAudit
from streams.landing_scores import score_columns

Rows = Mapping[int, tuple[int, int]]
"""Place -> how many rows, and a digest of what tells them apart (0 where they need not be told apart)."""

ANY_ROWS: Final = -1
"""In place of a number of rows: any number of any content. What was scored again may have other scores."""

SCORED: Final = "scorecards of interactions"
"""Not a table of its own: the scorecards by the place of the interaction that they are of."""

IDENTITIES: Final[Mapping[str, tuple[str, ...]]] = {
    "interactions": ("deployment", "interaction_id"),
    "interaction_text": ("deployment", "interaction_id"),
    "scorecards": ("deployment", "interaction_id"),
    "scores": ("deployment", "interaction_id"),
    "releases": ("deployment", "release", "content"),
    "reference_points": ("deployment", "reference_id", "approved_at"),
    "signals": ("deployment", "signal_id"),
    "decisions": ("deployment", "decision_id"),
    "actions": ("deployment", "action_id"),
    "feedback": ("deployment", "feedback_id"),
    "labels": ("deployment", "label_id"),
    "comments": ("deployment", "source", "source_id"),
}
"""What makes a row the same as another: the engine keeps the later of the two when it merges."""


class Source(Struct, frozen=True, kw_only=True):
    """How the rows of one table are found that come from one partition of a topic.

    ``where`` narrows a table that several topics land in; ``partition`` and ``place`` name its columns.
    """

    name: str
    table: str
    partition: str = "src_partition"
    place: str = "src_offset"
    where: str = "1"

    def sql(self) -> str:
        """Return the query for rows by place, of physical rows: merging may hide what was doubled."""
        digest = "sum(CRC32(concat(metric, '/', version)))" if self.table == "scores" else "0"
        return (
            f"SELECT {self.place} AS place, count() AS n, toInt64({digest}) AS digest FROM {self.table} "  # noqa: S608 - ours
            f"WHERE {self.partition} = {{partition:UInt32}} AND {self.place} >= {{first:UInt64}} "
            f"AND {self.place} < {{end:UInt64}} AND {self.where} GROUP BY place"
        )


def sources_of(topic: str) -> tuple[Source, ...]:
    """Return the tables that `topic`, ours, lands in.

    Examples
    --------
    >>> [source.name for source in sources_of("labels")]
    ['labels', 'comments']
    """
    commented = {"feedback": "source = 'feedback'", "labels": "source = 'label'"}
    tables = {
        "interactions": ("interactions", "interaction_text"),
        "scorecards": ("scorecards", "scores"),
        "references": ("reference_points",),
    }.get(topic, (topic,))
    found = tuple(Source(name=table, table=table) for table in tables)
    if topic in commented:
        found += (Source(name="comments", table="comments", where=commented[topic]),)
    return found


SCORECARDS_BY_INTERACTION: Final = Source(
    name=SCORED, table="scorecards", partition="source_partition", place="source_offset"
)


def expected_rows(
    topic: str,
    partition: int,
    arrivals: Sequence[Arrival],
    *,
    is_swapped: Callable[[Scorecard], bool] = lambda _: False,
) -> dict[str, Rows]:
    """Return table -> place -> what must be there of `arrivals`, by the code that lands them.

    Of a scorecard that was swapped for one of a backfill, `is_swapped`, the row must be there; which scores
    it has the log does not know.
    """
    if topic == "scorecards":
        return _expected_of_cards(arrivals, is_swapped)
    found: dict[str, dict[int, tuple[int, int]]] = {}
    for table, columns in tables_of(topic, partition, arrivals).items():
        rows = found.setdefault(table, {})
        for place in columns["src_offset"]:
            rows[place] = (rows.get(place, (0, 0))[0] + 1, 0)
    return dict(found)


def _expected_of_cards(
    arrivals: Sequence[Arrival], is_swapped: Callable[[Scorecard], bool]
) -> dict[str, Rows]:
    cards: dict[int, tuple[int, int]] = {}
    scores: dict[int, tuple[int, int]] = {}
    for arrival in arrivals:
        for index, record in enumerate(arrival.records):
            if isinstance(record, Scorecard):
                place = place_of(arrival.offset, index)
                cards[place] = (1, 0)
                if is_swapped(record):
                    scores[place] = (ANY_ROWS, 0)
                elif record.scores:
                    scores[place] = (len(record.scores), _digest(record))
    return {"scorecards": cards, "scores": scores}


def _digest(card: Scorecard) -> int:
    columns = score_columns([(0, 0, card)])
    texts = map("/".join, zip(columns["metric"], columns["version"], strict=True))
    return sum(zlib.crc32(text.encode()) for text in texts)


def interactions_of(arrivals: Sequence[Arrival]) -> Rows:
    """Return the places of interactions, each of which must have one scorecard."""
    return {
        place_of(arrival.offset, index): (1, 0)
        for arrival in arrivals
        for index, record in enumerate(arrival.records)
        if isinstance(record, Interaction)
    }


def compare(audit: TableAudit, wanted: Rows, found: Rows, *, is_replaced: Callable[[int], bool]) -> None:
    """Add to `audit` what differs between the rows that there must be and those that there are.

    Parameters
    ----------
    audit
        Counts and examples are added to it.
    wanted, found
        Rows by place.
    is_replaced
        Whether a later record of the same identity took the place of the one at this place, which is lost.
    """
    audit.compared += len(wanted)
    for place, (rows, digest) in wanted.items():
        there, told = found.get(place, (0, 0))
        if rows == ANY_ROWS or (there, told) == (rows, digest):
            continue
        if there < rows and is_replaced(place):
            audit.replaced += rows - there
            continue
        at = split_place(place)
        if there < rows or told != digest:
            audit.lost += max(rows - there, int(there == rows))
            audit.name("lost", *at)
        if there > rows or there == rows:
            audit.doubled += max(there - rows, int(there == rows))
            audit.name("doubled", *at)
    for place in found.keys() - wanted.keys():
        audit.stray += found[place][0]
        audit.name("stray", *split_place(place))


def identity_of(topic: str, partition: int, arrival: Arrival, index: int, table: str) -> dict[str, Any]:
    """Return the columns and values that make the row of a record in `table` the same as another."""
    kept = Arrival(arrival.offset, arrival.size, [arrival.records[index]])
    columns = tables_of(topic, partition, [kept])[table]
    return {name: columns[name][0] for name in IDENTITIES[table]}
