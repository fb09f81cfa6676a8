"""The verdict: what the topics and the store hold, against what an undisturbed run brings forth."""

import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition
from msgspec import Struct

from detectors.records import Action, Release, Signal, Tick
from detectors.records.codec import Record
from streams.kafka.envelope import unseal
from streams.kafka.layout import SUBMISSIONS, dead_letter_name, topic_name
from streams.settings import KafkaSettings
from tests.chaos.kafka_expected import Collector, Results
from tests.chaos.kafka_store import StoreProcess

TOPICS = (
    "interactions",
    "scorecards",
    "signals",
    "decisions",
    "references",
    "feedback",
    "labels",
    "releases",
    "actions",
)
_CARRIED: dict[str, tuple[type, ...]] = {
    "interactions": (Release,),
    "scorecards": (Release,),
    "signals": (Release,),
    "decisions": (Release, Signal),
}
"""What travels on a topic as a copy; it is counted on its own."""
_SILENCE_S = 60.0
_KEYS = {
    "interactions": "interaction_id",
    "interaction_text": "interaction_id",
    "scorecards": "interaction_id",
    "scores": "(interaction_id, metric)",
    "signals": "signal_id",
    "decisions": "decision_id",
    "releases": "(deployment, release, started_at, content)",
    "feedback": "feedback_id",
    "labels": "label_id",
    "reference_points": "(deployment, metric, segment, release, reference_id)",
    "actions": "(action_id, seq)",
}


class Finding(Struct, frozen=True):
    """What was found of one kind of record: `lost` and `wrong` against the expectation, `doubled` at all."""

    where: str
    found: int
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    extra: int = 0

    @property
    def clean(self) -> bool:
        """Whether it is as it must be."""
        return not (self.lost or self.doubled or self.wrong or self.extra)

    def __str__(self) -> str:
        """Return one line of a table."""
        return (
            f"{self.where:<28}{self.found:>10,}{self.lost:>8,}{self.doubled:>9,}"
            f"{self.wrong:>8,}{self.extra:>8,}"
        )


HEADLINE = f"{'where':<28}{'found':>10}{'lost':>8}{'doubled':>9}{'wrong':>8}{'extra':>8}"


def values_of(settings: KafkaSettings, topic: str) -> Iterator[Any]:
    """Yield every committed Kafka record of the topic with Kafka's name `topic`, partition by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.bootstrap,
            "group.id": f"verdict-{topic}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        }
    )
    try:
        consumer.assign([TopicPartition(topic, part, 0) for part in range(settings.partitions)])
        open_parts = set(range(settings.partitions))
        heard_s = time.monotonic()
        while open_parts:
            messages = consumer.consume(1_000, timeout=0.2)
            heard_s = time.monotonic() if messages else heard_s
            if time.monotonic() - heard_s > _SILENCE_S:
                raise RuntimeError(f"{topic}: the broker says nothing")
            for message in messages:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_parts.discard(message.partition())
                else:
                    raise RuntimeError(f"{topic}: {error.str()}")
    finally:
        consumer.close()


def records_of(settings: KafkaSettings, topic: str) -> Iterator[Record]:
    """Yield every record of `topic`, ticks and control copies included."""
    for message in values_of(settings, topic_name(topic, settings.topic_prefix)):
        yield from unseal(message.value(), message.headers() or [])[1]


def read_topics(settings: KafkaSettings) -> tuple[Results, list[Action]]:
    """Return what the topics hold, copies left out, and the transitions of acts."""
    collector, actions = Collector(), []
    for topic in TOPICS:
        for record in records_of(settings, topic):
            if isinstance(record, Action):
                actions.append(record)
            elif not isinstance(record, (Tick, *_CARRIED.get(topic, ()))):
                collector.add(record)
    return collector.results, actions


def compare_topics(found: Results, expected: Results) -> list[Finding]:
    """Return one finding for every kind of record."""
    findings = []
    for kind, wanted in expected.records.items():
        there = found.records[kind]
        findings.append(
            Finding(
                f"topic: {kind}",
                len(there),
                lost=len(wanted.keys() - there.keys()),
                doubled=len(found.doubled.get(kind, ())),
                wrong=sum(there[key] != digest for key, digest in wanted.items() if key in there),
                extra=len(there.keys() - wanted.keys()),
            )
        )
    return findings


def compare_dead_letters(settings: KafkaSettings, expected: Results) -> Finding:
    """Return whether every bad submission left one dead letter, and nothing else did."""
    topic = dead_letter_name(topic_name(SUBMISSIONS, settings.topic_prefix))
    values = [message.value() for message in values_of(settings, topic)]
    return Finding(
        "topic: dead letters",
        len(values),
        lost=max(0, expected.bad - len(set(values))),
        doubled=len(values) - len(set(values)),
        extra=max(0, len(set(values)) - expected.bad),
    )


def compare_store(store: StoreProcess, expected: Results, actions: list[Action]) -> list[Finding]:
    """Return one finding for every table: physical rows, nothing merged or collapsed."""
    wanted = {**expected.rows, "actions": len({(one.action_id, one.seq) for one in actions})}
    findings = []
    for table, key in _KEYS.items():
        sql = f"SELECT count() AS n, uniqExact({key}) AS keys, uniqExact(src_partition, src_offset) AS places"
        (row,) = store.rows(f"{sql} FROM {table}")
        lost = wanted.get(table, 0) - row["keys"]
        findings.append(
            Finding(
                f"store: {table}",
                row["n"],
                lost=max(0, lost),
                doubled=row["n"] - row["keys"],
                extra=max(0, -lost),
                wrong=_strangers(store, table, row["places"], row["n"]),
            )
        )
    return findings


def _strangers(store: StoreProcess, table: str, places: int, count: int) -> int:
    """Return how many rows do not belong to an interaction that is stored, or share a place."""
    if table in {"scorecards", "scores", "interaction_text"}:
        known = "SELECT interaction_id FROM interactions"
        sql = f"SELECT count() AS n FROM {table} WHERE interaction_id NOT IN ({known})"  # noqa: S608
        return int(store.rows(sql)[0]["n"])
    return count - places


def compare_actions(actions: list[Action], moves: list[str], wrongs: list[str]) -> Finding:
    """Return whether every act was carried out once, whatever died meanwhile."""
    transitions = [(one.action_id, one.seq) for one in actions]
    rollbacks = {one.action_id for one in actions if one.kind == "rollback" and one.state != "DECIDED"}
    return Finding(
        "acts at the gateway",
        len(moves),
        lost=len(rollbacks - set(moves)) + (not moves),
        doubled=len(moves) - len(set(moves)) + len(transitions) - len(set(transitions)),
        wrong=len(wrongs),
        extra=len(set(moves) - rollbacks),
    )
