"""Records as rows of the store: one function per record type, values by column.

Landing must never fail on what a record holds; :mod:`streams.landing_cells` says what is bent to fit.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from detectors.records import (
    Action,
    Decision,
    Feedback,
    Interaction,
    Label,
    Reference,
    Release,
    Scorecard,
    Signal,
)
from detectors.records.codec import Record
from detectors.records.ids import content_digest
from streams.landing_cells import (
    arm_columns,
    interval_columns,
    json_text,
    text,
    text_map,
    time_ms,
    time_ms_or_none,
    whole,
    whole_or_none,
)
from streams.landing_scores import score_columns

LANDED: Final[Mapping[str, type[Record]]] = {
    "signals": Signal,
    "decisions": Decision,
    "actions": Action,
    "scorecards": Scorecard,
    "interactions": Interaction,
    "releases": Release,
    "references": Reference,
    "feedback": Feedback,
    "labels": Label,
}
"""Topic -> the record that lands from it; what travels beside it as a control record lands elsewhere.

What somebody looks at first lands first.
"""

Row = dict[str, Any]
Rows = list[tuple[str, Row]]


def rows_of(records: Sequence[tuple[int, int, Record]]) -> dict[str, dict[str, list[Any]]]:
    """Return table -> column -> values of `records`, in their order.

    Equal input gives equal output, so a repeated batch is the identical insert. Ticks land nowhere.

    Parameters
    ----------
    records
        Partition, offset and record, as read from one topic.

    Examples
    --------
    >>> label = Label(deployment="d", label_id="l", interaction_id="i", metric="refusal", value=1.0,
    ...               rater="r", event_time_ms=5, received_at_ms=6)
    >>> rows_of([(2, 40, label)])["labels"]["src_offset"]
    [40]
    """
    tables: dict[str, dict[str, list[Any]]] = {}
    cards = [(at, place, record) for at, place, record in records if isinstance(record, Scorecard)]
    for partition, offset, record in records:
        landing = _LANDINGS.get(type(record))
        if landing is None:
            continue
        for table, row in landing(record):
            columns = tables.setdefault(table, {})
            row["src_partition"] = partition
            row["src_offset"] = offset
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
    if any(card.scores for _, _, card in cards):
        tables["scores"] = score_columns(cards)
    return tables


def _interaction(record: Interaction) -> Rows:
    both = {
        "deployment": text(record.deployment),
        "interaction_id": text(record.interaction_id),
        "event_time": time_ms(record.event_time_ms),
        "received_at": time_ms(record.received_at_ms),
    }
    head = both | {
        "release": text(record.release),
        "raw_id": text(record.raw_id),
        "user": text(record.user),
        "user_key_id": text(record.user_key_id),
        "conversation": text(record.conversation),
        "final": record.final,
        **arm_columns(record.arm),
        "model": text(record.model),
        "prompt_version": text(record.prompt_version),
        "finish_reason": text(record.finish_reason),
        "input_tokens": whole_or_none(record.input_tokens),
        "output_tokens": whole_or_none(record.output_tokens),
        "latency_s": record.latency_s,
        "attributes": text_map(record.attributes),
        "redaction_kinds": sorted({text(found.kind) for found in record.redactions}),
        "prompt_chars": len(record.prompt),
        "response_chars": len(record.response),
    }
    body = both | {
        "prompt": text(record.prompt),
        "response": text(record.response),
        "system": text(record.system),
        "history": json_text(record.history),
        "context": json_text(record.context),
        "tools": json_text(record.tools),
        "annotations": json_text(record.annotations),
        "redactions": json_text(record.redactions),
        "extra": json_text(record.extra),
    }
    return [("interactions", head), ("interaction_text", body)]


def _scorecard(record: Scorecard) -> Rows:
    row = {
        "deployment": text(record.deployment),
        "release": text(record.release),
        "interaction_id": text(record.interaction_id),
        "event_time": time_ms(record.event_time_ms),
        "received_at": time_ms(record.received_at_ms),
        "unit": text(record.unit),
        "verdict": record.verdict,
        "policy_version": text(record.policy_version),
        "deciding": [text(name) for name in record.deciding],
        **arm_columns(record.arm),
        "segments": text_map(record.segments),
        "source_partition": record.source_partition,
        "source_offset": record.source_offset,
    }
    return [("scorecards", row)]


def _signal(record: Signal) -> Rows:
    stream = record.stream
    row = {
        "deployment": text(stream.deployment),
        "kind": record.kind,
        "at": time_ms(record.at_ms),
        "signal_id": text(record.signal_id),
        "release": text(stream.release),
        "segment": text(stream.segment),
        "metric": text(stream.metric),
        "test": stream.test,
        "state": record.state,
        "role": record.role,
        "direction": record.direction,
        "worse": record.worse,
        "detected": record.detected,
        "n": whole(record.n),
        "n_total": whole(record.n_total),
        "mean": record.mean,
        "baseline": record.baseline,
        "effect": record.effect,
        **interval_columns(record.interval),
        "effect_n": whole(record.effect_n),
        "evidence": record.evidence,
        "threshold": record.threshold,
        "began_at": time_ms_or_none(record.began_at_ms),
        "detector": text(record.detector),
        "reason": text(record.reason),
        "reference_id": text(record.reference_id),
        "bad": [text(example) for example in record.bad],
        "good": [text(example) for example in record.good],
        "split": record.split,
        "split_by": text(record.split_by),
        "within": record.within,
        "mix": record.mix,
        "segments": [text(segment) for segment in record.segments],
    }
    return [("signals", row)]


def _decision(record: Decision) -> Rows:
    row = {
        "deployment": text(record.deployment),
        "at": time_ms(record.at_ms),
        "decision_id": text(record.decision_id),
        "release": text(record.release),
        "cause": record.cause,
        "verbs": list(record.verbs),
        "reason": text(record.reason),
        "rule": text(record.rule),
        "summary": text(record.summary),
        "metric": text(record.metric),
        "segment": text(record.segment),
        "signal_ids": [text(signal) for signal in record.signal_ids],
        "effect": record.effect,
        "low": record.low,
        "high": record.high,
        "baseline": record.baseline,
        "n": whole(record.n),
        "began_at": time_ms_or_none(record.began_at_ms),
        "exemplars": [text(example) for example in record.exemplars],
    }
    return [("decisions", row)]


def _action(record: Action) -> Rows:
    row = {
        "deployment": text(record.deployment),
        "action_id": text(record.action_id),
        "seq": whole(record.seq),
        "at": time_ms(record.at_ms),
        "release": text(record.release),
        "decision_id": text(record.decision_id),
        "kind": record.kind,
        "target": text(record.target),
        "state": record.state,
        "reason": text(record.reason),
        "from_release": text(record.from_release),
        "to_release": text(record.to_release),
        "dry_run": record.dry_run,
        "detail": json_text(record.detail),
    }
    return [("actions", row)]


def _release(record: Release) -> Rows:
    row = {
        "deployment": text(record.deployment),
        "release": text(record.release),
        "started_at": time_ms(record.started_at_ms),
        "content": content_digest(json_text(record).encode()),
        "role": record.role,
        "digest": text(record.digest),
        "share": record.share,
        "notes": text(record.notes),
    }
    return [("releases", row)]


def _feedback(record: Feedback) -> Rows:
    row = {
        "deployment": text(record.deployment),
        "feedback_id": text(record.feedback_id),
        "interaction_id": text(record.interaction_id),
        "kind": record.kind,
        "event_time": time_ms(record.event_time_ms),
        "received_at": time_ms(record.received_at_ms),
        "value": record.value,
    }
    return [("feedback", row), *_comment("feedback", record.feedback_id, record)]


def _label(record: Label) -> Rows:
    row = {
        "deployment": text(record.deployment),
        "label_id": text(record.label_id),
        "interaction_id": text(record.interaction_id),
        "metric": text(record.metric),
        "value": record.value,
        "rater": text(record.rater),
        "event_time": time_ms(record.event_time_ms),
        "received_at": time_ms(record.received_at_ms),
    }
    return [("labels", row), *_comment("label", record.label_id, record)]


def _comment(source: str, source_id: str, record: Feedback | Label) -> Rows:
    if not record.comment:
        return []
    row = {
        "deployment": text(record.deployment),
        "source": source,
        "source_id": text(source_id),
        "interaction_id": text(record.interaction_id),
        "event_time": time_ms(record.event_time_ms),
        "received_at": time_ms(record.received_at_ms),
        "comment": text(record.comment),
    }
    return [("comments", row)]


def _reference(record: Reference) -> Rows:
    row = {
        "deployment": text(record.deployment),
        "metric": text(record.metric),
        "segment": text(record.segment),
        "release": text(record.release),
        "reference_id": text(record.reference_id),
        "scorer_version": text(record.scorer_version),
        "n": whole(record.n),
        "mean": record.mean,
        "variance": record.variance,
        "first_at": time_ms(record.first_ms),
        "last_at": time_ms(record.last_ms),
        "approved_at": time_ms(record.approved_at_ms or 0),
        "cells": json_text(record.cells),
    }
    return [("reference_points", row)]


_LANDINGS: Final[Mapping[type[Record], Callable[[Any], Rows]]] = {
    Action: _action,
    Decision: _decision,
    Feedback: _feedback,
    Interaction: _interaction,
    Label: _label,
    Reference: _reference,
    Release: _release,
    Scorecard: _scorecard,
    Signal: _signal,
}
