"""The standing audit: what the log says there must be, against what the groups and the store say there is.

For every topic and partition: the bounds of the log, what every group has committed, where every stage's
state stands, and, place by place, the rows in the store. It reads and changes nothing, uses memory for one
chunk of one partition at a time, and may run while everything else does: it compares up to where landing was
when it began.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from detectors.records import Scorecard
from streams.kafka.envelope import RawMessage, place_of, split_place
from streams.kafka.land_lane import Arrival, read_message
from streams.kafka.land_ledger import LedgerError, Mark, Where, read_mark
from streams.kafka.layout import SUBMISSIONS, state_name, topic_name
from streams.kafka.reconcile_log import Bounds, ClusterReader
from streams.kafka.reconcile_places import (
    SCORECARDS_BY_INTERACTION,
    Rows,
    Source,
    compare,
    expected_rows,
    identity_of,
    interactions_of,
    sources_of,
)
from streams.kafka.reconcile_report import GroupAudit, Report, TableAudit
from streams.kafka.shadow import Plan, swapped_plans
from streams.landing_rows import LANDED
from streams.settings import KafkaSettings

READS: Final[Mapping[str, str]] = {
    "admit": SUBMISSIONS,
    "score": "interactions",
    "detect": "scorecards",
    "decide": "signals",
    "act": "decisions",
}
"""Stage -> what it reads."""
_STATEFUL: Final = frozenset(READS) - {"act"}
"""Stages whose state says where they are; act keeps a ledger of its own."""
_CHUNK_BYTES: Final = 16_777_216
_CHUNK_RECORDS: Final = 20_000
_LOOKS: Final = 200
"""How many lost rows of one table and partition are looked up by identity."""
_WAIT_S: Final = 0.5


class Querying(Protocol):
    """What is needed of the store."""

    def query(self, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of `sql`."""
        ...


