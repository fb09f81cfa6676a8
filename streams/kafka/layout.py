"""Plumbline's topics: names, partitions and settings. Pure; the broker is not asked."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from detectors.records.codec import TOPICS
from streams.settings import ForeignSettings, KafkaSettings, Settings, SettingsError

STAGES: Final = ("normalise", "admit", "score", "detect", "decide", "act", "land")
"""Who keeps state in a topic beside its input, by name."""
SUBMISSIONS: Final = "submissions"
"""What producers send, as they sent it: the body of an HTTP request, on Kafka. Read by ``admit`` alone."""

_OWN: Final = (SUBMISSIONS, *TOPICS)
_VERSION = "v1"
_KEPT_FOR_EVER = frozenset({"releases", "references"})
_DEAD_LETTER_LIMIT_S = 7 * 86_400.0
DEAD_LETTER_ROOM_BYTES: Final = 65_536
"""By how much a dead letter may be larger than its record: its headers say where it stood and why."""
RECORD_ROOM_BYTES: Final = 131_072
"""By how much a message must exceed what the door admits: redaction and the envelope make it longer."""
SMALLEST_MESSAGE_BYTES: Final = 327_680
"""What a worker needs at least: envelopes and chunks of state are cut at 262144 bytes."""
_DEAD_LETTER_ENDING: Final = ".dlq"
_STATE_SEGMENT_BYTES = 33_554_432


class TopicSpec(Struct, frozen=True, kw_only=True):
    """One topic as it should be; ``configs`` holds broker settings under Kafka's names."""

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str]


def topic_name(topic: str, prefix: str = "plumbline") -> str:
    """Return the Kafka name of `topic`: submissions, or one of :data:`detectors.records.codec.TOPICS`.

    Examples
    --------
    >>> topic_name("interactions")
    'plumbline.interactions.v1'
    """
    if topic not in _OWN:
        raise ValueError(f"no such topic: {topic}; there are {', '.join(_OWN)}")
    return f"{prefix}.{topic}.{_VERSION}"


def dead_letter_name(origin: str) -> str:
    """Return the name of the topic for records of topic `origin` (its Kafka name) that cannot be used.

    Examples
    --------
    >>> dead_letter_name("plumbline.interactions.v1")
    'plumbline.interactions.v1.dlq'
    """
    return f"{origin}{_DEAD_LETTER_ENDING}"


def largest_record_bytes(topic: str, settings: KafkaSettings) -> int:
    """Return how many bytes a record of `topic` (its Kafka name) may have, by :func:`record_bytes`.

    Examples
    --------
    >>> largest_record_bytes("plumbline.decisions.v1", KafkaSettings())
    2097152
    >>> largest_record_bytes("plumbline.decisions.v1.dlq", KafkaSettings())
    2162688
    """
    room = DEAD_LETTER_ROOM_BYTES if topic.endswith(_DEAD_LETTER_ENDING) else 0
    return settings.max_message_bytes + room


