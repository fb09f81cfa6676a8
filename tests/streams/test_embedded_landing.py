"""Landing into a real engine: exactly once, whatever an insert answers and wherever the process dies."""

import time
from collections.abc import Iterator

import msgspec
import pytest

from detectors.records import Interaction, Tick
from streams.embedded.errors import StorageError
from streams.embedded.journal import Journal
from streams.embedded.landing import Lander
from streams.embedded.threads import LandThread
from streams.inbox import Entry
from streams.store import Store, StoreError, open_store
from tests.conftest import admitted, support_payloads

COUNT = 60


def entries(count: int, *, seed: int = 3) -> list[Entry]:
    """Return admitted traffic that arrived now: the store keeps records for a time from their arrival."""
    now_ms = time.time_ns() // 1_000_000
    return [
        msgspec.structs.replace(entry, record=msgspec.structs.replace(entry.record, received_at_ms=now_ms))
        if isinstance(entry.record, Interaction)
        else entry
        for entry in admitted(support_payloads(count, seed=seed, canary_from=30))
    ]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = open_store(path=tmp_path_factory.mktemp("landing") / "store")
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def store(engine: Store) -> Store:
    for table in ("interactions", "interaction_text", "releases"):
        engine._client.command(f"TRUNCATE TABLE {table}")
    return engine


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "journal.db", partitions=2)
    made.admit(entries(COUNT))
    with made.transaction() as db:
        made.append(db, [("interactions", 0, Tick(0, 5))])
    yield made
    made.close()


class Flaky:
    """A store whose inserts end as the plan says: None as usual, else with an error before or after."""

    def __init__(self, store: Store, plan: list[str | None]) -> None:
        self.store, self.plan = store, plan

    def insert(self, table, columns, *, token):
        return self.put(self.store.insert, table, columns, token)

    def complete(self, table, columns, *, token):
        return self.put(self.store.complete, table, columns, token)

    def put(self, put, table, columns, token):
        end = self.plan.pop(0) if self.plan else None
        if end == "refused":
            raise StoreError("cannot insert: ClickHouse error 252", code=252)
        if end == "away":
            raise StoreError("cannot insert: ConnectionError")
        rows = put(table, columns, token=token)
        if end == "applied":
            raise StoreError("cannot insert: the answer was lost")
        if end == "killed":
            raise KeyboardInterrupt  # what the code never handles: the process ends here
        return rows


def counts(store: Store, table: str = "interactions", column: str = "interaction_id") -> tuple[int, int]:
    (row,) = store.reader().query(f"SELECT count() AS n, uniqExact({column}) AS ids FROM {table}", {})  # noqa: S608
    return int(row["n"]), int(row["ids"])


def land_all(lander: Lander) -> None:
    for _ in range(1_000):
        try:
            if not lander.land_once():
                return
        except (StoreError, KeyboardInterrupt):
            continue
    raise AssertionError("landing does not come to an end")


