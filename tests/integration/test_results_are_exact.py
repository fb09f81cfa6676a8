"""Partitions, batch sizes and merge orders do not matter: the same interactions give the same results."""

import itertools
from collections.abc import Iterator, Sequence
from functools import cache
from typing import ClassVar

import msgspec
import pytest

from detectors.records import Decision, Interaction, Reference, Scorecard, Signal, Tick
from detectors.records.codec import Record
from detectors.records.ids import partition_of
from detectors.stages import Delivery, Stage
from detectors.stages.score import ScoreStage
from streams.assembly import assemble
from streams.settings import DetectSettings, JournalSettings, SegmentSettings, Settings
from tests.conftest import admitted, support_payloads

COUNT = 5_000
PARTITIONS, BATCHES, MERGES = (1, 4, 12), (1, 97, 2_000), ("round_robin", "partition_by_partition")


def settings_for(partitions: int) -> Settings:
    return Settings(
        journal=JournalSettings(partitions=partitions),
        detect=DetectSettings(reference_units=600, units_per_week=20_000),
        segment=(SegmentSettings(name="language", source="language", top=3),),
    )


@cache
def traffic() -> tuple[tuple[str | None, Record], ...]:
    entries = admitted(support_payloads(COUNT, seed=11, canary_from=2_000))
    return tuple((entry.key, entry.record) for entry in entries if entry.topic == "interactions")


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


def results(partitions: int, size: int, merge: str, *, memorise: bool) -> dict[str, list[bytes]]:
    parts = assemble(settings_for(partitions))
    if memorise:
        parts.score.__class__ = MemorisedScores
    log = MemoryLog(partitions)
    for key, record in traffic():
        targets = range(partitions) if key is None else (partition_of(key, partitions),)
        for target in targets:
            log.append("interactions", target, record)
    last_ms = max(record.event_time_ms for _, record in traffic() if isinstance(record, Interaction))
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
def expected() -> dict[str, list[bytes]]:
    return results(4, 97, "round_robin", memorise=True)


def test_the_traffic_says_something() -> None:
    found = expected()
    assert len(found["Scorecard"]) == COUNT
    decisions = [msgspec.json.decode(row, type=Decision) for row in found["Decision"]]
    assert any("rollback" in decision.verbs and decision.release == "2.4" for decision in decisions)
    assert len(found["Signal"]) > 500
    assert len({msgspec.json.decode(row)["signal_id"] for row in found["Signal"]}) == len(found["Signal"])


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.parametrize("partitions", PARTITIONS)
def test_partitions_batches_and_merge_order_do_not_matter(partitions: int, size: int, merge: str) -> None:
    found = results(partitions, size, merge, memorise=True)
    for name, rows in expected().items():
        assert found[name] == rows, name


def test_scoring_again_gives_the_same_cards() -> None:
    assert results(12, 501, "round_robin", memorise=False)["Scorecard"] == expected()["Scorecard"]
