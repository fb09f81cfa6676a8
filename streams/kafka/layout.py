"""Plumbline's topics: names, partitions and settings. Pure; the broker is not asked."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from detectors.records.codec import TOPICS
from streams.settings import KafkaSettings

STAGES: Final = ("score", "detect", "decide")
"""The stages that keep state, by name."""

_VERSION = "v1"
_KEPT_FOR_EVER = frozenset({"releases", "references"})
_DEAD_LETTER_LIMIT_S = 7 * 86_400.0
_STATE_SEGMENT_BYTES = 33_554_432


class TopicSpec(Struct, frozen=True, kw_only=True):
    """One topic as it should be; ``configs`` holds broker settings under Kafka's names."""

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str]


def topic_name(topic: str, prefix: str = "plumbline") -> str:
    """Return the Kafka name of `topic`, one of :data:`detectors.records.codec.TOPICS`.

    Examples
    --------
    >>> topic_name("interactions")
    'plumbline.interactions.v1'
    """
    if topic not in TOPICS:
        raise ValueError(f"no such topic: {topic}; there are {', '.join(TOPICS)}")
    return f"{prefix}.{topic}.{_VERSION}"


def dead_letter_name(origin: str) -> str:
    """Return the name of the topic for records of topic `origin` (its Kafka name) that cannot be used.

    Examples
    --------
    >>> dead_letter_name("plumbline.interactions.v1")
    'plumbline.interactions.v1.dlq'
    """
    return f"{origin}.dlq"


def state_name(stage: str, prefix: str = "plumbline") -> str:
    """Return the name of the compacted topic of the state of `stage`, one of :data:`STAGES`.

    Examples
    --------
    >>> state_name("detect")
    'plumbline.state.detect.v1'
    """
    if stage not in STAGES:
        raise ValueError(f"no such stage: {stage}; there are {', '.join(STAGES)}")
    return f"{prefix}.state.{stage}.{_VERSION}"


def plan_topics(settings: KafkaSettings) -> tuple[TopicSpec, ...]:
    """Return every topic that `settings` ask for: data, dead letters and state.

    Data and dead letters are kept for ``retention_s``, dead letters at most seven days: they hold original
    bytes. Releases and references are few, and no replay is right without them: they are kept for ever.

    Examples
    --------
    >>> plan = {spec.name: spec for spec in plan_topics(KafkaSettings(partitions=4))}
    >>> plan["plumbline.state.score.v1"].configs["cleanup.policy"]
    'compact'
    >>> plan["plumbline.scorecards.v1"].partitions
    4
    """
    return (
        *(_data(topic, settings) for topic in TOPICS),
        *(_dead_letters(topic, settings) for topic in TOPICS),
        *(_state(stage, settings) for stage in STAGES),
    )


def _data(topic: str, settings: KafkaSettings) -> TopicSpec:
    kept_s = -1.0 if topic in _KEPT_FOR_EVER else settings.retention_s
    return _spec(topic_name(topic, settings.topic_prefix), settings, _deleted_after(kept_s))


def _dead_letters(topic: str, settings: KafkaSettings) -> TopicSpec:
    name = dead_letter_name(topic_name(topic, settings.topic_prefix))
    return _spec(name, settings, _deleted_after(min(settings.retention_s, _DEAD_LETTER_LIMIT_S)))


def _state(stage: str, settings: KafkaSettings) -> TopicSpec:
    # The segment that is written to is never compacted: at Kafka's 1 GiB a restore would read all of it.
    configs = {"cleanup.policy": "compact", "segment.bytes": str(_STATE_SEGMENT_BYTES)}
    return _spec(state_name(stage, settings.topic_prefix), settings, configs)


def _deleted_after(kept_s: float) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": "-1" if kept_s < 0 else str(round(kept_s * 1000))}


def _spec(name: str, settings: KafkaSettings, configs: Mapping[str, str]) -> TopicSpec:
    everywhere = {
        "max.message.bytes": str(settings.max_message_bytes),
        "message.timestamp.type": "CreateTime",
        # What was acknowledged stands on all replicas but one: one broker may be away, and none may lie.
        "min.insync.replicas": str(max(1, settings.replication - 1)),
        "unclean.leader.election.enable": "false",
    }
    return TopicSpec(
        name=name,
        partitions=settings.partitions,
        replication=settings.replication,
        configs={**everywhere, **configs},
    )
