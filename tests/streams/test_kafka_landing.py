"""Landing from Kafka: once each, whatever happens between the two commits; nobody waits for the refused."""

import asyncio
import threading
from itertools import chain, repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kafka.errors import BrokerError
from streams.kafka.land_fence import Fence, FencedError
from streams.kafka.land_lane import LANE_BYTES, Arrival, Lane
from streams.kafka.land_ledger import LedgerError, Mark
from streams.store import StoreError
from tests.streams.landing_world import (
    CARDS,
    LABELS,
    CrashError,
    FakeStore,
    Member,
    World,
    card,
    feed,
    label,
    live,
    make_lander,
    mixed,
)

INSERT_FAULTS = [
    "ok",
    "ok",
    "die_before",
    "die_after",
    "unknown_before",
    "unknown_after",
    "unsent",
    "refused",
]
COMMIT_FAULTS = ["ok", "ok", "die_before", "die_after"]


def world_of(cards: int = 9, labels: int = 4, gap: int = 0) -> World:
    world = World()
    for partition in (0, 1):
        world.write((CARDS, partition), mixed(cards, f"c{partition}-"), gap=gap)
        world.write((LABELS, partition), [label(f"l{partition}-{index}") for index in range(labels)], gap=gap)
    return world


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    cards=st.integers(0, 14),
    gap=st.integers(0, 2),
    batch=st.integers(1, 12),
    inserts=st.lists(st.sampled_from(INSERT_FAULTS), max_size=10),
    commits=st.lists(st.sampled_from(COMMIT_FAULTS), max_size=8),
)
def test_wherever_it_dies_every_record_lands_once(
    cards: int, gap: int, batch: int, inserts: list[str], commits: list[str]
) -> None:
    world = world_of(cards, gap=gap)
    world.store.faults = iter(inserts)
    faults = iter(commits)
    for _ in range(len(inserts) + len(commits) + 1):
        try:
            asyncio.run(live(world, faults, batch=batch))
        except (CrashError, StoreError):
            continue
        break
    assert world.is_landed()
    assert sorted(world.store.rows) == world.expected()


def test_a_quiet_life_commits_before_and_after_for_all_partitions_at_once() -> None:
    world = world_of()

    async def run() -> tuple[Member, Any]:
        member = Member(world)
        lander = make_lander(world, member, batch=100, flush_s=5.0)
        await lander.on_assigned(set(world.logs))
        feeding = asyncio.create_task(feed(world, member, lander, chunk=50))
        running = asyncio.create_task(lander.run())
        while not world.is_landed():
            await asyncio.sleep(0.001)
        feeding.cancel()
        lander.stop(0.0)
        await running
        return member, lander

    member, lander = asyncio.run(run())
    for topic in (CARDS, LABELS):  # labels may come later: they wait longer
        begun, done = [commit for commit in member.commits if (topic, 0) in commit]
        places = {where for where in world.logs if where[0] == topic}
        assert places <= begun.keys() == done.keys()
        for where in places:
            topic_id = world.topic_ids[topic]
            assert begun[where] == (0, f"plumbline-land-1 before {world.end(where) - 1} of {topic_id}")
            assert done[where] == (world.end(where), f"plumbline-land-1 of {topic_id}")
    assert lander.landed() == {where: world.end(where) for where in world.logs}
    assert lander.counts.rows["labels"] == 8


def test_what_somebody_looks_at_first_lands_first() -> None:
    world = World()
    world.write((LABELS, 0), [label("l")])
    world.write((CARDS, 1), [card("b")])
    world.write((CARDS, 0), [card("a")])

    async def run() -> None:
        lander = make_lander(world, Member(world), flush_s=1e6)
        await lander.on_assigned(set(world.logs))
        for where, log in world.logs.items():
            await lander.on_batch(*where, log)
        lander.stop(1e6)
        await lander.run()

    asyncio.run(run())
    inserted = list(dict.fromkeys((table, partition) for table, _, partition, _ in world.store.rows))
    assert inserted == [("scorecards", 0), ("scores", 0), ("scorecards", 1), ("scores", 1), ("labels", 0)]


