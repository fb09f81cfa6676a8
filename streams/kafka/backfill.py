"""Backfill: interactions of the log scored again, by another configuration, into shadow tables.

It reads with a consumer of its own and no group, so that nothing of the live stages is touched. What was
scored stands in the shadow tables; a run that was ended goes on after it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from msgspec import Struct

from detectors.policy import policy_version
from detectors.records import Interaction
from detectors.records.ids import content_digest
from detectors.stages.score import ScoreStage
from streams.kafka.connection import client_options
from streams.kafka.envelope import EnvelopeError, place_of, split_place, unseal
from streams.kafka.errors import BrokerError
from streams.kafka.layout import topic_name
from streams.kafka.shadow import BackfillError, Plan, ShadowTables, Span
from streams.kafka.topics import TopicAdmin
from streams.landing_rows import rows_of
from streams.settings import KafkaSettings, Settings

_POLL_MS: Final = 500
_PATIENCE: Final = 60
"""Empty polls in a row, of half a second each, after which the broker counts as away."""


def configuration_of(settings: Settings) -> str:
    """Return a digest of what makes scores of interactions: scorers, segments and policy."""
    what = [policy_version(), settings.scorer, [msgspec.structs.asdict(one) for one in settings.segment]]
    return content_digest(msgspec.json.encode(what, order="deterministic"))


class Progress(Struct, frozen=True):
    """How far a run is: offsets read and to read, interactions scored, records that were no envelopes."""

    read: int = 0
    total: int = 0
    scored: int = 0
    unreadable: int = 0


class InteractionLog:
    """The topic ``interactions``, read by offsets; a context manager.

    Raises
    ------
    BrokerError
        If the broker does not answer, or the topic is not there.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self.topic = topic_name("interactions", settings.topic_prefix)
        self._partitions = settings.partitions
        self._told = partial(_told, settings.topic_prefix)
        with TopicAdmin(settings):  # it hears a refused login, which a consumer tries again until time is up
            options = client_options(settings)
        with self._told("open a connection"):
            self._consumer: Any = KafkaConsumer(
                **options, isolation_level="read_committed", enable_auto_commit=False, metrics_enabled=False
            )

    def __enter__(self) -> "InteractionLog":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._consumer.close()

    def bounds(self) -> dict[int, Span]:
        """Return the first offset that is there and the one behind the last, by partition."""
        with self._told("ask for the offsets of interactions"):
            begins = self._consumer.beginning_offsets(self._every())
            ends = self._consumer.end_offsets(self._every())
        return {where.partition: Span(begin, ends[where]) for where, begin in begins.items()}

    def since(self, at_ms: int) -> dict[int, Span]:
        """Return the offsets of what was written at `at_ms` or later, until now, by partition."""
        bounds = self.bounds()
        with self._told("look up offsets by time"):
            found = self._consumer.offsets_for_times(dict.fromkeys(self._every(), at_ms))
        return {
            where.partition: Span(at.offset, max(at.offset, bounds[where.partition].end))
            for where, at in found.items()
            if at is not None
        }

    def read(self, partition: int, span: Span) -> Iterator[tuple[int, list[Any]]]:
        """Yield how far reading has come, as an offset, with the Kafka records since the last time.

        Raises
        ------
        BackfillError
            If retention took the offsets of `span`, or takes them meanwhile.
        BrokerError
            If the broker no longer answers.
        """
        where, empty = TopicPartition(self.topic, partition), 0
        with self._told("read interactions"):
            self._consumer.assign([where])
            if (begin := self._consumer.beginning_offsets([where])[where]) > span.first:
                raise BackfillError(
                    f"{self.topic}/{partition}: offsets {span.first} to {begin - 1} are gone by retention: "
                    "choose a later range"
                )
            self._consumer.seek(where, span.first)
            at = span.first
            while at < span.end:
                rows = self._consumer.poll(_POLL_MS).get(where, [])
                before, at = at, min(span.end, self._consumer.position(where))
                empty = 0 if at > before else empty + 1
                if empty > _PATIENCE:
                    raise BrokerError(f"kafka: {self.topic}/{partition}: nothing came for half a minute")
                yield at, [row for row in rows if row.offset < span.end]

    def _every(self) -> list[Any]:
        return [TopicPartition(self.topic, partition) for partition in range(self._partitions)]


