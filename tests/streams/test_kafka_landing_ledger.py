"""What the ledger of landing says when commits are gone, or a topic is not the one that it was."""

import asyncio
from collections.abc import Mapping
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

import streams.cli.worker as worker_command
from streams.kafka.land_fence import FencedError
from streams.kafka.land_ledger import LedgerError, Mark, Range, after, before, read_mark
from streams.kafka.land_ports import Topic
from streams.kafka.worker import WorkerOptions
from streams.settings import Settings
from tests.streams.landing_world import (
    CARDS,
    LABELS,
    TOPICS,
    CrashError,
    Member,
    World,
    card,
    label,
    live,
    make_lander,
    mixed,
)

ANEW = TOPICS | {LABELS: Topic("labels", "id-new", 2)}


@given(
    first=st.integers(0, 2**62),
    more=st.integers(0, 2**62),
    topic_id=st.from_regex(r"\A[A-Za-z0-9_-]{1,40}\Z"),
)
def test_what_is_committed_is_read_again(first: int, more: int, topic_id: str) -> None:
    chosen = Range(first, first + more)
    assert read_mark(("t", 0), before(chosen, topic_id)) == Mark(first, chosen, topic_id)
    assert read_mark(("t", 0), after(chosen, topic_id)) == Mark(first + more + 1, None, topic_id)


def labels_of(world: World, partition: int, count: int, name: str = "l") -> None:
    world.write((LABELS, partition), [label(f"{name}{partition}-{index}") for index in range(count)], limit=1)


def test_a_partition_that_never_landed_begins_beside_one_that_did() -> None:
    world = World()
    labels_of(world, 0, 5)
    world.write((CARDS, 0), mixed(3, "c"))
    asyncio.run(live(world))
    world.stored = {(LABELS, 0): 4, (CARDS, 0): 0}
    labels_of(world, 1, 5)
    asked: list[set[str]] = []

    def last_landed(topics: Mapping[str, Topic]) -> Mapping[tuple[str, int], int]:
        asked.append(set(topics))
        return world.stored

    asyncio.run(live(world, last_landed=last_landed))
    assert asked == [{LABELS}]  # a store with years in it is asked for what is in doubt only
    assert sorted(world.store.rows) == world.expected()


def test_a_range_that_was_begun_and_forgotten_is_not_doubled_under_another_token() -> None:
    world = World()
    world.write((CARDS, 0), [card("a"), card("b")], limit=1)
    asyncio.run(live(world))
    world.write((CARDS, 0), [card(f"c{index}") for index in range(4)], limit=1)
    world.store.faults = iter(["ok", "die_before"])  # the second table of the range stays behind
    with pytest.raises(CrashError):
        asyncio.run(live(world))
    assert world.committed[CARDS, 0] == (2, "plumbline-land-1 before 5 of id-c")
    landed = list(world.store.rows)
    del world.committed[CARDS, 0]
    world.stored = {(CARDS, 0): 5}
    with pytest.raises(LedgerError, match=r"set it to 6 with .* and reconcile"):
        asyncio.run(live(world))
    assert world.store.rows == landed
    # What reconcile then calls lost lands again from some records before it, as the README says.
    world.committed[CARDS, 0] = (1, "")
    asyncio.run(live(world))
    assert set(world.store.rows) == set(world.expected())
    assert world.is_landed()


@pytest.mark.parametrize("count", [2, 9], ids=["shorter", "longer"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_topic_that_was_made_anew_is_told_from_a_loss_and_passes_nothing_by(
    count: int, begun: bool
) -> None:
    world = World()
    labels_of(world, 0, 5)
    asyncio.run(live(world))
    if begun:
        world.committed[LABELS, 0] = before(Range(1, 4), "id-l")
    old = list(world.store.rows)
    world.logs.clear()
    labels_of(world, 0, count, "new")
    world.starts[LABELS, 0] = 0
    world.topic_ids[LABELS] = "id-new"
    for accept_loss in (False, True):
        with pytest.raises(LedgerError, match=r"was made anew .* --to-earliest") as caught:
            asyncio.run(live(world, topics=ANEW, accept_loss=accept_loss))
        assert len(str(caught.value).splitlines()) == 1
    assert world.store.rows == old
    world.committed[LABELS, 0] = (0, "")  # as the remedy says
    asyncio.run(live(world, topics=ANEW))
    assert sorted(world.store.rows) == sorted(old + world.expected())
    assert world.committed[LABELS, 0] == (count, "plumbline-land-1 of id-new")


def test_a_topic_made_anew_under_a_running_worker_does_not_land_under_the_old_tokens() -> None:
    world = World()
    labels_of(world, 0, 5)

    async def run() -> None:
        lander = make_lander(world, Member(world))
        await lander.on_assigned({(LABELS, 0)})
        await lander.on_revoked({(LABELS, 0)})
        for now in ({LABELS: "id-new"}, {}):
            world.topic_ids = now
            with pytest.raises(LedgerError, match="start it again"):
                await lander.on_assigned({(LABELS, 0)})
        assert lander.landed() == {}

    asyncio.run(run())


def test_rows_without_a_commit_may_be_of_a_topic_before_this_one() -> None:
    world = World()
    labels_of(world, 0, 9)
    world.stored = {(LABELS, 0): 4}
    with pytest.raises(LedgerError, match=r"--to-offset 5, .* made anew .* --to-earliest"):
        asyncio.run(live(world))
    assert world.store.rows == []


def test_a_worker_that_stood_still_ends_with_its_remedy_and_not_as_a_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[str, int]] = []

    def stall(*_arguments: object, **_more: object) -> NoReturn:
        raise FencedError("landing: this process stood still for 9.0 s: start it again")

    def end(message: str, code: int) -> NoReturn:
        told.append((message, code))
        raise SystemExit(code)

    monkeypatch.setattr(worker_command, "run_worker", stall)
    monkeypatch.setattr(worker_command, "_end", end)
    options = WorkerOptions(instance_id="", accept_loss=False, accept_floods=frozenset())
    with pytest.raises(SystemExit):
        worker_command._run_one(Settings(), "land", options, with_parent=False)
    assert told == [("land: landing: this process stood still for 9.0 s: start it again", 1)]
