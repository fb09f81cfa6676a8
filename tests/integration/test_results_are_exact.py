"""Partitions, batch sizes, merge orders and arrival do not matter: the same interactions, the same results.

The traffic has everything that keeps a memory: conversations, users who come back to the arm they were given,
a candidate that is declared again, and a release nobody declared.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import ClassVar

import msgspec
import pytest

from detectors.records import Arm, Decision, Interaction, Reference, Release, Scorecard, Signal, Tick
from detectors.records.codec import Record
from detectors.records.ids import partition_of
from detectors.stages import Delivery, Stage
from detectors.stages.score import ScoreStage
from streams.assembly import assemble
from streams.inbox import Entry
from streams.settings import DetectSettings, JournalSettings, SegmentSettings, Settings
from tests.conftest import admitted, support_payloads

COUNT = 5_000
CANARY_FROM, AGAIN_FROM, STRANGER_FROM = 1_600, 3_600, 4_400
LATENESS_MS = 30_000
PARTITIONS, BATCHES, MERGES = (1, 4, 12), (1, 97, 2_000), ("round_robin", "partition_by_partition")


def settings_for(partitions: int) -> Settings:
    return Settings(
        journal=JournalSettings(partitions=partitions),
        detect=DetectSettings(reference_units=600, units_per_week=20_000),
        segment=(SegmentSettings(name="language", source="language", top=3),),
    )


@cache
def traffic(count: int = COUNT) -> tuple[tuple[str | None, Record], ...]:
    """Return the records in the order of event time; from the second declaration on users are routed."""
    payloads = support_payloads(count, seed=11, canary_from=CANARY_FROM)
    entries = [entry for entry in admitted(payloads) if entry.topic == "interactions"]
    found: list[tuple[str | None, Record]] = []
    interactions = 0
    for entry in entries:
        record = entry.record
        if isinstance(record, Interaction):
            interactions += 1
            if interactions == AGAIN_FROM:
                found += declared_again(entries, record.event_time_ms)
            record = rerouted(record, interactions)
        found.append((entry.key, record))
    return tuple(found)


def declared_again(entries: Sequence[Entry], at_ms: int) -> list[tuple[str | None, Record]]:
    (candidate,) = (
        (entry.key, entry.record)
        for entry in entries
        if isinstance(entry.record, Release) and entry.record.role == "candidate"
    )
    return [(candidate[0], msgspec.structs.replace(candidate[1], started_at_ms=at_ms))]


def rerouted(record: Interaction, number: int) -> Interaction:
    """Return `record` as answered by a stranger, or by the arm of one of 150 users, or as it was."""
    if number >= STRANGER_FROM and number % 3 == 0:
        return msgspec.structs.replace(record, release="stranger", arm=None)
    if number < AGAIN_FROM:
        return record
    user = int(record.interaction_id[:8], 16) % 150
    canary = random.Random(f"arm {user}").random() < 0.2
    arm = Arm("canary" if canary else "stable", 0.2 if canary else 0.8, "user")
    return msgspec.structs.replace(record, release="2.4" if canary else "2.3", user=f"user {user}", arm=arm)


@cache
def arrival(partitions: int, count: int = COUNT) -> tuple[tuple[str | None, Record], ...]:
    """Return the records as they arrive: out of order by less than the allowed lateness, in a seeded way."""
    shuffled = random.Random(partitions)
    slots = []
    for place, (key, record) in enumerate(traffic(count)):
        is_one = isinstance(record, Interaction)
        at_ms = record.event_time_ms if is_one else record.started_at_ms  # type: ignore[union-attr]
        delay_ms = shuffled.randrange(LATENESS_MS) if is_one else 0
        slots.append((at_ms + delay_ms, place, key, record))
    return tuple((key, record) for _, _, key, record in sorted(slots, key=lambda slot: slot[:2]))


class MemoryLog:
    """Topics and partitions in memory; what a stage reads of a partition is always in order."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.topics: dict[tuple[str, int], list[Record]] = {}

    def append(self, topic: str, partition: int, record: Record) -> None:
        self.topics.setdefault((topic, partition), []).append(record)

    def batches(self, topic: str, size: int, merge: str) -> Iterator[tuple[int, Sequence[Delivery]]]:
        lists = {part: self.topics.get((topic, part), []) for part in range(self.partitions)}
        chunks = {
            part: [
                [Delivery(part, start + i, record) for i, record in enumerate(records[start : start + size])]
                for start in range(0, len(records), size)
            ]
            for part, records in lists.items()
        }
        if merge == "partition_by_partition":
            for part in reversed(range(self.partitions)):
                yield from ((part, chunk) for chunk in chunks[part])
        else:
            for row in itertools.zip_longest(*chunks.values()):
                yield from ((part, chunk) for part, chunk in enumerate(row) if chunk is not None)


