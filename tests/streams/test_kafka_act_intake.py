"""Taking decisions in: where it goes on, what is passed by, and what is refused; without a broker."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kafka.act import DecisionIntake
from streams.kafka.envelope import RawMessage, place_of, seal
from streams.kafka.errors import BrokerError
from tests.streams.response_world import World, decision

TOPIC = "p.decisions.v1"


class Group:
    """A log of one partition with gaps, and what was committed."""

    def __init__(self, first: int = 0, end: int = 1_000) -> None:
        self.first, self.end, self.sought, self.done = first, end, [], []

    async def commit(self, offsets):
        self.done.append(offsets[TOPIC, 0][0])

    async def seek(self, where, offset):
        self.sought.append(offset)

    async def bounds(self, places):
        return dict.fromkeys(places, (self.first, self.end))


class Copies:
    def __init__(self) -> None:
        self.buried = []

    async def bury(self, partition, next_place, letters):
        self.buried += [(letter.offset, letter.stage, letter.reason) for letter in letters]


def message(offset: int, *records, value: bytes | None = None) -> RawMessage:
    if value is not None or not records:
        return RawMessage(TOPIC, 0, offset, 0, b"k", value, ())
    (sealed,) = seal(records, None)
    return RawMessage(TOPIC, 0, offset, 0, None, sealed.value, sealed.headers)


def intake_over(world: World, group: Group, **more) -> DecisionIntake:
    async def at_once(work):
        return work()

    made = DecisionIntake(world.machine, Copies(), in_thread=at_once, **more)
    made.group = group
    return made


def take(intake: DecisionIntake, *messages: RawMessage) -> None:
    asyncio.run(intake.on_batch(TOPIC, 0, messages))


def assign(intake: DecisionIntake) -> None:
    asyncio.run(intake.on_assigned({(TOPIC, 0)}))


def test_it_goes_on_behind_the_envelope_that_was_taken_last(tmp_path):
    world, group = World(tmp_path), Group()
    intake = intake_over(world, group)
    assign(intake)
    take(intake, message(3, decision(1), decision(2)), message(5, decision(3)))
    assert (group.sought, group.done, intake.taken) == ([0], [6], 3)
    assert world.machine.position(0) == place_of(5, 1)
    again = intake_over(world, group)
    assign(again)
    assert group.sought[-1] == 6


def test_what_is_given_again_is_taken_once(tmp_path):
    world, group = World(tmp_path), Group()
    intake = intake_over(world, group)
    first, second = message(3, decision(1)), message(5, decision(2))
    take(intake, first)
    take(intake, first, second)
    take(intake, second)
    assert intake.taken == 2
    assert len(world.machine.rulings()) == 2


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.data())
def test_any_redelivery_gives_the_same_ledger(tmp_path_factory, counts, data):
    world, group, number = World(tmp_path_factory.mktemp("act")), Group(), 0
    messages = []
    for offset, count in enumerate(counts):
        records = [decision(number + index, verbs=()) for index in range(count)]
        messages.append(message(2 * offset, *records))
        number += count
    intake, at = intake_over(world, group), 0
    while at < len(messages):
        start = data.draw(st.integers(0, at))  # a crash: the log is read again from somewhere before
        end = data.draw(st.integers(at + 1, len(messages)))
        take(intake, *messages[start:end])
        at = end
    assert len(world.machine.rulings()) == number == intake.taken
    assert world.machine.position(0) == place_of(2 * (len(counts) - 1), counts[-1])


def test_what_is_no_envelope_is_buried_and_its_neighbours_are_taken(tmp_path):
    world, group = World(tmp_path), Group()
    intake = intake_over(world, group)
    take(intake, message(1, value=b"poison"), message(2, decision(1)), message(3), message(4, value=b""))
    assert intake._copies.buried == [(offset, "act", "not_an_envelope") for offset in (1, 3, 4)]
    assert (intake.taken, group.done) == (1, [5])


def test_a_commit_that_is_refused_ends_it(tmp_path):
    world, group = World(tmp_path), Group()

    async def refuse(_offsets):
        raise BrokerError("kafka: the group has gone on without this member")

    group.commit = refuse
    with pytest.raises(BrokerError, match="gone on"):
        take(intake_over(world, group), message(1, decision(1)))


def test_a_fresh_ledger_begins_where_the_log_does(tmp_path):
    intake = intake_over(World(tmp_path), Group(first=70))
    assign(intake)
    assert intake.group.sought == [70]


@pytest.mark.parametrize(("first", "lost"), [(6, False), (7, True)])
def test_a_log_that_begins_later_has_lost_decisions(tmp_path, first, lost):
    world = World(tmp_path)
    take(intake_over(world, Group()), message(5, decision(1)))
    late = intake_over(world, Group(first=first))
    if lost:
        with pytest.raises(BrokerError, match=r"lost offsets 6 to 6: .*--accept-loss"):
            assign(late)
        accepting = intake_over(world, Group(first=first), accept_loss=True)
        assign(accepting)
        assert accepting.group.sought == [7]
    else:
        assign(late)
        assert late.group.sought == [6]


def test_a_log_that_ends_before_the_ledger_is_another_one(tmp_path):
    world = World(tmp_path)
    take(intake_over(world, Group()), message(5, decision(1)))
    with pytest.raises(BrokerError, match="belongs to another cluster or prefix"):
        assign(intake_over(world, Group(end=5)))


def test_what_is_revoked_is_forgotten(tmp_path):
    intake = intake_over(World(tmp_path), Group())
    assign(intake)
    asyncio.run(intake.on_revoked({(TOPIC, 0)}))
    assert intake.places == {}
