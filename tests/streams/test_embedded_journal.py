"""The journal: admission, order, pruning, damage, a full disk, and who may open it."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.records import Tick
from detectors.records.ids import partition_of
from streams.embedded.errors import StorageError
from streams.embedded.journal import Journal
from tests.streams.journal_entries import entry, feedback


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "journal.db", partitions=3)
    yield made
    made.close()


claims = st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=8), max_size=5)


@given(claims)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_admit_is_a_first_come_first_served_dictionary(tmp_path_factory, calls):
    journal = Journal(tmp_path_factory.mktemp("admit") / "journal.db", partitions=2)
    known: dict[int, int] = {}
    stored: list[int] = []
    number = 0
    for call in calls:
        expected, entries = [], []
        for identity, digest in call:
            first = known.get(identity)
            if first is None:
                known[identity] = digest
                stored.append(number)
            expected.append("accepted" if first is None else "duplicate" if first == digest else "conflict")
            entries.append(entry(number, identity=str(identity), digest=str(digest), key=str(identity)))
            number += 1
        assert journal.admit(entries) == expected
    rows = journal.read_topic("feedback", 0, 1_000)
    assert [row.record.event_time_ms for row in rows] == stored
    for part in (0, 1):
        offsets = [row.offset for row in journal.read("feedback", part, 0, 1_000)]
        assert offsets == list(range(journal.ends("feedback")[part]))
    journal.close()


def test_a_key_chooses_its_partition_and_no_key_means_all(journal):
    journal.admit([entry(1, key="a"), entry(2, key=None)])
    for part in range(3):
        numbers = [row.record.event_time_ms for row in journal.read("feedback", part, 0, 10)]
        assert numbers == ([1, 2] if part == partition_of("a", 3) else [2])


def test_a_block_that_raises_leaves_nothing(journal):
    def fail() -> None:
        with journal.transaction() as db:
            journal.append(db, [("feedback", 0, feedback(1))])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert journal.ends("feedback") == {0: 0, 1: 0, 2: 0}
    journal.admit([entry(2)])
    assert len(journal.read_topic("feedback", 0, 10)) == 1


def fill(journal: Journal) -> None:
    """Let the file grow no further: the engine then answers what it answers on a full disk."""
    (pages,) = journal.connection().execute("PRAGMA page_count").fetchone()
    journal.connection().execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_is_one_line_and_the_journal_goes_on_afterwards(journal):
    journal.admit([entry(1)])
    fill(journal)
    with pytest.raises(StorageError, match="free space on its disk") as caught:
        journal.admit([entry(number) for number in range(2, 5_000)])
    assert "\n" not in str(caught.value)
    assert len(journal.read_topic("feedback", 0, 10_000)) == 1
    journal.connection().execute("PRAGMA max_page_count = 1000000")
    assert journal.admit([entry(2)]) == ["accepted"]


def test_a_commit_that_fails_leaves_no_open_transaction(tmp_path):
    class Refusing(sqlite3.Connection):
        refusing = False

        def execute(self, sql, *arguments):
            if sql == "COMMIT" and self.refusing:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return super().execute(sql, *arguments)

    journal = Journal(tmp_path / "journal.db", partitions=1)
    journal._local.db = Refusing(tmp_path / "journal.db", isolation_level=None)
    journal._local.db.refusing = True
    with pytest.raises(StorageError, match="free space"):
        journal.admit([entry(1)])
    journal._local.db.refusing = False
    assert journal.admit([entry(1)]) == ["accepted"]
    journal._local.db.close()
    journal.close()


# ---- opening


def test_other_partitions_are_refused_with_the_remedy(tmp_path):
    Journal(tmp_path / "journal.db", partitions=4).close()
    with pytest.raises(StorageError, match="partitions = 4, but 5 is asked for: set it back to 4"):
        Journal(tmp_path / "journal.db", partitions=5)


def test_another_schema_is_refused(tmp_path):
    journal = Journal(tmp_path / "journal.db", partitions=1)
    journal.connection().execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    journal.close()
    with pytest.raises(StorageError, match="schema = 99"):
        Journal(tmp_path / "journal.db", partitions=1)


def damage(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * length)


def big_journal(path: Path) -> None:
    journal = Journal(path, partitions=1)
    journal.admit([entry(number) for number in range(3_000)])
    journal.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    journal.close()


@pytest.mark.parametrize("content", [b"not a database at all" * 50, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_none_is_one_line(tmp_path, content):
    (tmp_path / "journal.db").write_bytes(content)
    with pytest.raises(StorageError, match="restore it from a backup") as caught:
        Journal(tmp_path / "journal.db", partitions=1)
    assert "\n" not in str(caught.value)


def test_damage_in_the_header_is_one_line(tmp_path):
    big_journal(tmp_path / "journal.db")
    damage(tmp_path / "journal.db", 0, 64)
    with pytest.raises(StorageError, match="restore it from a backup"):
        Journal(tmp_path / "journal.db", partitions=1)


def test_damage_in_the_middle_is_told_where_it_is_met(tmp_path):
    path = tmp_path / "journal.db"
    big_journal(path)
    damage(path, 16 * 4096, path.stat().st_size - 16 * 4096)

    def use() -> None:
        journal = Journal(path, partitions=1)
        journal.read_topic("feedback", 0, 10_000)
        journal.admit([entry(-1)])

    with pytest.raises(StorageError) as caught:
        use()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_truncated_file_is_one_line(tmp_path):
    path = tmp_path / "journal.db"
    big_journal(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(StorageError, match=r"backup|damaged"):
        Journal(path, partitions=1).read_topic("feedback", 0, 10_000)


@pytest.mark.parametrize("payload", [b"{", b'{"source_partition":"x"}', b"\xff\xff", b""])
def test_a_damaged_record_names_its_place(journal, payload):
    with journal.transaction() as db:
        journal.append(db, [("interactions", 2, Tick(0, 5))])
        db.execute("UPDATE records SET payload = ?", (payload,))
    with pytest.raises(StorageError, match="interactions/2 offset 0 cannot be read"):
        journal.read_topic("interactions", 0, 10)


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(StorageError, match="make file and directory writable"):
        Journal(tmp_path / "absent" / "journal.db", partitions=1)


def test_what_was_committed_survives_a_new_opening(tmp_path):
    first = Journal(tmp_path / "journal.db", partitions=2)
    first.admit([entry(1)])
    second = Journal(tmp_path / "journal.db", partitions=2)
    assert second.journal_id == first.journal_id
    assert len(second.read_topic("feedback", 0, 10)) == 1
    assert second.admit([entry(1)]) == ["duplicate"]
    first.close()
    second.close()
