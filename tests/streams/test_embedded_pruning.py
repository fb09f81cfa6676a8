"""What is read at once and what is deleted: batches bounded by bytes, and pruning that blocks nobody."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.records.ids import partition_of
from streams.embedded.journal import Journal
from tests.streams.journal_entries import entry, feedback, landed


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "journal.db", partitions=3)
    yield made
    made.close()


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
    texts = [feedback(n, "x" * size) for n, size in enumerate(sizes)]
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
