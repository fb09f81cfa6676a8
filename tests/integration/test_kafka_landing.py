"""Landing on a real broker: into the embedded store's ClickHouse door over HTTP, and into a named server."""

import asyncio
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaAdminClient, TopicPartition

from streams.kafka.land_ledger import LedgerError, Range, before
from streams.kafka.land_worker import LandWorker
from streams.kafka.layout import topic_name
from streams.kafka.topics import TopicAdmin
from streams.settings import KafkaSettings, LandSettings, Settings, WorkerSettings
from streams.store import Store, open_store
from tests.integration.landing_log import alter, forget_copy, landed, make_again, set_offset, write
from tests.streams.clickhouse_door_world import WRITER, World, serving
from tests.streams.landing_world import card, label

pytestmark = pytest.mark.xdist_group("kafka")
PARTITIONS = 2


@pytest.fixture
def kafka(kafka_bootstrap: str, topic_prefix: str) -> KafkaSettings:
    chosen = KafkaSettings(
        bootstrap=kafka_bootstrap, topic_prefix=topic_prefix, partitions=PARTITIONS, replication=1
    )
    with TopicAdmin(chosen) as admin:
        admin.create()
    return chosen


@pytest.fixture
def door(tmp_path: Path) -> Iterator[World]:
    """A store of one log: of rows of another, landing would not know what to think."""
    store = open_store(path=tmp_path / "store-behind-a-door")
    store.migrate()
    with serving(store, max_execution_s=20.0) as made:
        yield made
    store.close()


