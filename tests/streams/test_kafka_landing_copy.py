"""Landing's second ledger: a group that forgets, or tells what was true before, loses and doubles nothing."""

import asyncio
import contextlib
from collections.abc import Collection, Iterator, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kafka.envelope import split_place
from streams.kafka.land_copy import Commit, CopiedGroup
from streams.kafka.land_ledger import LedgerError, Where
from streams.store import StoreError
from tests.streams.landing_world import CARDS, CrashError, Member, World, card, live, mixed

FAULTS = st.sampled_from(["ok", "ok", "ok", "die_before", "die_after"])
MEMORIES = st.sampled_from(["true", "true", "nothing", "older"])
HERE = (CARDS, 0)


class Copy:
    """A topic that outlives processes; `faults` says what comes of the next writes."""

    def __init__(self, faults: Iterator[str] | None = None) -> None:
        self.rows: dict[Where, Commit] = {}
        self.faults = faults or iter(())

    async def write(self, offsets: Mapping[Where, Commit]) -> None:
        fault = next(self.faults, "ok")
        if fault == "die_before":
            raise CrashError
        self.rows.update(offsets)
        if fault == "die_after":
            raise CrashError

    async def read(self, places: Collection[Where]) -> dict[Where, Commit]:
        return {where: self.rows[where] for where in places if where in self.rows}

    def of(self, member: Member) -> CopiedGroup:
        return CopiedGroup(member, read=self.read, write=self.write)


class Stored(World):
    """A world where landing is done when the rows are there: its group may not know it any more."""

    def is_landed(self) -> bool:
        return sorted(self.store.rows) == self.expected()

    def remember(self) -> dict[Where, int]:
        """Return the last offset of which there are rows, by partition."""
        found: dict[Where, int] = {}
        for _, topic, partition, place in self.store.rows:
            offset, _ = split_place(place)
            found[topic, partition] = max(offset, found.get((topic, partition), 0))
        return found


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 14), st.integers(1, 12)),
    inserts=st.lists(st.sampled_from(["ok", "die_before", "die_after", "unknown_after"]), max_size=6),
    commits=st.lists(FAULTS, max_size=8),
    copies=st.lists(FAULTS, max_size=8),
    memories=st.lists(MEMORIES, max_size=20),
)
def test_whatever_the_group_remembers_every_record_lands_once(
    size: tuple[int, int], inserts: list[str], commits: list[str], copies: list[str], memories: list[str]
) -> None:
    world, copy, (cards, batch) = Stored(), Copy(iter(copies)), size
    for partition in (0, 1):
        world.write((CARDS, partition), mixed(cards, f"c{partition}-"))
    world.store.faults = iter(inserts)
    faults, remembered = iter(commits), [dict(world.committed)]
    for memory in [*memories, *["true"] * (len(inserts) + len(commits) + len(copies) + 1)]:
        with contextlib.suppress(CrashError, StoreError):
            asyncio.run(live(world, faults, batch=batch, group=copy.of))
        remembered.append(dict(world.committed))
        if memory == "nothing":
            world.committed.clear()
        elif memory == "older":
            world.committed = dict(remembered[len(remembered) // 2])
        world.stored = world.remember()
    assert world.is_landed()


def told(world: World, copy: Copy) -> Commit | None:
    return asyncio.run(copy.of(Member(world)).committed({HERE}))[HERE]


def ours(offset: int, last: int | None = None, topic: str = "id-c") -> Commit:
    return offset, "plumbline-land-1" + ("" if last is None else f" before {last}") + f" of {topic}"


@pytest.mark.parametrize(
    ("group", "kept", "believed"),
    [
        (None, None, None),
        (None, ours(7), ours(7)),
        (ours(7), None, ours(7)),
        (ours(7), ours(7, 9), ours(7, 9)),
        (ours(7, 9), ours(7), ours(7, 9)),
        (ours(7, 9), ours(10), ours(10)),
        (ours(10), ours(7, 9), ours(10)),
        (ours(2, topic="n3w"), ours(7), ours(2, topic="n3w")),
        ((3, "of another program"), ours(7), (3, "of another program")),
        (None, (3, ""), (3, "")),
        (ours(3, 5), (3, ""), ours(3, 5)),
    ],
)
def test_the_one_that_is_further_is_believed(
    group: Commit | None, kept: Commit | None, believed: Commit | None
) -> None:
    world, copy = World(), Copy()
    if group is not None:
        world.committed[HERE] = group
    if kept is not None:
        copy.rows[HERE] = kept
    assert told(world, copy) == believed


def test_an_offset_that_was_set_by_hand_holds_and_goes_on_from_there() -> None:
    world, copy = World(), Copy()
    world.write(HERE, [card(f"c{index}") for index in range(9)], limit=1)
    copy.rows[HERE] = ours(world.end(HERE))
    world.committed[HERE] = (2, "")
    assert told(world, copy) == (2, "") == copy.rows[HERE]
    world.committed[HERE] = ours(2, 3)  # and it dies before this is copied
    assert told(world, copy) == ours(2, 3)


def test_without_commit_and_copy_what_the_store_has_is_not_landed_again() -> None:
    world, copy = World(), Copy()
    world.write(HERE, [card("c")])
    world.stored = {HERE: 0}
    with pytest.raises(LedgerError):
        asyncio.run(live(world, group=copy.of))


def test_who_may_not_commit_copies_nothing() -> None:
    world, copy = World(), Copy()
    member = Member(world)
    Member(world)
    with pytest.raises(RuntimeError, match="without this member"):
        asyncio.run(copy.of(member).commit({HERE: ours(7)}))
    assert not copy.rows