@pytest.mark.parametrize(("topic", "flushes"), [("scorecards", 1), ("interactions", 1), ("labels", 4)])
def test_what_comes_seldom_waits_for_more_of_it(topic: str, flushes: int) -> None:
    lane = Lane(("t", 0), topic, Mark(0))
    lane.take([Arrival(0, 1, [label("l")])], 10.0)
    assert lane.due_s(0.5) == 10.0 + 0.5 * flushes
    assert not lane.is_due(9.9 + 0.5 * flushes, batch=5, flush_s=0.5)
    assert lane.is_due(10.0 + 0.5 * flushes, batch=5, flush_s=0.5)
    assert lane.is_due(10.0, batch=1, flush_s=0.5)


def test_a_late_insert_of_a_fenced_worker_changes_nothing() -> None:
    world = World()
    world.write((CARDS, 0), mixed(6, "c"))

    async def run() -> None:
        slow, world.store = FakeStore(gate=threading.Event()), FakeStore()
        member = Member(world)
        lander = make_lander(world, member)
        lander._store = slow
        slow.tokens, slow.rows = world.store.tokens, world.store.rows  # one store, two connections
        await lander.on_assigned(set(world.logs))
        feeding = asyncio.create_task(feed(world, member, lander))
        running = asyncio.create_task(lander.run())
        assert await asyncio.to_thread(slow.inside.wait, 20)
        await live(world)  # the successor takes the partition over and lands it all
        assert sorted(world.store.rows) == world.expected()
        assert slow.gate is not None
        slow.gate.set()
        with pytest.raises(BrokerError, match="gone on"):
            await running
        feeding.cancel()

    asyncio.run(run())
    assert sorted(world.store.rows) == world.expected()


def test_an_outcome_nobody_knows_ends_the_process_and_commits_nothing_more() -> None:
    world = world_of()
    world.store.faults = iter(["unknown_after"])
    with pytest.raises(StoreError):
        asyncio.run(live(world))
    assert any(" before " in metadata for _, metadata in world.committed.values())
    asyncio.run(live(world))
    assert sorted(world.store.rows) == world.expected()


def test_a_store_that_is_away_is_waited_for_and_the_group_stays() -> None:
    world = world_of()
    world.store.away = True

    async def run() -> None:
        living = asyncio.create_task(live(world))
        await asyncio.sleep(0.1)
        assert not living.done()
        assert world.committed == {}  # nothing is begun that could not be inserted
        world.store.away = False
        lander = await living
        assert lander.problem == ""

    asyncio.run(run())
    assert sorted(world.store.rows) == world.expected()