def record_bytes(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    """Return how many bytes a Kafka record takes at most, alone in a batch that cannot be compressed.

    Examples
    --------
    >>> record_bytes(b"key", b"value", [("kind", b"label")])
    289
    """
    content = len(key or b"") + len(value or b"")
    content += sum(len(name.encode("utf-8", "surrogatepass")) + len(held or b"") for name, held in headers)
    # Frames of the batch and the record, two lengths per header, and what Snappy adds to noise.
    return content + 256 + 16 * len(headers) + content // 1024


def check_message_sizes(settings: Settings) -> None:
    """Refuse topics whose messages are too small for what the door admits, or for envelopes.

    A record that was admitted and fits no message would stop its partition for ever.

    Raises
    ------
    SettingsError
        If ``kafka.max_message_bytes`` is too small; the text says by how much.

    Examples
    --------
    >>> check_message_sizes(Settings())
    """
    found, admitted = settings.kafka.max_message_bytes, settings.door.max_record_bytes
    if found < admitted + RECORD_ROOM_BYTES:
        raise SettingsError(
            f"kafka.max_message_bytes: {found} does not hold what the door admits: set it and the topics to "
            f"{admitted + RECORD_ROOM_BYTES} or more, or door.max_record_bytes to "
            f"{max(1, found - RECORD_ROOM_BYTES)} or less"
        )
    if found < SMALLEST_MESSAGE_BYTES:
        raise SettingsError(
            f"kafka.max_message_bytes: {found} does not hold an envelope: set it and the topics to "
            f"{SMALLEST_MESSAGE_BYTES} or more"
        )


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


def state_place(stage: str, topic: str, partition: int, settings: KafkaSettings) -> tuple[str, int, str]:
    """Return where the state of `stage` for one partition of its source is: topic, partition, key prefix.

    Our topics have equal numbers of partitions, so that the state lies beside its input and needs no prefix.
    Foreign topics have numbers of their own and may be many: theirs share the partitions of the state topic,
    and a prefix keeps them apart. A reader of it takes the keys with its prefix, and those alone.

    Parameters
    ----------
    stage
        One of :data:`STAGES`.
    topic, partition
        Its source, by its name on Kafka.
    settings
        Prefix and number of partitions.

    Examples
    --------
    >>> state_place("admit", "plumbline.submissions.v1", 3, KafkaSettings())
    ('plumbline.state.admit.v1', 3, '')
    >>> state_place("normalise", "chat.logs", 30, KafkaSettings(partitions=12))
    ('plumbline.state.normalise.v1', 6, 'chat.logs/30/')
    """
    name = state_name(stage, settings.topic_prefix)
    if stage != "normalise":
        return name, partition, ""
    return name, partition % settings.partitions, f"{topic}/{partition}/"


def plan_topics(settings: KafkaSettings, foreign: Sequence[ForeignSettings] = ()) -> tuple[TopicSpec, ...]:
    """Return every topic that `settings` ask for: data, dead letters and state.

    Data and dead letters are kept for ``retention_s``, dead letters at most seven days: they hold original
    bytes, as submissions do, which have a limit of their own. Releases and references are few, and no replay
    is right without them: they are kept for ever. A `foreign` topic is not ours to make; its dead letters
    are.

    Raises
    ------
    SettingsError
        If a foreign topic is named twice, or is one of ours.

    Examples
    --------
    >>> plan = {spec.name: spec for spec in plan_topics(KafkaSettings(partitions=4))}
    >>> plan["plumbline.state.score.v1"].configs["cleanup.policy"]
    'compact'
    >>> plan["plumbline.scorecards.v1"].partitions
    4
    >>> plan["plumbline.submissions.v1"].configs["message.timestamp.type"]
    'LogAppendTime'
    """
    check_foreign(settings, foreign)
    return (
        _submissions(settings),
        *(_data(topic, settings) for topic in TOPICS),
        *(_dead_letters(topic_name(topic, settings.topic_prefix), settings) for topic in _OWN),
        *(_dead_letters(one.topic, settings) for one in foreign),
        *(_state(stage, settings) for stage in STAGES),
    )


def check_foreign(settings: KafkaSettings, foreign: Sequence[ForeignSettings]) -> None:
    """Refuse foreign topics that are named twice, or under our prefix: their records would come in circles.

    Raises
    ------
    SettingsError
        Naming the first such topic.
    """
    seen = set()
    for at, one in enumerate(foreign):
        if one.topic.startswith(f"{settings.topic_prefix}."):
            raise SettingsError(f"foreign[{at}].topic: {one.topic} is one of our own topics: name another")
        if one.topic in seen:
            raise SettingsError(f"foreign[{at}].topic: {one.topic} is named twice: keep one of the tables")
        seen.add(one.topic)


def _submissions(settings: KafkaSettings) -> TopicSpec:
    # The broker's clock says when a record arrived: it is on the record, so that a replay says the same.
    kept_s = min(settings.retention_s, settings.submissions_retention_s)
    # The broker writes every batch anew with Snappy, however it was sent: a megabyte of gzip or lz4 may hold
    # a gigabyte, which its readers would have to take in at once; Snappy's holds at most 22 times its size.
    configs = {
        **_deleted_after(kept_s),
        "message.timestamp.type": "LogAppendTime",
        "compression.type": "snappy",
    }
    return _spec(topic_name(SUBMISSIONS, settings.topic_prefix), settings, configs)


def _data(topic: str, settings: KafkaSettings) -> TopicSpec:
    kept_s = -1.0 if topic in _KEPT_FOR_EVER else settings.retention_s
    return _spec(topic_name(topic, settings.topic_prefix), settings, _deleted_after(kept_s))


def _dead_letters(origin: str, settings: KafkaSettings) -> TopicSpec:
    kept_s = min(settings.retention_s, _DEAD_LETTER_LIMIT_S)
    largest = {"max.message.bytes": str(settings.max_message_bytes + DEAD_LETTER_ROOM_BYTES)}
    return _spec(dead_letter_name(origin), settings, {**_deleted_after(kept_s), **largest})


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
