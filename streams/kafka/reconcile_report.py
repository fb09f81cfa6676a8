"""What a reconciliation found: as text, JSON, readings and an exit code. Pure."""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from streams.health import Gauge

CLEAN, DIFFERENT, UNTOLD = 0, 1, 2
"""Exit codes: nothing to object to, differences, could not be told."""
EXAMPLES: Final = 5
"""How many places are named for each kind of difference of one table and partition."""


_OF_TABLES: Final = {
    "lost": "Rows that the log has and the store has not.",
    "doubled": "Rows more than the log has, without FINAL.",
    "stray": "Rows of places that the log has not.",
}
_OF_GROUPS: Final = {
    "gap_offsets": ("gap", "Offsets gone by retention before the group read them."),
    "lag_offsets": ("lag", "Offsets that the group has not read."),
    "repeated_envelopes": ("repeated", "Envelopes that a fence kept out."),
    "group_problems": ("problem", "Whether commits and state do not fit."),
}


class TableAudit(Struct, kw_only=True):
    """One table, as far as it comes from one partition of a topic.

    ``compared`` places were looked at. A place is *lost* if the log has it and the store has no, or not all,
    rows of it; *doubled* if the store has more rows of it than there are; *stray* if the log has no such
    record. *replaced* is not a difference: another record of the same identity took its row's place. The
    counts of lost and doubled are of rows.
    """

    table: str
    topic: str
    partition: int
    compared: int = 0
    lost: int = 0
    doubled: int = 0
    stray: int = 0
    replaced: int = 0
    examples: list[str] = []

    def is_clean(self) -> bool:
        """Return whether nothing differs."""
        return not (self.lost or self.doubled or self.stray)

    def name(self, kind: str, offset: int, index: int) -> None:
        """Add an example, if there are few of its kind yet."""
        if sum(text.startswith(kind) for text in self.examples) < EXAMPLES:
            self.examples = [*self.examples, f"{kind} {self.topic}/{self.partition}@{offset}#{index}"]


class GroupAudit(Struct, kw_only=True):
    """Where one group stands in one partition; ``position`` is that of its state, None without one.

    ``gap`` are offsets that retention took before the group read them, ``problem`` what is wrong else.
    """

    group: str
    topic: str
    partition: int
    committed: int | None
    lag: int
    position: int | None = None
    gap: int = 0
    repeated: int = 0
    problem: str = ""


class Report(Struct, kw_only=True):
    """All of a reconciliation; ``untold`` says what could not be compared, and why."""

    tables: list[TableAudit] = []
    groups: list[GroupAudit] = []
    untold: list[str] = []
    took_s: float = 0.0

    def exit_code(self) -> int:
        """Return 0 if all is clean, 1 if anything differs, 2 if something could not be told."""
        if any(not table.is_clean() for table in self.tables) or any(_is_wrong(one) for one in self.groups):
            return DIFFERENT
        return UNTOLD if self.untold else CLEAN

    def lines(self) -> Iterator[str]:
        """Yield the report as text: what differs, then a line that sums up."""
        for table in self.tables:
            if not table.is_clean():
                counts = f"lost {table.lost}, doubled {table.doubled}, stray {table.stray}"
                yield f"{table.table} from {table.topic}/{table.partition}: {counts}"
                yield from (f"  {text}" for text in table.examples)
        for one in self.groups:
            if _is_wrong(one):
                said = one.problem or f"{one.gap} offsets were gone by retention before it read them"
                yield f"group {one.group}, {one.topic}/{one.partition}: {said}"
        yield from (f"cannot tell: {text}" for text in self.untold)
        compared = sum(table.compared for table in self.tables)
        lost, doubled = (sum(getattr(one, kind) for one in self.tables) for kind in ("lost", "doubled"))
        yield (
            f"{compared} places compared in {self.took_s:.1f} s: lost {lost}, doubled {doubled}, "
            f"stray {sum(table.stray for table in self.tables)}, gaps {sum(one.gap for one in self.groups)}"
        )


def _is_wrong(one: GroupAudit) -> bool:
    return bool(one.gap or one.problem)


def readings(report: Report | None, *, failures: int) -> Iterable[Gauge]:
    """Return a report as readings of ``/metrics``; `failures` are the runs that ended without one."""
    yield Gauge(
        "reconcile_failures", "Runs that could not be finished.", (), {(): float(failures)}, is_counter=True
    )
    if report is None:
        return
    for kind, told in _OF_TABLES.items():
        values: dict[tuple[str, ...], float] = {
            (one.table, one.topic, str(one.partition)): float(getattr(one, kind)) for one in report.tables
        }
        yield Gauge(f"reconcile_{kind}_rows", told, ("table", "topic", "partition"), values)
    for name, (kind, told) in _OF_GROUPS.items():
        found: dict[tuple[str, ...], float] = {
            (one.group, one.topic, str(one.partition)): float(
                bool(one.problem) if kind == "problem" else getattr(one, kind)
            )
            for one in report.groups
        }
        yield Gauge(f"reconcile_{name}", told, ("group", "topic", "partition"), found)
    yield Gauge("reconcile_untold", "Things that could not be compared.", (), {(): float(len(report.untold))})
    yield Gauge("reconcile_seconds", "How long the last run took.", (), {(): report.took_s})