def test_a_refused_topic_holds_up_nobody_and_lands_when_it_may() -> None:
    world = World()
    world.write((LABELS, 0), [label(f"l{index}" + "x" * 50_000) for index in range(3 * LANE_BYTES // 50_000)])
    for part in range(20):
        world.write((CARDS, 0), mixed(5, f"c{part}-"))
    world.store.refuses = "labels"

    async def run() -> None:
        living = asyncio.create_task(live(world, batch=200))
        async with asyncio.timeout(20):
            while not world.has_landed((CARDS, 0)):
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.2)
        assert "labels" not in {table for table, *_ in world.store.rows}
        world.store.refuses = ""
        await living

    asyncio.run(run())
    assert sorted(world.store.rows) == world.expected()


def test_a_second_table_that_is_refused_does_not_repeat_the_first() -> None:
    world = World()
    world.write((CARDS, 0), [card("c", 3)])
    world.store.faults = chain(["ok", "refused", "refused"], repeat("ok"))
    asyncio.run(live(world))
    assert sorted(world.store.rows) == world.expected()
    assert len(world.store.tokens) == 2


@pytest.mark.parametrize(("topic", "letters"), [(CARDS, 0), (LABELS, 1)])
def test_what_no_stage_reads_becomes_a_dead_letter_here(topic: str, letters: int) -> None:
    world = World()
    records = [card("a")] if topic == CARDS else [label("a")]
    world.write((topic, 0), records)
    world.write_raw((topic, 0), b"\xff not an envelope")
    world.write((topic, 0), records)
    lander = asyncio.run(live(world))
    assert sorted(world.store.rows) == world.expected()
    assert sum(lander.counts.unreadable.values()) == 1
    assert [letter.value for letter in world.buried] == [b"\xff not an envelope"] * letters
    assert [(letter.topic, letter.partition) for letter in world.buried] == [(f"{topic}.dlq", 0)] * letters


def test_what_retention_took_is_told_and_only_passed_by_when_accepted() -> None:
    world = World()
    for index in range(6):
        world.write((CARDS, 0), [card(f"c{index}")])
    world.committed[(CARDS, 0)] = (1, "plumbline-land-1 before 4 of id-c")
    world.starts[(CARDS, 0)] = 3
    del world.logs[(CARDS, 0)][:3]
    with pytest.raises(LedgerError, match=r"offsets 1 to 2 of p\.scorecards\.v1/0 .* --accept-loss"):
        asyncio.run(live(world))
    lander = asyncio.run(live(world, accept_loss=True))
    assert lander.counts.lost == {"scorecards": 2}
    assert sorted(world.store.rows) == world.expected()
    assert "id-c/p.scorecards.v1/0/1-4/scorecards" in world.store.tokens  # what was begun keeps its name


@pytest.mark.parametrize(
    "committed",
    [
        (1, "somebody else's"),
        (9, ""),
        (1, "plumbline-land-1 before 9 of id-c"),
        (2, "plumbline-land-1 before 1"),
    ],
)
def test_a_ledger_that_cannot_be_gone_on_from_is_an_error(committed: tuple[int, str]) -> None:
    world = World()
    world.write((CARDS, 0), [card("c")] * 3, limit=1)
    world.committed[(CARDS, 0)] = committed
    with pytest.raises(LedgerError):
        asyncio.run(live(world))
    assert world.store.rows == []


def test_partitions_leave_after_the_flush_at_hand_and_nothing_of_them_is_kept() -> None:
    world = world_of()

    async def run() -> None:
        world.store.gate = threading.Event()
        member = Member(world)
        lander = make_lander(world, member)
        await lander.on_assigned(set(world.logs))
        feeding = asyncio.create_task(feed(world, member, lander))
        running = asyncio.create_task(lander.run())
        assert await asyncio.to_thread(world.store.inside.wait, 20)
        member.leaving.set()
        leaving = asyncio.create_task(lander.on_revoked(set(world.logs)))
        await asyncio.sleep(0.01)
        assert not leaving.done()
        world.store.gate.set()
        await leaving
        assert lander.landed() == {}
        assert all(" before " not in metadata for _, metadata in world.committed.values())
        feeding.cancel()
        lander.stop(0.0)
        await running

    asyncio.run(run())
    world.store.gate = None
    asyncio.run(live(world))
    assert sorted(world.store.rows) == world.expected()


def test_a_process_that_stood_still_writes_no_more() -> None:
    now = [100.0]
    fence = Fence(5.0, clock=lambda: now[0])
    fence.check()  # before the first beat nothing is fenced
    fence.beat()
    now[0] += 4.9
    fence.beat()
    now[0] += 5.1
    with pytest.raises(FencedError, match=r"5\.1 s"):
        fence.beat()
    with pytest.raises(FencedError):
        fence.check()  # for ever

    world = world_of()
    with pytest.raises(FencedError):
        asyncio.run(live(world, fence=fence))
    assert world.store.rows == []


def test_a_group_that_forgot_its_offsets_does_not_land_again_what_the_store_has() -> None:
    world = World()
    for partition in (0, 1):
        world.write((LABELS, partition), [label(f"l{partition}-{index}") for index in range(9)])
    asyncio.run(live(world))
    landed = sorted(world.store.rows)
    last = world.end((LABELS, 1)) - 1
    world.stored = {(LABELS, 1): last}
    del world.committed[LABELS, 1]
    with pytest.raises(LedgerError, match=rf"no offset for {LABELS}/1.* --to-offset {last + 1}") as caught:
        asyncio.run(live(world))
    assert len(str(caught.value).splitlines()) == 1
    assert sorted(world.store.rows) == landed
    world.committed[LABELS, 1] = (last + 1, "")  # as the remedy says
    world.write((LABELS, 1), [label("new")])
    asyncio.run(live(world))
    assert sorted(world.store.rows) == world.expected()


def test_rows_of_another_log_are_told_apart_from_an_offset_that_expired() -> None:
    world = World()
    world.write((LABELS, 0), [label("a")])
    world.stored = {(LABELS, 0): 500}
    with pytest.raises(LedgerError, match=r"another log.*--to-earliest"):
        asyncio.run(live(world))
