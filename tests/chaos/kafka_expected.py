"""What an undisturbed run brings forth, computed without Kafka: the door's code and the stages, in memory.

Run as a program, it works beside the chaos: ``python -m tests.chaos.kafka_expected CONFIG OUT LOAD``.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from detectors.records import (
    Decision,
    Feedback,
    Interaction,
    Label,
    Release,
    Scorecard,
    Tick,
)
from detectors.records.codec import Record
from detectors.redaction import Redactor
from detectors.stages import Delivery
from streams.assembly import assemble
from streams.door.admission import AdmissionContext, admit_payloads
from streams.inbox import Entry
from streams.landing_rows import rows_of
from streams.settings import Settings, load_settings
from tests.chaos.kafka_load import Load, Message

RESULTS = ("Interaction", "Scorecard", "Signal", "Decision", "Reference", "Feedback", "Label", "Release")
_BATCH = 500
_IDENTITIES = {
    "Interaction": ("interaction_id",),
    "Scorecard": ("interaction_id",),
    "Signal": ("signal_id",),
    "Decision": ("decision_id",),
    "Reference": ("deployment", "segment", "metric", "reference_id"),
    "Feedback": ("feedback_id",),
    "Label": ("label_id",),
    "Release": ("deployment", "release", "role", "started_at_ms"),
}


class Results(Struct):
    """Records by kind: id -> digest of the content without places and arrival times; rows by table.

    ``doubled`` holds ids that came more than once, ``bad`` the number of submissions that no door admits and
    ``ids`` the ids of the interactions.
    """

    records: dict[str, dict[str, str]]
    rows: dict[str, int]
    doubled: dict[str, list[str]]
    bad: int = 0


class Collector:
    """Takes records in, in any order, and keeps what identifies them and what they say."""

    def __init__(self) -> None:
        self.results = Results(records={name: {} for name in RESULTS}, rows={}, doubled={})
        self._rows: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        """Note `record`; ticks are nothing."""
        kind = type(record).__name__
        if kind not in self.results.records:
            return
        identity, digest = identity_of(record), digest_of(record)
        known = self.results.records[kind]
        if identity in known:
            self.results.doubled.setdefault(kind, []).append(identity)
        known[identity] = digest

    def count_rows(self, records: Sequence[Record]) -> None:
        """Add the rows that `records` land as."""
        for table, columns in rows_of([(0, 0, record) for record in records]).items():
            self._rows[table] += len(next(iter(columns.values())))
        self.results.rows = dict(self._rows)


def identity_of(record: Record) -> str:
    """Return what may be there once among records of its kind."""
    fields = _IDENTITIES[type(record).__name__]
    return "/".join(str(getattr(record, field)) for field in fields)


def digest_of(record: Record) -> str:
    """Return the digest of what `record` says: neither where it stood nor when it arrived."""
    match record:
        case Scorecard():
            record = msgspec.structs.replace(
                record, source_partition=0, source_offset=0, received_at_ms=0, policy_version=""
            )
        case Interaction() | Feedback() | Label():
            record = msgspec.structs.replace(record, received_at_ms=0)
        case _:
            pass
    return hashlib.blake2b(msgspec.json.encode(record), digest_size=8).hexdigest()


class Chain:
    """Door, score, detect and decide over one partition: results do not depend on how many there are."""

    def __init__(self, settings: Settings, user_key: bytes) -> None:
        alone = msgspec.structs.replace(settings.journal, partitions=1)
        kafka = msgspec.structs.replace(settings.kafka, partitions=1)
        self._stages = assemble(msgspec.structs.replace(settings, journal=alone, kafka=kafka)).stages
        self._states = [stage.restore(0, {}) for stage in self._stages]
        self._door = AdmissionContext(
            settings=settings.door, redactor=Redactor(), user_key=user_key, received_at_ms=0
        )
        self._known: set[str] = set()
        self.collector = Collector()

    def feed(self, messages: Iterable[Message]) -> None:
        """Carry `messages` through everything."""
        batch: list[Record] = []
        for message in messages:
            entries = self._admit(message)
            if message.bad != (not entries) and not message.again:
                raise AssertionError(f"the load and the door do not agree on {message.kind}")
            self.collector.results.bad += message.bad
            batch += [entry.record for entry in entries if entry.topic == "interactions"]
            stored = [e.record for e in entries if e.topic != "interactions" or e.key is not None]
            self._collect(stored)
        self.think(batch)

    def _admit(self, message: Message) -> list[Entry]:
        judged = admit_payloads([message.payload], message.kind, self._door)
        entries = [entry for entry in judged if isinstance(entry, Entry)]
        fresh = [entry for entry in entries if f"{entry.topic}/{entry.identity}" not in self._known]
        if message.kind in {"interaction", "feedback", "label"}:
            # Only what is repeated soon is repeated at all, and all else would fill the memory.
            if len(self._known) > 50_000:
                self._known.clear()
            self._known |= {f"{entry.topic}/{entry.identity}" for entry in fresh}
        return fresh

    def think(self, records: Sequence[Record]) -> None:
        """Carry what stands in ``interactions`` through the stages."""
        for index, stage in enumerate(self._stages):
            deliveries = [Delivery(0, offset, record) for offset, record in enumerate(records)]
            self._states[index], outputs = stage.step(self._states[index], deliveries)
            stage.changes(self._states[index])
            records = [output.record for output in outputs]
            if stage.name == "decide":
                records = [record for record in records if isinstance(record, Decision)]
            self._collect([r for r in records if not isinstance(r, Release | Tick)])

    def late(self) -> int:
        """Return how many records were late: the load must have none."""
        return sum(sum(one.values()) for kind, one in self._states[1].counts.items() if kind == "late")

    def _collect(self, records: Sequence[Record]) -> None:
        for record in records:
            self.collector.add(record)
        self.collector.count_rows(records)


def expect(load: Load, settings: Settings, user_key: bytes, *, partitions: int) -> Results:
    """Return the results of `load` on a calm day."""
    chain = Chain(settings, user_key)
    for batch in _batches(load.messages()):
        chain.feed(batch)
    chain.feed(load.closing(partitions))
    if chain.late():
        raise AssertionError(f"{chain.late()} records of the load are late: they must not be")
    return chain.collector.results


def _batches(messages: Iterator[Message]) -> Iterator[list[Message]]:
    while batch := list(islice(messages, _BATCH)):
        yield batch


def main(config: str, out: str, load: str) -> None:
    """Compute for `load` (JSON) and write the results to the file `out`."""
    settings = load_settings(Path(config))
    key = Path(settings.door.user_key_file).read_bytes().strip()
    chosen: Any = msgspec.json.decode(load, type=Load)
    found = expect(chosen, settings, key, partitions=settings.kafka.partitions)
    draft = Path(out).with_suffix(".draft")
    draft.write_bytes(msgspec.msgpack.encode(found))
    draft.replace(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
