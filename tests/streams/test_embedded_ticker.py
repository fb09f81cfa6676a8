"""Ticks: an idle partition is carried along, an undrained one never, and silence closes buckets when live."""

import time

import pytest

from detectors.records import Interaction, Tick
from detectors.stages.score import ScoreStage
from streams.embedded.journal import Journal
from streams.embedded.pipeline import Pipeline
from streams.embedded.ticker import Ticker

NOW_MS = 1_800_000_000_000


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "journal.db", partitions=3)
    yield made
    made.close()


def interaction(at_ms: int, received_at_ms: int = NOW_MS) -> Interaction:
    return Interaction(
        deployment="d", interaction_id=str(at_ms), raw_id="", release="1", event_time_ms=at_ms,
        received_at_ms=received_at_ms, prompt="a", response="b",
    )  # fmt: skip


def append(journal: Journal, partition: int, *records) -> None:
    with journal.transaction() as db:
        journal.append(db, [("interactions", partition, record) for record in records])


def pipeline(journal: Journal, *, live: bool = False) -> Pipeline:
    return Pipeline(journal, [ScoreStage([], detect_partitions=3, live=live)], batch=10)


def ticks(journal: Journal) -> list[tuple[int, int]]:
    rows = journal.read_topic("interactions", 0, 1_000)
    return [(row.partition, row.record.watermark_ms) for row in rows if isinstance(row.record, Tick)]


def test_an_idle_partition_is_carried_along(journal):
    append(journal, 0, interaction(5_000))
    running = pipeline(journal)
    ticker = Ticker(journal, running.watermarks, live=False)
    assert ticker.tick() == 0  # nothing is known yet, and partition 0 is not drained
    running.drain()
    assert ticker.tick() == 2
    assert ticks(journal) == [(1, 5_000), (2, 5_000)]
    running.drain()
    assert running.watermarks() == {0: 5_000, 1: 5_000, 2: 5_000}
    assert ticker.tick() == 0


def test_an_undrained_partition_is_never_ticked(journal):
    append(journal, 0, interaction(9_000))
    append(journal, 1, interaction(1_000))
    running = pipeline(journal)
    running.drain()
    append(journal, 1, interaction(2_000))  # on its way: a tick to 9,000 would make it late
    ticker = Ticker(journal, running.watermarks, live=False)
    ticker.tick()
    assert ticks(journal) == [(2, 9_000)]
    running.drain()
    ticker.tick()
    assert ticks(journal) == [(2, 9_000), (1, 9_000)]


def test_without_traffic_there_is_no_time(journal):
    assert Ticker(journal, pipeline(journal).watermarks, live=True).tick() == 0


def test_silence_goes_on_with_the_wall_clock_when_live(journal, monkeypatch):
    append(journal, 0, interaction(NOW_MS))
    running = pipeline(journal, live=True)
    running.drain()
    ticker = Ticker(journal, running.watermarks, live=True, silence_s=60)
    clock = NOW_MS + 50_000
    monkeypatch.setattr(time, "time_ns", lambda: clock * 1_000_000)
    ticker.tick()
    assert {at for _, at in ticks(journal)} == {NOW_MS}
    running.drain()
    clock = NOW_MS + 200_000
    assert ticker.tick() == 3
    running.drain()
    assert set(running.watermarks().values()) == {NOW_MS + 140_000}


def test_silence_costs_few_records(journal, monkeypatch):
    append(journal, 0, interaction(NOW_MS))
    running = pipeline(journal, live=True)
    ticker = Ticker(journal, running.watermarks, live=True, silence_s=60)
    appended = 0
    for step in range(400):  # 100 s of silence, four rounds a second
        clock = NOW_MS + 100_000 + step * 250
        monkeypatch.setattr(time, "time_ns", lambda now=clock: now * 1_000_000)
        running.drain()
        appended += ticker.tick()
    assert 3 * 15 <= appended <= 3 * 25


def test_replayed_time_never_follows_the_wall_clock(journal):
    append(journal, 0, interaction(1_000))
    running = pipeline(journal)
    running.drain()
    Ticker(journal, running.watermarks, live=False).tick()
    assert {at for _, at in ticks(journal)} == {1_000}


def test_a_clock_that_runs_ahead_makes_nobody_late(journal):
    append(journal, 0, interaction(NOW_MS + 3_600_000, NOW_MS))
    running = pipeline(journal, live=True)
    running.drain()
    assert running.watermarks() == {0: NOW_MS}