def plan_by_time(log: InteractionLog, run_id: str, from_ms: int, to_ms: int, *, configuration: str) -> Plan:
    """Return the plan for the interactions received in [`from_ms`, `to_ms`).

    An interaction is never written before it is received, but it may be much later: so the log is read from
    the first record written at `from_ms` to its end.
    """
    return Plan(
        run_id=run_id,
        topic=log.topic,
        spans={str(part): span for part, span in log.since(from_ms).items()},
        from_ms=from_ms,
        to_ms=to_ms,
        configuration=configuration,
    )


def plan_by_offsets(
    log: InteractionLog, run_id: str, wanted: Mapping[int, Span], *, configuration: str
) -> Plan:
    """Return the plan for the Kafka offsets `wanted`, by partition.

    Raises
    ------
    BackfillError
        If there is no such partition or offset.
    """
    bounds = log.bounds()
    for partition, span in wanted.items():
        there = bounds.get(partition)
        if there is None:
            raise BackfillError(f"{log.topic} has no partition {partition}; there are {len(bounds)}")
        if span.first < there.first or span.end > there.end:
            raise BackfillError(
                f"{log.topic}/{partition} holds offsets {there.first} to {there.end - 1}: choose among these"
            )
    spans = {str(partition): span for partition, span in wanted.items()}
    return Plan(run_id=run_id, topic=log.topic, spans=spans, configuration=configuration)


def rescore(
    log: InteractionLog,
    stage: ScoreStage,
    plan: Plan,
    shadow: ShadowTables,
    *,
    batch: int,
    advance: Callable[[Progress], None],
) -> Progress:
    """Score what `plan` covers into `shadow`, from where it stands, and mark the run as complete.

    Parameters
    ----------
    batch
        Most interactions per insert; the Kafka record that reaches it is taken whole.
    advance
        Told after every insert how far it is.
    """
    done = 0
    progress = Progress(total=sum(span.end - span.first for span in plan.spans.values()))
    for partition, span in sorted((int(part), span) for part, span in plan.spans.items()):
        place = max(shadow.next_place(partition), place_of(span.first))
        rest = Span(split_place(place)[0], span.end)
        pending: list[tuple[int, Interaction]] = []
        for at, rows in log.read(partition, rest):
            found, unreadable = _interactions(rows, place, plan)
            pending += found
            progress = _moved(progress, done + at - span.first, unreadable=unreadable)
            if len(pending) >= batch:
                progress = _store(stage, partition, pending, shadow, progress)
            advance(progress)
        progress = _store(stage, partition, pending, shadow, progress)
        done += span.end - span.first
        progress = _moved(progress, done)
        advance(progress)
    shadow.mark(plan, "complete")
    return progress


def _moved(progress: Progress, read: int, *, unreadable: int = 0) -> Progress:
    return Progress(read, progress.total, progress.scored, progress.unreadable + unreadable)


def _store(
    stage: ScoreStage,
    partition: int,
    pending: list[tuple[int, Interaction]],
    shadow: ShadowTables,
    progress: Progress,
) -> Progress:
    """Score and insert `pending`, and empty it."""
    if not pending:
        return progress
    cards = [(partition, place, stage.score(record, partition, place)) for place, record in pending]
    shadow.insert(partition, pending[0][0], pending[-1][0], rows_of(cards))
    scored = progress.scored + len(pending)
    pending.clear()
    return Progress(progress.read, progress.total, scored, progress.unreadable)


def _interactions(
    rows: Sequence[Any], from_place: int, plan: Plan
) -> tuple[list[tuple[int, Interaction]], int]:
    """Return the interactions that `plan` covers, each with its place, and how many rows were none."""
    found, unreadable = [], 0
    for row in rows:
        try:
            records = unseal(row.value or b"", row.headers or ())[1]
        except EnvelopeError:  # the score stage has sent it to the dead letters
            unreadable += 1
            continue
        for index, record in enumerate(records):
            place = place_of(row.offset, index)
            if isinstance(record, Interaction) and place >= from_place and plan.covers(record):
                found.append((place, record))
    return found, unreadable


@contextmanager
def _told(prefix: str, doing: str) -> Iterator[None]:
    """Turn the errors of kafka-python into one line."""
    try:
        yield
    except kafka_errors.AuthorizationError as error:
        raise BrokerError(
            f"kafka: not allowed to {doing}: allow this user Read and Describe on topics with the "
            f"prefix {prefix}."
        ) from error
    except kafka_errors.KafkaError as error:
        raise BrokerError(f"kafka: cannot {doing} ({type(error).__name__}): check that it runs") from error
