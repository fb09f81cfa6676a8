"""The journal: admission, order, pruning, damage, a full disk, and who may open it."""

import sqlite3
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.records import Feedback, Tick
from detectors.records.ids import partition_of
from streams.embedded.errors import StorageError
from streams.embedded.journal import Journal
from streams.inbox import Entry


def feedback(number: int) -> Feedback:
    return Feedback(
        deployment="d",
        feedback_id=str(number),
        interaction_id="i",
        kind="thumb",
        event_time_ms=number,
        received_at_ms=number,
        value=0.5,
    )


def entry(
    number: int, *, identity: str = "", digest: str = "", key: str | None = "k", topic="feedback"
) -> Entry:
    return Entry(
        topic=topic, key=key, record=feedback(number), identity=identity or f"f/{number}", digest=digest
    )


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


# ---- pruning


def landed(journal: Journal, topic: str, last_id: int, phase: str = "after") -> None:
    with journal.transaction() as db:
        db.execute("INSERT OR REPLACE INTO landings VALUES (?, 1, ?, ?)", (topic, last_id, phase))


def passed(journal: Journal, consumer: str, topic: str, part: int, offset: int) -> None:
    with journal.transaction() as db:
        db.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)", (consumer, topic, part, offset))


FUTURE = 2**60
TOPICS = ("interactions", "scorecards", "signals", "decisions", "feedback", "actions")
STAGES = {"interactions": "score", "scorecards": "detect", "signals": "decide"}


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_prune_keeps_what_somebody_still_needs(tmp_path_factory, data):
    journal = Journal(tmp_path_factory.mktemp("prune") / "journal.db", partitions=2)
    with journal.transaction() as db:
        places = data.draw(st.lists(st.tuples(st.sampled_from(TOPICS), st.integers(0, 1)), max_size=30))
        journal.append(db, [(topic, part, feedback(n)) for n, (topic, part) in enumerate(places)])
    read = {
        (topic, part): data.draw(st.integers(0, end))
        for topic in (*STAGES, "decisions")
        for part, end in journal.ends(topic).items()
        if data.draw(st.booleans())
    }
    for (topic, part), offset in read.items():
        if topic in STAGES:
            passed(journal, STAGES[topic], topic, part, offset)
    stored = {topic: data.draw(st.integers(0, len(places))) for topic in TOPICS if data.draw(st.booleans())}
    phases = {topic: data.draw(st.sampled_from(["before", "after"])) for topic in stored}
    for topic, last_id in stored.items():
        landed(journal, topic, last_id, phases[topic])
    before = {row.row_id: row for topic in TOPICS for row in journal.read_topic(topic, 0, 100)}
    act = {part: offset for (topic, part), offset in read.items() if topic == "decisions"}
    deleted = journal.prune(FUTURE, act)
    left = {row.row_id for topic in TOPICS for row in journal.read_topic(topic, 0, 100)}
    for row_id, row in before.items():
        unread = row.topic in (*STAGES, "decisions") and row.offset >= read.get((row.topic, row.partition), 0)
        unlanded = phases.get(row.topic) != "after" or row_id > stored[row.topic]
        assert (row_id in left) == (unread or unlanded), row
    assert deleted == len(before) - len(left)
    journal.close()


def test_prune_keeps_what_is_young_and_offsets_go_on(journal):
    journal.admit([entry(1), entry(2)])
    landed(journal, "feedback", 10)
    assert journal.prune(0, {}) == 0
    assert journal.prune(FUTURE, {}) == 2
    part = partition_of("k", 3)
    assert journal.ends("feedback")[part] == 2
    journal.admit([entry(3)])
    assert [row.offset for row in journal.read("feedback", part, 0, 10)] == [2]
    assert journal.read("feedback", part, 0, 10)[0].row_id > 2


def test_prune_stops_at_the_first_young_row_of_a_partition(journal):
    with journal.transaction() as db:
        journal.append(db, [("feedback", part, feedback(n)) for n in range(10) for part in (0, 1)])
        db.execute("UPDATE records SET written_at_ms = 5 WHERE NOT (part = 0 AND off = 4)")
        db.execute("UPDATE records SET written_at_ms = 50 WHERE part = 0 AND off = 4")
    landed(journal, "feedback", 1_000)
    assert journal.prune(10, {}) == 4 + 10
    assert [row.offset for row in journal.read("feedback", 0, 0, 100)] == [4, 5, 6, 7, 8, 9]


def test_prune_holds_the_write_lock_for_a_few_rows_at_a_time(journal, monkeypatch):
    monkeypatch.setattr("streams.embedded.journal._PRUNE_ROWS", 100)
    journal.admit([entry(number) for number in range(450)])
    landed(journal, "feedback", 1_000)
    statements: list[str] = []
    changed = [journal.connection().total_changes]
    largest = 0

    def watch(statement: str) -> None:
        nonlocal largest
        statements.append(statement)
        if statement == "COMMIT":
            largest = max(largest, journal.connection().total_changes - changed[0])
            changed[0] = journal.connection().total_changes

    journal.connection().set_trace_callback(watch)
    assert journal.prune(FUTURE, {}) == 450
    journal.connection().set_trace_callback(None)
    assert 0 < largest <= 100
    assert statements.count("COMMIT") >= 9
    assert journal.admit([entry(1)]) == ["accepted"]


def test_old_identities_are_found_by_their_age(journal):
    plan = journal.select(
        "EXPLAIN QUERY PLAN SELECT identity FROM identities "
        "WHERE seen_at_ms < 5 AND substr(identity, 1, 7) <> 'action/' LIMIT 10"
    )
    assert "identities_age" in plan[0][3]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 200), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_a_batch_ends_with_the_record_that_reaches_its_bytes(tmp_path_factory, sizes, max_bytes, limit):
    journal = Journal(tmp_path_factory.mktemp("bytes") / "journal.db", partitions=1)
    texts = [msgspec.structs.replace(feedback(n), comment="x" * size) for n, size in enumerate(sizes)]
    with journal.transaction() as db:
        journal.append(db, [("feedback", 0, one) for one in texts])
    everything = journal.read_topic("feedback", 0, 100)
    after, offset, seen = 0, 0, []
    while rows := journal.read_topic("feedback", after, limit, max_bytes=max_bytes):
        assert rows == journal.read("feedback", 0, offset, limit, max_bytes=max_bytes)
        assert sum(row.size for row in rows[:-1]) < max_bytes
        assert len(rows) == limit or sum(row.size for row in rows) >= max_bytes or rows[-1] == everything[-1]
        seen += rows
        after, offset = rows[-1].row_id, rows[-1].offset + 1
    assert seen == everything
    journal.close()


def test_copies_of_actions_are_known_for_ever(journal):
    journal.admit([entry(1, identity="action/a/1", topic="actions")])
    landed(journal, "actions", 10)
    journal.prune(FUTURE, {})
    assert journal.admit([entry(1, identity="action/a/1", topic="actions")]) == ["duplicate"]


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
