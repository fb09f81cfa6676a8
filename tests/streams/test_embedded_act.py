"""The act side: who hangs delays nobody else, and what is copied is copied once, at a constant cost."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest
from sqlalchemy import event

from streams.embedded.act import ActLoop
from streams.embedded.journal import Journal
from streams.notifiers import Permanent, Retryable
from streams.response import Ledger, ResponseMachine
from tests.streams.response_world import DECLARED, LIVE, START, Pager, Target, bucket, decision


class Hanging:
    """A receiver that takes a page and never answers."""

    name = "hanging"

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def notify(self, notice):
        self.asked.set()
        await asyncio.Event().wait()


@pytest.fixture
def world(tmp_path):
    made = SimpleNamespace(journal=Journal(tmp_path / "journal.db", partitions=1), target=Target())
    made.ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    made.pager, made.failures, made.now_ms = Pager(), [], START
    made.notifiers = {"pager": made.pager}
    yield made
    made.journal.close()
    made.ledger.close()


def loop_over(world) -> ActLoop:
    machine = ResponseMachine(
        ledger=world.ledger,
        notifiers=world.notifiers,
        targets={"*": world.target},
        settings=LIVE,
        clock=lambda: world.now_ms,
    )
    return ActLoop(
        world.journal, machine, step_s=0.005, on_failure=lambda *failure: world.failures.append(failure)
    )


def tell(world, *records) -> None:
    with world.journal.transaction() as db:
        world.journal.append(db, [("decisions", 0, record) for record in records])


async def until(fact) -> None:
    async with asyncio.timeout(15):
        while not fact():
            await asyncio.sleep(0.005)


def copies(world) -> list[tuple[str, str, int]]:
    rows = world.journal.read_topic("actions", 0, 10_000)
    return [(row.record.kind, row.record.state, row.record.seq) for row in rows]


def test_a_receiver_that_hangs_delays_no_call_to_the_gateway(world, monkeypatch):
    async def story():
        hanging = Hanging()
        world.notifiers = {"pager": hanging}
        act = loop_over(world)
        act.start()
        tell(world, *DECLARED, decision(1))
        async with asyncio.timeout(15):
            await hanging.asked.wait()
        await until(
            lambda: ("rollback", "VERIFYING", 2) in copies(world)
        )  # after the call: then time goes on
        tell(world, *[status for minute in range(1, 8) for status in bucket(minute, 0.0)])
        world.now_ms += 8 * 60_000
        await until(lambda: ("rollback", "ROLLED_BACK", 3) in copies(world))
        assert [one.state for one in act._machine.notices()] == ["pending", "pending"]
        monkeypatch.setattr("streams.acting._FINISH_S", 0.05)
        await act.close()
        assert world.failures == []

    asyncio.run(story())


def test_a_gateway_that_hangs_delays_no_page(world):
    async def story():
        asked, go = asyncio.Event(), asyncio.Event()

        async def current(deployment):
            asked.set()
            await go.wait()
            raise Retryable("away")

        world.target.current = current
        act = loop_over(world)
        act.start()
        tell(world, *DECLARED, decision(1))
        await asyncio.wait_for(asked.wait(), 15)
        tell(world, decision(2, release="2.5", verbs=("page",)))
        await until(lambda: len(world.pager.got) == 2)
        go.set()
        await act.close()
        assert world.failures == []

    asyncio.run(story())


def test_a_full_default_executor_does_not_stop_the_act_side(world):
    async def story():
        loop, go = asyncio.get_running_loop(), threading.Event()
        stuck = [loop.run_in_executor(None, go.wait, 60) for _ in range(64)]
        act = loop_over(world)
        act.start()
        try:
            tell(world, *DECLARED, decision(1))
            await until(lambda: world.target.moves and world.pager.got)
            await until(lambda: ("page", "DELIVERED", 1) in copies(world))
        finally:
            go.set()
        await asyncio.gather(*stuck)
        await act.close()

    asyncio.run(story())


def settle_one(world) -> ActLoop:
    """Return a loop after one decision was acted on, told and copied."""

    async def story():
        act = loop_over(world)
        act.start()
        tell(world, *DECLARED, decision(1))
        await until(lambda: world.pager.got and world.target.moves)
        await act.close()
        return act

    return asyncio.run(story())


def test_closing_copies_what_the_last_rounds_brought_forth(world):
    settle_one(world)
    assert sorted(copies(world)) == [
        ("page", "DELIVERED", 1),
        ("rollback", "DECIDED", 0),
        ("rollback", "EXECUTING", 1),
        ("rollback", "VERIFYING", 2),
    ]


def test_a_new_start_admits_nothing_again(world, monkeypatch):
    settle_one(world)
    offered = []
    monkeypatch.setattr(world.journal, "admit", offered.append)
    assert loop_over(world).copy() == 0
    assert offered == []


def test_a_crash_between_the_copy_and_its_mark_doubles_nothing(world, monkeypatch):
    settle_one(world)
    before = copies(world)
    with world.ledger.begin() as transaction:
        transaction.exec_driver_sql("UPDATE copied SET row_id = 0")
    assert loop_over(world).copy() == 4
    assert copies(world) == before


def test_an_idle_round_reads_no_row_of_the_past(world):
    act = settle_one(world)
    asked = []
    event.listen(world.ledger._engine, "before_cursor_execute", lambda *a: asked.append((a[2], a[3])))
    act.copy()
    assert len([sql for sql, _ in asked if sql.startswith("SELECT")]) == 2
    for sql, arguments in asked.copy():
        if sql.startswith("SELECT"):
            with world.ledger.begin() as transaction:
                assert transaction.exec_driver_sql(sql, arguments).fetchall() == []


def test_a_page_that_dies_is_copied_after_a_younger_one_that_arrived(world):
    async def story():
        act = loop_over(world)
        world.pager.script = [Retryable("later"), None, Permanent("status 404")]
        act.start()
        tell(world, decision(1, verbs=("page",)))
        await until(lambda: [one.attempts for one in act._machine.notices()] == [1])
        tell(world, decision(2, verbs=("page",)))
        await until(lambda: copies(world) == [("page", "DELIVERED", 1)])
        world.now_ms += 3_600_000
        await until(lambda: copies(world) == [("page", "DELIVERED", 1), ("page", "FAILED", 1)])
        await act.close()

    asyncio.run(story())


def test_a_failure_is_traced_without_the_text_it_carries(world, caplog):
    async def story():
        act = loop_over(world)

        def broken(*_):
            raise ValueError("what a user wrote")

        act._machine.ingest = broken
        act.start()
        tell(world, decision(1))
        await until(lambda: world.failures)
        await act.close()

    asyncio.run(story())
    assert [part for part, _ in world.failures] == ["act"]
    (line,) = [record.getMessage() for record in caplog.records if "failed" in record.getMessage()]
    assert "act (feed) failed: ValueError" in line
    assert "act.py:" in line
    assert "what a user wrote" not in caplog.text


def test_ages_of_rounds_are_those_of_the_tasks(world):
    async def story():
        act = loop_over(world)
        assert act.round_ages() == {}
        act.start()
        act._ended_s["deliver"] = time.monotonic() - 100.0
        assert act.round_ages()["act_deliver"] >= 100.0
        await until(lambda: act.round_ages()["act_deliver"] < 50.0)
        await act.close()
        assert set(act.round_ages()) == {"act_feed", "act_advance", "act_deliver"}

    asyncio.run(story())