@pytest.fixture(params=["door", "server"])
def dsn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Where a store is, and in which environment variable its password."""
    monkeypatch.setenv("TEST_STORE_PASSWORD", WRITER)
    if request.param == "door":
        return f"http://landing@127.0.0.1:{request.getfixturevalue('door').port}", "TEST_STORE_PASSWORD"
    named = os.environ.get("CLICKHOUSE_URL", "")
    if not named:
        pytest.skip("CLICKHOUSE_URL names no server")
    return named, ""


@pytest.fixture
def settings(kafka: KafkaSettings, dsn: tuple[str, str], tmp_path: Path) -> Settings:
    return Settings(
        data_dir=str(tmp_path),
        kafka=kafka,
        land=LandSettings(dsn=dsn[0], password_env=dsn[1], batch=50, flush_s=0.2),
        worker=WorkerSettings(session_s=6.0, drain_s=5.0),
    )


def places(store: Store, table: str, ids: str = "") -> list[tuple[int, int]]:
    chosen = f" WHERE startsWith(interaction_id, '{ids}')" if ids else ""
    rows = store.reader().query(
        f"SELECT src_partition AS p, src_offset AS o FROM {table}{chosen} ORDER BY p, o",  # noqa: S608
        {},
    )
    return [(row["p"], row["o"]) for row in rows]


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    opened = open_store(
        path=None,
        dsn=settings.land.dsn,
        password=os.environ["TEST_STORE_PASSWORD"] if settings.land.password_env else "",
    )
    opened.migrate()
    yield opened
    opened.close()


def test_labels_and_the_page_of_the_worker_that_owns_the_store(
    kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_READER", "reader-token")
    settings = msgspec.convert(
        {
            "data_dir": str(tmp_path),
            "kafka": msgspec.to_builtins(kafka),
            "door": {"port": 0},
            "clickhouse_door": {"enabled": True, "port": 0, "reader_token_env": "TEST_READER"},
            "worker": {"session_s": 6.0},
            "land": {"flush_s": 0.1},
        },
        Settings,
    )

    async def scenario() -> None:
        worker = LandWorker(settings, instance_id="owner")
        await worker.start()
        await write(kafka, "labels", 1, [label(f"l{index}") for index in range(20)])
        await landed(worker)
        assert len(places(worker.store, "labels")) == 20
        page = await asyncio.to_thread(_get, worker.page_url)
        assert b"Plumbline" in page
        answer = await asyncio.to_thread(
            _get, f"{worker.clickhouse_url}/?query=SELECT%20count()%20FROM%20labels&password=reader-token"
        )
        assert answer == b"20\n"
        await worker.stop()
        await worker.ended()

    asyncio.run(scenario())


class Dying:
    """Loses the machine at its third insert: after it was applied, or before."""

    def __init__(self, store: Store, *, applied: bool) -> None:
        self.store, self.applied, self.calls = store, applied, 0

    def answers(self) -> bool:
        return self.store.answers()

    def insert(self, table: str, columns: Any, *, token: str) -> int:
        return self.put(self.store.insert, table, columns, token)

    def complete(self, table: str, columns: Any, *, token: str) -> int:
        return self.put(self.store.complete, table, columns, token)

    def put(self, put: Any, table: str, columns: Any, token: str) -> int:
        self.calls += 1
        rows: int = put(table, columns, token=token) if self.calls < 3 or self.applied else 0
        if self.calls >= 3:
            raise OSError("the machine is gone")
        return rows


def test_it_lands_once_over_http_through_deaths_between_the_commits(settings: Settings, store: Store) -> None:
    run = secrets.token_hex(4)

    async def scenario() -> None:
        for partition in range(PARTITIONS):
            cards = [card(f"{run}-{partition}-{index}") for index in range(200)]
            await write(settings.kafka, "scorecards", partition, cards)
        for applied in (True, False, True):  # each dies in the middle of what it had begun
            worker = LandWorker(settings, instance_id="one")
            await worker.start()
            worker.lander._store = Dying(worker.store, applied=applied)
            with pytest.raises(OSError, match="gone"):
                await asyncio.wait_for(worker.ended(), 30)
            await worker.stop()
        worker = LandWorker(settings, instance_id="one")
        await worker.start()
        await landed(worker)
        assert worker.lander.counts.repeated > 0
        await worker.stop()
        await worker.ended()

    asyncio.run(scenario())
    found = places(store, "scorecards", run)
    assert len(found) == len(set(found)) == PARTITIONS * 200
    assert len(places(store, "scores", run)) == PARTITIONS * 400


def test_two_workers_share_and_a_rebalance_loses_and_doubles_nothing(
    settings: Settings, store: Store
) -> None:
    run = secrets.token_hex(4)

    async def scenario() -> None:
        first, second = (LandWorker(settings, instance_id=name) for name in ("one", "two"))
        await first.start()
        writing = asyncio.create_task(
            write(settings.kafka, "scorecards", 0, [card(f"{run}-a{index}") for index in range(300)])
        )
        await write(settings.kafka, "scorecards", 1, [card(f"{run}-b{index}") for index in range(100)])
        await second.start()
        await writing
        assert first.app.assignment() | second.app.assignment() >= {
            (topic_name("scorecards", settings.kafka.topic_prefix), part) for part in range(PARTITIONS)
        }
        assert second.app.assignment()
        await asyncio.gather(landed(first), landed(second))
        await first.stop()
        await second.stop()
        await first.ended()
        await second.ended()

    asyncio.run(scenario())
    found = places(store, "scorecards", run)
    assert len(found) == len(set(found)) == 400


def test_what_a_dead_worker_began_is_repeated_exactly(settings: Settings, store: Store) -> None:
    run = secrets.token_hex(4)
    where = (topic_name("scorecards", settings.kafka.topic_prefix), 0)

    async def scenario() -> None:
        await write(settings.kafka, "scorecards", 0, [card(f"{run}-{index}") for index in range(70)])
        worker = LandWorker(settings, instance_id="one")
        await worker.start()
        await landed(worker)
        # As if it had died between the insert and the second commit of the last range.
        ranges = {token.split("/")[3] for token in worker_tokens}
        first, last = max(tuple(map(int, one.split("-"))) for one in ranges)
        await worker.lander._group.commit({where: before(Range(first, last), worker_tokens[0].split("/")[0])})
        await worker.stop()
        again = LandWorker(settings, instance_id="one")
        await again.start()
        await landed(again)
        assert again.lander.counts.repeated == 1
        await again.stop()

    worker_tokens: list[str] = []
    original = Store.insert

    def noting(self: Store, table: str, columns: Any, *, token: str) -> int:
        worker_tokens.append(token)
        return original(self, table, columns, token=token)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Store, "insert", noting)
        asyncio.run(scenario())
    found = places(store, "scorecards", run)
    assert len(found) == len(set(found)) == 70


@pytest.mark.parametrize("dsn", ["door"], indirect=True)
def test_a_group_that_forgot_and_rows_that_are_landed_again_by_hand(settings: Settings, door: World) -> None:
    store = door.store
    where = TopicPartition(topic_name("labels", settings.kafka.topic_prefix), 0)

    async def land(rows: int) -> None:
        worker = LandWorker(settings, instance_id="")
        try:
            await worker.start()
            await landed(worker)
        finally:
            await worker.stop()
        store.define("OPTIMIZE TABLE labels FINAL")
        found = places(store, "labels")
        assert len(found) == len(set(found)) == rows

    asyncio.run(write(settings.kafka, "labels", 0, [label(f"l{index}") for index in range(30)]))
    asyncio.run(land(30))
    alter(settings.kafka, lambda admin, group: admin.delete_group_offsets(group, [where]))
    asyncio.run(land(30))  # goes on from the copy, and tells the group
    alter(settings.kafka, lambda admin, group: admin.delete_group_offsets(group, [where]))
    asyncio.run(forget_copy(settings.kafka, where))
    with pytest.raises(LedgerError, match=r"no offset for .*labels.v1/0.* --to-offset") as caught:
        asyncio.run(land(30))
    assert len(places(store, "labels")) == 30
    wanted = int(str(caught.value).split("--to-offset ")[1].split(",")[0])
    alter(settings.kafka, lambda admin, group: set_offset(admin, group, where, wanted))
    asyncio.run(land(30))
    # Rows that are gone are landed again from some records before the first of them.
    store.define(
        "ALTER TABLE labels DELETE WHERE label_id IN ('l20', 'l21', 'l22') SETTINGS mutations_sync = 1"
    )
    alter(settings.kafka, lambda admin, group: set_offset(admin, group, where, 2))
    asyncio.run(land(30))


@pytest.mark.parametrize("dsn", ["door"], indirect=True)
@pytest.mark.parametrize("count", [5, 40], ids=["shorter", "longer"])
def test_a_topic_that_was_made_anew_is_told_so(settings: Settings, door: World, count: int) -> None:
    name = topic_name("labels", settings.kafka.topic_prefix)

    async def land() -> None:
        worker = LandWorker(settings, instance_id="")
        try:
            await worker.start()
            await landed(worker)
        finally:
            await worker.stop()

    asyncio.run(write(settings.kafka, "labels", 0, [label(f"old{index}") for index in range(20)]))
    asyncio.run(land())
    with KafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap) as admin:
        admin.delete_topics([name])
    make_again(settings.kafka)
    asyncio.run(write(settings.kafka, "labels", 0, [label(f"new{index}") for index in range(count)]))
    with pytest.raises(LedgerError, match=r"made anew|another log") as caught:
        asyncio.run(land())
    assert f"--topic {name}:0 --to-earliest" in str(caught.value)
    assert len(places(door.store, "labels")) == 20
    where = TopicPartition(name, 0)
    alter(settings.kafka, lambda admin, group: set_offset(admin, group, where, 0))  # --to-earliest
    asyncio.run(land())
    found = door.store.reader().query("SELECT DISTINCT label_id AS id FROM labels", {})
    assert len(found) == 20 + count


def _get(url: str) -> bytes:
    import urllib.request  # noqa: PLC0415 - only here

    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - a loopback address
        return bytes(answer.read())
