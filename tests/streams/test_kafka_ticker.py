"""Ticks on Kafka: who is told that time went on, when, and what happens while the broker is away."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from detectors.records import Tick
from streams.kafka.errors import BrokerError
from streams.kafka.ticker import Reached, Ticker, tick_once


class MemoryLog:
    """Partitions as lists; scoring is moved by hand."""

    def __init__(self, partitions: int) -> None:
        self.rows = [[] for _ in range(partitions)]
        self.scored: dict[int, Reached] = {}
        self.unadmitted: list[list[int]] = [[] for _ in range(partitions)]
        self.arriving: dict[int, int] = {}
        self.closed = False

    def reached(self):
        return self.scored

    def admitted(self, partitions):
        done = [part for part in partitions if not self.unadmitted[part]]
        for part, at_ms in self.arriving.items():  # the door goes on while ticking looks
            self.rows[part].append(at_ms)
        self.arriving = {}
        return done

    def drained(self, positions):
        return [part for part, offset in positions.items() if len(self.rows[part]) <= offset]

    def append(self, ticks):
        for tick in ticks:
            self.rows[tick.source_partition].append(tick)

    def close(self):
        self.closed = True

    def score(self) -> None:
        """Score everything: event times are the rows themselves, or those of ticks."""
        for part, rows in enumerate(self.rows):
            if rows:
                times = [row.watermark_ms if isinstance(row, Tick) else row for row in rows]
                self.scored[part] = Reached(max(times), len(rows))


def tick(log: MemoryLog, *, live: bool = False, now_ms: int = 0, silence_ms: int = 60_000) -> int:
    return tick_once(log, partitions=len(log.rows), live=live, silence_ms=silence_ms, now_ms=lambda: now_ms)


def test_an_idle_partition_is_carried_along_once():
    log = MemoryLog(3)
    log.rows[0] = [5_000]
    assert tick(log) == 0  # nothing was scored yet: nobody knows any time
    log.score()
    assert tick(log) == 2
    assert log.rows[1:] == [[Tick(1, 5_000)], [Tick(2, 5_000)]]
    assert tick(log) == 0  # the ticks themselves wait to be scored
    log.score()
    assert tick(log) == 0


def test_an_undrained_partition_is_not_ticked():
    log = MemoryLog(2)
    log.rows[0] = [9_000]
    log.rows[1] = [1_000]
    log.score()
    log.rows[1].append(2_000)
    assert tick(log) == 0
    log.score()
    assert tick(log) == 1
    assert log.rows[1] == [1_000, 2_000, Tick(1, 9_000)]


def test_a_partition_whose_submissions_wait_at_the_door_is_not_ticked():
    log = MemoryLog(3)
    log.rows[0] = [90_000]
    log.score()
    log.unadmitted[1] = [5_000]
    assert tick(log) == 1
    assert log.rows[1:] == [[], [Tick(2, 90_000)]]
    log.score()
    log.rows[1] += log.unadmitted[1]
    log.unadmitted[1] = []
    assert tick(log) == 0  # admitted, and not scored
    log.score()
    assert log.scored[1].watermark_ms == 5_000  # it came in time
    assert tick(log) == 1


def test_what_is_admitted_between_the_looks_keeps_its_partition_from_a_tick():
    log = MemoryLog(2)
    log.rows[0] = [90_000]
    log.score()
    log.arriving = {1: 5_000}
    assert tick(log) == 0
    assert log.rows[1] == [5_000]


def test_silence_goes_on_with_the_wall_clock_in_steps_when_live():
    log = MemoryLog(2)
    log.rows[0] = [100_000]
    log.score()
    for now_ms in range(100_000, 200_000, 250):
        tick(log, live=True, now_ms=now_ms)
        log.score()
    assert {row.watermark_ms for row in log.rows[1]} == {100_000, *range(105_000, 140_000, 5_000)}
    assert len(log.rows[1]) == 8


def test_replayed_time_never_follows_the_wall_clock():
    log = MemoryLog(2)
    log.rows[0] = [1_000]
    log.score()
    tick(log, now_ms=9_999_999)
    assert log.rows[1] == [Tick(1, 1_000)]


@given(
    st.lists(
        st.one_of(st.tuples(st.integers(0, 3), st.integers(0, 1_000_000)), st.just("tick"), st.just("score")),
        max_size=60,
    )
)
def test_after_silence_all_partitions_have_come_equally_far_and_no_tick_leads(steps):
    log = MemoryLog(4)
    furthest = -1
    for step in steps:
        if step == "tick":
            tick(log)
        elif step == "score":
            log.score()
        else:
            part, at_ms = step
            log.rows[part].append(at_ms)
            furthest = max(furthest, at_ms)
        assert all(row.watermark_ms <= furthest for rows in log.rows for row in rows if isinstance(row, Tick))
    log.score()
    tick(log)
    log.score()
    assert tick(log) == 0
    assert {at.watermark_ms for at in log.scored.values()} <= {furthest}


def run_ticker(open_log, *, until) -> tuple[list[tuple[str, BaseException]], Ticker]:
    failures: list[tuple[str, BaseException]] = []
    ticker = Ticker(
        open_log,
        partitions=2,
        live=False,
        tick_s=0.001,
        on_failure=lambda part, error: failures.append((part, error)),
    )
    ticker.start()
    assert until.wait(15)
    ticker.stop()
    assert not ticker.is_alive()
    return failures, ticker


def test_a_broker_that_is_away_is_waited_for():
    opened, ticked = [], threading.Event()

    class Log(MemoryLog):
        def append(self, ticks):
            super().append(ticks)
            ticked.set()

    def open_log():
        opened.append(1)
        if len(opened) < 4:
            raise BrokerError("kafka: away")
        log = Log(2)
        log.rows[0] = [1_000]
        log.score()
        return log

    failures, ticker = run_ticker(open_log, until=ticked)
    assert failures == []
    assert len(opened) == 4
    assert ticker.problem == ""


def test_anything_else_is_reported_and_the_log_is_closed():
    closed = threading.Event()

    class Log(MemoryLog):
        def reached(self):
            raise ValueError("a bug")

        def close(self):
            closed.set()

    failures, _ = run_ticker(lambda: Log(2), until=closed)
    assert [(part, type(error)) for part, error in failures] == [("ticker", ValueError)]