PLANS: dict[str, list[str | None]] = {
    "never": [],
    "refused at first": ["refused"] * 7,
    "the answer is lost": ["applied"] * 7,
    "killed after the insert": ["killed", None, None, "killed", "killed"],
    "everything": ["refused", "applied", "killed", None, "applied", None, "refused", "killed", None] * 3,
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_everything_lands_once(journal, store, plan):
    flaky = Flaky(store, list(plan))
    land_all(Lander(journal, flaky, batch=17))
    for table in ("interactions", "interaction_text"):
        assert counts(store, table) == (COUNT, COUNT), table
    assert counts(store, "releases", "(release, started_at)") == (2, 2)
    assert set(Lander(journal, store, batch=17).lag().values()) == {0}


def test_a_process_that_dies_between_mark_and_insert_repeats_its_range(journal, store, monkeypatch):
    lander = Lander(journal, store, batch=25)
    monkeypatch.setattr(lander, "_insert", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        lander.land_once()
    assert counts(store) == (0, 0)
    before = Lander(journal, store, batch=25)._ledger()["interactions"]
    assert before[2] == "before"
    calls: list[tuple[str, str]] = []

    class Recording:
        def insert(self, table, columns, *, token):
            calls.append(("insert", token))
            return store.insert(table, columns, token=token)

        def complete(self, table, columns, *, token):
            calls.append(("complete", token))
            return store.complete(table, columns, token=token)

    # More records and another batch size must not change the range that is repeated.
    journal.admit(entries(COUNT + 20))
    land_all(Lander(journal, Recording(), batch=1_000))
    tried = f"{journal.journal_id}/interactions/{before[0]}-{before[1]}/interactions"
    assert calls[0] == ("complete", tried)
    assert counts(store) == (COUNT + 20, COUNT + 20)


def test_a_new_journal_over_an_old_store_is_no_repetition(tmp_path, store):
    for name, seed in (("one", 1), ("two", 2)):
        journal = Journal(tmp_path / f"{name}.db", partitions=1)
        journal.admit(entries(10, seed=seed))
        land_all(Lander(journal, store, batch=100))
        journal.close()
    (row,) = store.reader().query("SELECT count() AS n FROM interactions", {})
    assert row["n"] == 20


def test_what_is_not_landed_is_not_pruned(journal, store):
    flaky = Flaky(store, ["refused"] * 3)
    with pytest.raises(StoreError):
        Lander(journal, flaky, batch=5).land_once()
    with journal.transaction() as db:
        for part, end in journal.ends("interactions").items():
            db.execute("INSERT INTO positions VALUES ('score', 'interactions', ?, ?)", (part, end))
    assert journal.prune(2**60, {}) == 0
    land_all(Lander(journal, flaky, batch=5))
    assert counts(store) == (COUNT, COUNT)
    assert journal.prune(2**60, {}) > COUNT
    rows = journal.read_topic("interactions", 0, 1_000)
    assert not [row for row in rows if isinstance(row.record, Interaction)]


def land_thread(lander, journal, failures):
    return LandThread(
        lander,
        journal,
        flush_s=0.01,
        retention_s=60.0,
        act_positions=dict,
        on_failure=lambda part, error: failures.append((part, error)),
    )


def test_the_thread_waits_for_a_store_that_is_away_and_says_so(journal, store):
    failures: list = []
    thread = land_thread(Lander(journal, Flaky(store, ["away", "away"]), batch=1_000), journal, failures)
    assert thread.work() == 1.0
    assert thread.problem == "cannot insert: ConnectionError"
    assert thread.work() == 2.0
    assert thread.work() == 0.01
    assert thread.problem == ""
    assert counts(store) == (COUNT, COUNT)
    assert failures == []


def test_stopping_lands_what_is_left_and_a_refusal_does_not_stop_the_stop(journal, store):
    failures: list = []
    thread = land_thread(Lander(journal, store, batch=7), journal, failures)
    thread.finish()
    assert counts(store) == (COUNT, COUNT)
    journal.admit(entries(COUNT + 5))
    thread = land_thread(Lander(journal, Flaky(store, ["refused"] * 9), batch=7), journal, failures)
    thread.start()
    thread.stop()
    assert not thread.is_alive()
    assert failures == []


def test_a_batch_ends_at_its_bytes_and_the_next_follows_at_once(journal, store, monkeypatch):
    size = sum(row.size for row in journal.read_topic("interactions", 0, 1_000))
    monkeypatch.setattr("streams.embedded.landing.BATCH_BYTES", size // 4)
    lander = Lander(journal, store, batch=1_000)
    thread = land_thread(lander, journal, [])
    pauses = []
    while (pause_s := thread.work()) == 0.0:
        pauses.append(pause_s)
    assert 3 <= len(pauses) <= 4
    assert counts(store) == (COUNT, COUNT)


def test_stopping_does_not_land_for_ever(journal, store, monkeypatch):
    monkeypatch.setattr("streams.embedded.threads._FINISH_S", -1.0)
    land_thread(Lander(journal, store, batch=7), journal, []).finish()
    assert 0 < counts(store)[0] < COUNT
    land_all(Lander(journal, store, batch=7))
    assert counts(store) == (COUNT, COUNT)


def test_a_damaged_journal_ends_the_thread_and_is_reported(journal, store):
    with journal.transaction() as db:
        db.execute("UPDATE records SET payload = '{' WHERE topic = 'releases'")
    failures: list = []
    thread = land_thread(Lander(journal, store, batch=100), journal, failures)
    thread.start()
    thread.join(10)
    ((part, error),) = failures
    assert part == "land"
    assert isinstance(error, StorageError)
