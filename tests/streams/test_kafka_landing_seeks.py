"""A refused topic is passed by and read again: in whatever order what happens, each record lands once."""

import asyncio
from itertools import chain, count, cycle, repeat
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.kafka import land_lane
from streams.kafka.envelope import RawMessage
from streams.kafka.land_lane import Arrival, Lane, read_message
from streams.kafka.land_ledger import Mark
from tests.streams.landing_reader import Reader
from tests.streams.landing_world import LABELS, World, label, make_lander

WHERE = (LABELS, 0)
SMALL = 2_500  # a lane is full after a few labels


def land_all(
    ticks: list[int], faults: list[str], *, labels: int = 24, batch: int = 2
) -> tuple[World, Reader]:
    """Return what came of landing `labels`: with `faults` first, and steps that take `ticks`."""
    world = World()
    world.write(WHERE, [label(f"l{index}") for index in range(labels)], limit=1)
    world.store.faults = chain(faults, repeat("ok"))

    async def run() -> Reader:
        reader = Reader(world, WHERE, cycle(ticks))
        seconds = count(0.0, 100.0)  # whatever waits for its time need not wait
        lander = make_lander(world, reader, batch=batch, clock=lambda: next(seconds))
        with mock.patch("asyncio.to_thread", reader.in_thread):
            await lander.on_assigned({WHERE})
            tasks = [asyncio.create_task(reader.read(lander)), asyncio.create_task(lander.run())]
            for _ in range(20_000):
                if world.is_landed() or any(task.done() for task in tasks):
                    break
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [error for error in ended if isinstance(error, Exception)] == []
        return reader

    with mock.patch.object(land_lane, "LANE_BYTES", SMALL):
        return world, asyncio.run(run())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    ticks=st.lists(st.integers(0, 12), min_size=1, max_size=23),
    faults=st.lists(st.sampled_from(["ok", "refused", "refused", "unsent"]), max_size=40),
    batch=st.integers(1, 4),
)
@example(ticks=[0, 1, 5, 2], faults=["refused"] * 30, batch=1)
def test_in_any_order_of_batches_flushes_and_seeks_each_record_lands_once(
    ticks: list[int], faults: list[str], batch: int
) -> None:
    world, _ = land_all(ticks, faults, batch=batch)
    assert world.store.rows == world.expected()
    assert world.is_landed()


def test_the_reader_really_goes_back() -> None:
    _, reader = land_all([0, 1, 5, 2], ["refused"] * 30)
    assert reader.seeks > 1  # one of them is where it began


def arrivals(*offsets: int) -> list[Arrival]:
    return [Arrival(offset, 1_100_000, ()) for offset in offsets]


def test_nothing_is_taken_before_the_reader_has_gone_back() -> None:
    lane = Lane(("t", 0), "labels", Mark(0))
    lane.take(arrivals(0, 1), 0.0)
    lane.form(1, 0.0)
    lane.failed(0.0, refused=True)
    lane.take(arrivals(2, 3, 4, 5), 0.0)
    assert not lane.take(arrivals(6, 7), 0.0)
    lane.landed()
    while lane.gap() is None:
        lane.form(1, 0.0)
        lane.landed()
    assert lane.gap() == 6
    assert not lane.take(arrivals(8), 0.0)  # it is still on its way back
    assert not lane.is_idle()
    lane.resume()
    assert lane.gap() is None
    assert lane.take(arrivals(6, 7, 8), 0.0)
    while not lane.is_idle():
        last = lane.form(100, 0.0).range.last
        lane.landed()
    assert last == 8


def test_what_a_record_costs_is_more_than_its_value() -> None:
    headers = tuple((f"h{index}", b"x" * 1_000) for index in range(10))
    bare = read_message(RawMessage("t", 0, 0, 0, None, b"", ()))
    laden = read_message(RawMessage("t", 0, 1, 0, b"k" * 300, b"v" * 40, headers))
    assert bare.size >= 200
    assert laden.size >= bare.size + 300 + 40 + 10 * 1_002


def test_headers_without_values_fill_a_lane() -> None:
    lane, taken = Lane(WHERE, "labels", Mark(0)), 0
    while not lane.is_full():
        message = RawMessage(*WHERE, taken, 0, b"", b"", (("x", b"y" * 1_000),))
        lane.take([read_message(message)], 0.0)
        taken += 1
        assert taken < 5_000, "nothing bounds it"
