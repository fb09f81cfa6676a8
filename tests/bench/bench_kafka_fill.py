"""Fills the topics that the benchmark reads: raw interactions, envelopes of them, and scorecards."""

from collections.abc import Iterable, Sequence

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from detectors.records import Interaction, Release, Score, Scorecard, Tick
from detectors.records.codec import Record, encode
from detectors.records.ids import partition_of
from streams.kafka.envelope import Origin, seal
from streams.kafka.layout import topic_name
from streams.kafka.topics import TopicAdmin
from streams.settings import KafkaSettings
from tests.bench.bench_path import sized_payloads
from tests.conftest import admitted

PARTITIONS = 4
METRICS = tuple(f"metric_{number}" for number in range(12))
_DIRECTIONS = ("higher", "lower", "neutral")
_BATCH = 128
"""Interactions of one envelope: what a batch of admission brings forth for one partition."""
_RATE_PER_S = 200.0
_START_MS = 1_760_000_000_000


def settings_of(bootstrap: str, prefix: str) -> KafkaSettings:
    """Return where the topics with `prefix` are."""
    return KafkaSettings(
        bootstrap=bootstrap, topic_prefix=prefix, partitions=PARTITIONS, replication=1, retention_s=1e8
    )


def make_topics(kafka: KafkaSettings) -> None:
    """Make the topics of one stage's trial."""
    with TopicAdmin(kafka) as admin:
        admin.create()


def fill_raw(bootstrap: str, interactions: Sequence[Interaction], count: int) -> str:
    """Write `count` interactions, a Kafka record each, to a topic of their own, and return its name."""
    topic = "raw"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
    payloads = [encode(one) for one in interactions]
    writer = Writer(bootstrap)
    for number in range(count):
        writer.put(topic, number % PARTITIONS, payloads[number % len(payloads)])
    writer.close()
    return topic


def fill_interactions(kafka: KafkaSettings, interactions: Sequence[Interaction]) -> str:
    """Write `interactions` as admission does, and return the topic."""
    topic, writer = topic_name("interactions", kafka.topic_prefix), Writer(kafka.bootstrap)
    for partition, records in _by_partition(interactions, PARTITIONS):
        writer.seal(topic, partition, records)
    writer.close()
    return topic


def fill_scorecards(kafka: KafkaSettings, count: int, *, segments: int) -> None:
    """Write scorecards of 12 metrics and so many segments for one deployment a partition, with ticks between.

    Every metric of a scorecard is fed to 1 + `segments` detectors: the whole, and its slice of each segment.
    """
    topic, writer = topic_name("scorecards", kafka.topic_prefix), Writer(kafka.bootstrap)
    names = _deployments(PARTITIONS)
    for part, name in names.items():
        release = Release(deployment=name, release="1", role="stable", started_at_ms=_START_MS)
        writer.seal(topic, part, [release])
    for start in range(0, count, _BATCH * PARTITIONS):
        numbers = range(start, min(count, start + _BATCH * PARTITIONS))
        at_ms = _START_MS + round(numbers[-1] * 1000 / _RATE_PER_S)
        ticks = [Tick(source, at_ms) for source in range(PARTITIONS)]
        for part, name in names.items():
            cards = [_card(number, name, segments) for number in numbers if number % PARTITIONS == part]
            if cards:
                writer.seal(topic, part, [*cards, *ticks])
    writer.close()


class Writer:
    """Writes Kafka records as our stages do: envelopes, compressed; no transactions, for speed."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "compression.type": "snappy",
                "linger.ms": 20,
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 1_048_576,
            }
        )
        self._sealed = 0

    def put(
        self, topic: str, partition: int, value: bytes, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """Write one record."""
        self._producer.produce(topic, value, partition=partition, headers=list(headers))
        self._producer.poll(0)

    def seal(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        """Write records as envelopes."""
        self._sealed += 1
        for envelope in seal(records, Origin("bench", "bench", partition, self._sealed)):
            self.put(topic, partition, envelope.value, envelope.headers)

    def close(self) -> None:
        """Wait until everything is written."""
        left = self._producer.flush(300)
        assert left == 0, left


def make_interactions(count: int) -> list[Interaction]:
    """Return interactions of about 1 kB with distinct texts and conversations."""
    found: list[Interaction] = []
    seed = 9
    while len(found) < count:
        entries = admitted(sized_payloads(min(4_500, count), seed=seed))
        found += [entry.record for entry in entries if isinstance(entry.record, Interaction)]
        seed += 1
    return found[:count]


def _by_partition(
    interactions: Iterable[Interaction], partitions: int
) -> Iterable[tuple[int, list[Interaction]]]:
    """Yield envelopes' contents, in the order of time, for the partition of each user."""
    waiting: dict[int, list[Interaction]] = {part: [] for part in range(partitions)}
    for one in interactions:
        part = partition_of(f"{one.deployment}/{one.user}", partitions)
        waiting[part].append(one)
        if len(waiting[part]) == _BATCH:
            yield part, waiting[part]
            waiting[part] = []
    yield from ((part, rest) for part, rest in waiting.items() if rest)


def _deployments(partitions: int) -> dict[int, str]:
    found: dict[int, str] = {}
    number = 0
    while len(found) < partitions:
        name = f"deployment-{number}"
        found.setdefault(partition_of(name, partitions), name)
        number += 1
    return found


def _card(number: int, deployment: str, segments: int) -> Scorecard:
    at_ms = _START_MS + round(number * 1000 / _RATE_PER_S)
    scores = tuple(
        Score(name=name, value=(number * (7 + at)) % 101 / 100, direction=_DIRECTIONS[at % 3])  # type: ignore[arg-type]
        for at, name in enumerate(METRICS)
    )
    return Scorecard(
        deployment=deployment,
        interaction_id=f"00000000-0000-5000-8000-{number:012d}",
        release="1",
        event_time_ms=at_ms,
        received_at_ms=at_ms,
        unit=f"c:{number // 2}",
        scores=scores,
        segments={f"segment_{at}": f"value-{number // (at + 1) % 3}" for at in range(segments)},
        policy_version="1",
    )