class Reconciler:
    """Compares once, with :meth:`run`.

    Parameters
    ----------
    settings
        Names of topics and groups.
    cluster, store
        Where to look.
    since_ms
        Records older than this (Unix milliseconds, by the log's time) are left out; None: all are compared.
    wait_s
        How long landing may take to come to where the log ended when this began.
    advance
        Told how many offsets were done, of those that :meth:`run` announces to `announce`.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        cluster: ClusterReader,
        store: Querying,
        *,
        since_ms: int | None = None,
        wait_s: float = 10.0,
        announce: Callable[[int], None] = lambda _: None,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._settings, self._cluster, self._store = settings, cluster, store
        self._since_ms, self._wait_s, self._announce, self._advance = since_ms, wait_s, announce, advance
        self._prefix = settings.topic_prefix
        self._report = Report()
        self._swapped: list[Plan] = []

    def run(self) -> Report:
        """Return what was found.

        Raises
        ------
        BrokerError, StoreError
            If the broker or the store cannot be asked.
        """
        began_s = time.monotonic()
        self._swapped = [
            plan
            for plan in swapped_plans(self._store)
            if plan.topic == topic_name("interactions", self._prefix)
        ]
        scored = self._audit_groups()
        landed = {topic_name(topic, self._prefix): topic for topic in LANDED}
        ends = self._cluster.bounds(self._places(landed))
        marks = self._landed_marks(ends)
        firsts = self._firsts(ends)
        until = {where: min(marks[where].offset, ends[where].end) for where in ends}
        self._announce(sum(max(0, until[where] - firsts[where]) for where in ends))
        for where in sorted(ends):
            topic = landed[where[0]]
            self._compare_topic(topic, where, firsts[where], until[where], scored.get(where[1]))
        # Only now: what was written meanwhile lies below these ends.
        for where, bounds in self._cluster.bounds(list(ends)).items():
            self._look_behind(landed[where[0]], where, bounds.end)
        self._report.took_s = time.monotonic() - began_s
        return self._report

    def _places(self, names: Mapping[str, str] | Sequence[str]) -> list[Where]:
        return [(name, partition) for name in names for partition in range(self._settings.partitions)]

    def _audit_groups(self) -> dict[int, int]:
        """Look at the thinking stages; return by partition below which place every interaction is scored."""
        scored: dict[int, int] = {}
        committed = self._cluster.committed([f"{self._prefix}.{stage}" for stage in READS])
        for stage, source in READS.items():
            name, group = topic_name(source, self._prefix), f"{self._prefix}.{stage}"
            bounds = self._cluster.bounds(self._places([name]))
            for where, at in sorted(bounds.items()):
                found = committed[group].get(where)
                position = None
                if stage in _STATEFUL:
                    position = self._cluster.position((state_name(stage, self._prefix), where[1]))
                place = None if position is None else position.place
                audit = _group_audit(group, where, at, found, place)
                audit.repeated = 0 if position is None else position.repeated
                if place is None and found is not None and stage in _STATEFUL:
                    audit.problem = audit.problem or f"it has committed {found[0]}, and has no state"
                self._report.groups.append(audit)
                if stage == "score" and place is not None:
                    scored[where[1]] = place
        return scored

    def _landed_marks(self, ends: Mapping[Where, Bounds]) -> dict[Where, Mark]:
        """Return where landing is, once it is where the log ended, or the time for that is over."""
        group, until_s = f"{self._prefix}.land", time.monotonic() + self._wait_s
        while True:
            committed = self._cluster.committed([group])[group]
            marks, wrong = {}, {}
            for where in ends:
                try:
                    marks[where] = read_mark(where, committed.get(where, (0, "")))
                except LedgerError as error:
                    marks[where], wrong[where] = Mark(0), str(error)
            # What ends a log may be the marker of a transaction, which nobody is given to commit.
            behind = [where for where in ends if marks[where].offset < ends[where].end - 1]
            if not (behind or any(mark.unfinished for mark in marks.values())) or time.monotonic() > until_s:
                break
            time.sleep(_WAIT_S)
        behind = [where for where in behind if self._has_records(where, marks[where].offset, ends[where].end)]
        for where, mark in sorted(marks.items()):
            audit = _group_audit(group, where, ends[where], committed.get(where), None)
            audit.problem = wrong.get(where, "")
            self._report.groups.append(audit)
            if mark.unfinished is not None:
                self._report.untold.append(
                    f"{where[0]}/{where[1]}: offsets {mark.unfinished.first} to {mark.unfinished.last} "
                    "are on their way to the store"
                )
            elif where in behind:
                text = f"{where[0]}/{where[1]}: landing is at {mark.offset} of {ends[where].end}"
                self._report.untold.append(text)
        return marks

    def _has_records(self, where: Where, first: int, end: int) -> bool:
        """Return whether there is anything to land: markers, and what was aborted, have offsets too."""
        return next(self._cluster.read(where, first, end), None) is not None

    def _firsts(self, ends: Mapping[Where, Bounds]) -> dict[Where, int]:
        if self._since_ms is None:
            return {where: at.start for where, at in ends.items()}
        since = self._cluster.first_since(list(ends), self._since_ms)
        found = {where: since.get(where) for where in ends}
        return {where: ends[where].end if at is None else at for where, at in found.items()}

    def _compare_topic(self, topic: str, where: Where, first: int, end: int, scored: int | None) -> None:
        """Compare offsets `first` up to `end` of one partition with every table that they land in."""
        audits = {source.name: self._audit(source, where) for source in sources_of(topic)}
        cards = self._audit(SCORECARDS_BY_INTERACTION, where) if topic == "interactions" else None
        for low, high, arrivals in self._chunks(where, first, end):
            wanted = expected_rows(topic, where[1], arrivals, is_swapped=self._is_swapped)
            for source in sources_of(topic):
                self._compare(
                    audits[source.name],
                    source,
                    wanted.get(source.table, {}),
                    arrivals=arrivals,
                    topic=topic,
                    span=(place_of(low), place_of(high)),
                )
            if cards is not None and scored is not None:
                self._compare_scored(cards, arrivals, (place_of(low), min(place_of(high), scored)))
            self._advance(high - low)

    def _is_swapped(self, card: Scorecard) -> bool:
        place = card.source_partition, split_place(card.source_offset)[0]
        return any(plan.has(*place, card.received_at_ms) for plan in self._swapped)

    def _compare_scored(self, audit: TableAudit, arrivals: Sequence[Arrival], span: tuple[int, int]) -> None:
        """Compare interactions with the scorecards that name them; both ends of this must have landed."""
        if any(text.startswith(topic_name("scorecards", self._prefix)) for text in self._report.untold):
            return
        wanted = {place: rows for place, rows in interactions_of(arrivals).items() if place < span[1]}
        self._compare(
            audit, SCORECARDS_BY_INTERACTION, wanted, arrivals=arrivals, topic="interactions", span=span
        )

    def _compare(
        self,
        audit: TableAudit,
        source: Source,
        wanted: Rows,
        *,
        arrivals: Sequence[Arrival],
        topic: str,
        span: tuple[int, int],
    ) -> None:
        by_offset = {arrival.offset: arrival for arrival in arrivals}
        looks = 0

        def is_replaced(place: int) -> bool:
            nonlocal looks
            looks += 1
            if looks > _LOOKS:
                return False
            offset, index = split_place(place)
            table = "interactions" if source is SCORECARDS_BY_INTERACTION else source.table
            same = identity_of(topic, audit.partition, by_offset[offset], index, table)
            return self._has_another(source, same, audit.partition, place)

        compare(audit, wanted, self._rows(source, audit.partition, *span), is_replaced=is_replaced)

    def _rows(self, source: Source, partition: int, first: int, end: int) -> Rows:
        if first >= end:
            return {}
        found = self._store.query(source.sql(), {"partition": partition, "first": first, "end": end})
        return {int(row["place"]): (int(row["n"]), int(row["digest"])) for row in found}

    def _has_another(self, source: Source, same: Mapping[str, Any], partition: int, place: int) -> bool:
        """Return whether the store has a row of the same identity from another place."""
        wheres = " AND ".join(f"{name} = {{{name}:String}}" for name in same)
        sql = (
            f"SELECT count() AS n FROM {source.table} WHERE {wheres} AND "  # noqa: S608 - our names
            f"({source.partition}, {source.place}) != ({{at:UInt32}}, {{place:UInt64}})"
        )
        (row,) = self._store.query(sql, {**same, "at": partition, "place": place})
        return int(row["n"]) > 0

    def _look_behind(self, topic: str, where: Where, end: int) -> None:
        """Count rows of places that the log has not reached: nobody can have written them rightly."""
        for source in sources_of(topic):
            found = self._rows(source, where[1], place_of(end), 2**64 - 1)
            if found:
                compare(self._audit(source, where), {}, found, is_replaced=lambda _: False)

    def _audit(self, source: Source, where: Where) -> TableAudit:
        for found in self._report.tables:
            if (found.table, found.topic, found.partition) == (source.name, *where):
                return found
        audit = TableAudit(table=source.name, topic=where[0], partition=where[1])
        self._report.tables.append(audit)
        return audit

    def _chunks(self, where: Where, first: int, end: int) -> Iterator[tuple[int, int, list[Arrival]]]:
        """Yield consecutive spans of offsets that together are `first` up to `end`, with their records."""
        low, size, arrivals = first, 0, list[Arrival]()
        for messages in self._cluster.read(where, first, end):
            arrivals += _read(messages)
            size += sum(len(message.value or b"") for message in messages)
            if size >= _CHUNK_BYTES or sum(len(one.records) for one in arrivals) >= _CHUNK_RECORDS:
                high = arrivals[-1].offset + 1
                yield low, high, arrivals
                low, size, arrivals = high, 0, []
        if low < end:
            yield low, end, arrivals


def _read(messages: Sequence[RawMessage]) -> list[Arrival]:
    return [read_message(message) for message in messages]


def _group_audit(
    group: str,
    where: Where,
    bounds: Bounds,
    committed: tuple[int, str] | None,
    place: int | None,
) -> GroupAudit:
    at = None if committed is None else committed[0]
    position = None if place is None else split_place(place)[0]
    problem = ""
    if at is not None and at > bounds.end:
        problem = f"it is at {at}, and the log ends at {bounds.end}"
    elif at is not None and position is not None and at > position:
        problem = f"it has committed {at}, and its state is at {position}"
    return GroupAudit(
        group=group,
        topic=where[0],
        partition=where[1],
        committed=at,
        position=position,
        lag=max(0, bounds.end - (bounds.start if at is None else at)),
        gap=0 if at is None else max(0, bounds.start - at),
        problem=problem,
    )