def run_stage(log: MemoryLog, stage: Stage, size: int, merge: str) -> None:
    states = {part: stage.restore(part, {}) for part in range(log.partitions)}
    for part, batch in list(log.batches(stage.source, size, merge)):
        states[part], outputs = stage.step(states[part], batch)
        stage.changes(states[part])
        for output in outputs:
            target = (
                output.partition if output.partition is not None else partition_of(output.key, log.partitions)
            )
            log.append(output.topic, target, output.record)


class MemorisedScores(ScoreStage):
    """Scores every interaction once per test session; what is under test here is what comes after."""

    cards: ClassVar[dict[str, Scorecard]] = {}

    def score(self, interaction: Interaction, partition: int = 0, offset: int = 0) -> Scorecard:
        card = self.cards.get(interaction.interaction_id)
        if card is None:
            card = self.cards[interaction.interaction_id] = super().score(interaction)
        return msgspec.structs.replace(card, source_partition=partition, source_offset=offset)


def results(
    partitions: int, size: int, merge: str, *, memorise: bool, count: int = COUNT
) -> dict[str, list[bytes]]:
    parts = assemble(settings_for(partitions))
    if memorise:
        parts.score.__class__ = MemorisedScores
    log = MemoryLog(partitions)
    for key, record in arrival(partitions, count):
        targets = range(partitions) if key is None else (partition_of(key, partitions),)
        for target in targets:
            log.append("interactions", target, record)
    last_ms = max(record.event_time_ms for _, record in traffic(count) if isinstance(record, Interaction))
    for target in range(partitions):
        log.append("interactions", target, Tick(target, last_ms + 200_000))
    for stage in parts.stages:
        run_stage(log, stage, size, merge)
    return collect(log)


def collect(log: MemoryLog) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {"Scorecard": [], "Signal": [], "Decision": [], "Reference": []}
    for (topic, _), records in log.topics.items():
        for record in records:
            if isinstance(record, Scorecard):
                record = msgspec.structs.replace(record, source_partition=0, source_offset=0)  # noqa: PLW2901
            elif topic == "decisions" and isinstance(record, Signal):
                continue  # a copy for the act side
            if isinstance(record, Scorecard | Signal | Decision | Reference):
                found[type(record).__name__].append(msgspec.json.encode(record))
    return {name: sorted(encoded) for name, encoded in found.items()}


@cache
def expected(count: int = COUNT) -> dict[str, list[bytes]]:
    return results(4, 97, "round_robin", memorise=count == COUNT, count=count)


def test_the_traffic_says_something() -> None:
    found = expected()
    assert len(found["Scorecard"]) == COUNT
    decisions = [msgspec.json.decode(row, type=Decision) for row in found["Decision"]]
    assert any("rollback" in decision.verbs and decision.release == "2.4" for decision in decisions)
    assert len(found["Signal"]) > 500
    signals = [msgspec.json.decode(row, type=Signal) for row in found["Signal"]]
    assert len({signal.signal_id for signal in signals}) == len(signals)
    assert any(signal.stream.release == "stranger" for signal in signals)


def test_nothing_was_late() -> None:
    shuffled = [r for _, r in arrival(4) if isinstance(r, Interaction)]
    in_order = [r for _, r in traffic() if isinstance(r, Interaction)]
    assert shuffled != in_order
    assert sorted(r.interaction_id for r in shuffled) == sorted(r.interaction_id for r in in_order)


def test_users_are_counted_once_in_an_episode() -> None:
    signals = [msgspec.json.decode(row, type=Signal) for row in expected()["Signal"]]
    again_ms = max(record.started_at_ms for _, record in traffic() if isinstance(record, Release))
    arms = [s for s in signals if s.stream.test == "arm" and s.at_ms > again_ms and s.from_ms is not None]
    assert arms
    assert max(s.n_total for s in arms if s.from_ms >= again_ms - 60_000) <= 150


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.parametrize("partitions", PARTITIONS)
def test_partitions_batches_and_merge_order_do_not_matter(partitions: int, size: int, merge: str) -> None:
    found = results(partitions, size, merge, memorise=True)
    for name, rows in expected().items():
        assert found[name] == rows, name


def test_scoring_again_gives_the_same_cards() -> None:
    assert results(12, 501, "round_robin", memorise=False)["Scorecard"] == expected()["Scorecard"]
