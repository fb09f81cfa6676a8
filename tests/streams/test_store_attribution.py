"""What 0002 adds: who carries a change, and approvals; applied twice, and told apart."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from deploy.migrations import migrations
from detectors.records import Cell, Reference, Signal, StreamKey
from detectors.records.reference import name_reference
from streams.landing_rows import rows_of
from streams.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(path=tmp_path / "store")
    opened.migrate()
    yield opened
    opened.close()


def land(store: Store, *records) -> None:
    places = [(0, offset, record) for offset, record in enumerate(records)]
    for table, columns in rows_of(places).items():
        store.insert(table, columns, token=table)


def test_the_same_reference_approved_later_is_another_row(store):
    first = name_reference(
        Reference(
            reference_id="", deployment="d", release="1", segment="all", metric="helpful", scorer_version="1",
            n=4, mean=0.5, variance=0.25, first_ms=5, last_ms=9, cells={"plan=pro": Cell(4, 2.0, 1.5)},
        )
    )  # fmt: skip
    land(store, first, msgspec.structs.replace(first, approved_at_ms=50))
    rows = store.reader().query(
        "SELECT reference_id, toUnixTimestamp64Milli(approved_at) AS at_ms, cells "
        "FROM reference_points FINAL ORDER BY approved_at",
        {},
    )
    assert [(row["reference_id"], int(row["at_ms"]), row["cells"]) for row in rows] == [
        (first.reference_id, at, '{"plan=pro":[4,2.0,1.5]}') for at in (0, 50)
    ]


def test_a_signal_lands_with_who_carries_it(store):
    signal = Signal(
        signal_id="s", kind="status", stream=StreamKey("d", "1", "all", "helpful", "own"), at_ms=1, n=2,
        effect_n=70, split="mix", split_by="plan", within=-0.01, mix=-0.2, segments=("plan=pro",),
    )  # fmt: skip
    land(store, signal)
    (row,) = store.reader().query(
        "SELECT test, effect_n, split, split_by, within, mix, segments FROM signals FINAL", {}
    )
    assert (row["test"], int(row["effect_n"]), row["split"], row["split_by"]) == ("own", 70, "mix", "plan")
    assert (row["within"], row["mix"], list(row["segments"])) == (-0.01, -0.2, ["plan=pro"])


def test_a_migration_that_died_on_its_way_is_applied_again(store):
    """The ledger is written after the statements: between the two a process may die."""
    (second,) = [step for step in migrations() if step.version == 2]
    for statement in second.statements:
        store.define(statement)
