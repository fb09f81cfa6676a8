"""From a submission to the entry that goes into the journal: times, redaction, keyed hashes, ids, digest.

Nothing here touches the network or the clock, so a replay of old payloads admits them in the same way.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from detectors.records import (
    Annotations,
    Arm,
    Feedback,
    Interaction,
    Label,
    ToolCall,
    Turn,
)
from detectors.records.ids import derive_id, interaction_id
from detectors.redaction import key_id, keyed_hash
from streams.door.admission_context import NO_TIME, Admission, AdmissionContext, digest_of, read_time_ms
from streams.door.controls import admit_reference, admit_release
from streams.door.screen import Screen
from streams.door.submission import (
    FeedbackSubmission,
    InteractionSubmission,
    Kind,
    LabelSubmission,
    ReferenceSubmission,
    RefusedError,
    ReleaseSubmission,
    Submission,
    check_id,
    check_key,
    read_submission,
)
from streams.inbox import Entry

__all__ = [
    "CONFLICT",
    "Admission",
    "AdmissionContext",
    "Refusal",
    "admit_payloads",
    "judge_payloads",
]


class Refusal(Struct, frozen=True, kw_only=True):
    """Why a payload was not admitted; holds nothing of it."""

    status: int
    code: str
    message: str


CONFLICT: Final = Refusal(
    status=409,
    code="id_conflict",
    message="id: another record is stored under this id; send a new id, or the same content",
)


def admit_payloads(payloads: Sequence[bytes], kind: Kind, context: AdmissionContext) -> list[Entry | Refusal]:
    """Return the entries of `payloads` in order, with a refusal in the place of a bad one.

    A release or reference gives two entries (the record, and the control record for every partition), every
    other kind one. Never raises for any payload.
    """
    verdicts: list[Entry | Refusal] = []
    for judged in judge_payloads(payloads, kind, context):
        verdicts += judged.entries if isinstance(judged, Admission) else (judged,)
    return verdicts


def judge_payloads(
    payloads: Sequence[bytes], kind: Kind, context: AdmissionContext
) -> list[Admission | Refusal]:
    """Return one verdict for each of `payloads`, in order; never raises for any payload."""
    verdicts: list[Admission | Refusal] = []
    for payload in payloads:
        try:
            submission, extra = read_submission(payload, kind, max_bytes=context.settings.max_record_bytes)
            verdicts.append(_admit(submission, extra, context))
        except RefusedError as error:
            verdicts.append(Refusal(status=error.status, code=error.code, message=error.message))
    return verdicts


def _admit(submission: Submission, extra: dict[str, object], context: AdmissionContext) -> Admission:
    match submission:
        case InteractionSubmission():
            return _admit_interaction(submission, extra, context)
        case ReleaseSubmission():
            return admit_release(submission, context)
        case ReferenceSubmission():
            return admit_reference(submission, context)
        case FeedbackSubmission() | LabelSubmission():
            return _admit_opinion(submission, context)
        case _:
            raise TypeError(f"no admission for {type(submission).__name__}")


def _admit_interaction(
    sent: InteractionSubmission, extra: dict[str, object], context: AdmissionContext
) -> Admission:
    client_ms = read_time_ms(sent.event_time, "event_time", context)
    raw_id = _raw_id(sent.id, context)
    for key in sent.attributes:
        check_key(key, "attributes")
    screen = Screen(context.redactor)
    clean_id = screen.text(raw_id, "id")
    draft = _screened(sent, extra, screen, context, client_ms)
    digest = digest_of(draft, context)
    if not raw_id:
        raw_id = clean_id = derive_id("interaction-content", sent.deployment, digest)
    stored_id = interaction_id(sent.deployment, raw_id)
    record = msgspec.structs.replace(
        draft,
        raw_id=clean_id,
        interaction_id=stored_id,
        received_at_ms=context.received_at_ms,
        event_time_ms=context.received_at_ms if client_ms == NO_TIME else client_ms,
    )
    entry = Entry(
        topic="interactions",
        key=f"{sent.deployment}/{record.user or record.conversation or stored_id}",
        record=record,
        identity=f"interaction:{stored_id}",
        digest=digest,
    )
    return Admission(entries=(entry,), client_id=clean_id, interaction_id=stored_id)


def _screened(
    sent: InteractionSubmission,
    extra: dict[str, object],
    screen: Screen,
    context: AdmissionContext,
    client_ms: int,
) -> Interaction:
    """Return the record with its texts redacted and without what differs between two sendings of it."""
    return Interaction(
        deployment=sent.deployment,
        interaction_id="",
        raw_id="",
        release=sent.release,
        event_time_ms=client_ms,
        received_at_ms=0,
        prompt=screen.text(sent.prompt, "prompt"),
        response=screen.text(sent.response, "response"),
        system=screen.text(sent.system, "system"),
        history=tuple(
            Turn(turn.role, screen.text(turn.text, f"history[{at}]")) for at, turn in enumerate(sent.history)
        ),
        context=tuple(screen.text(text, f"context[{at}]") for at, text in enumerate(sent.context)),
        tools=tuple(_tool(call, f"tools[{at}]", screen) for at, call in enumerate(sent.tools)),
        user=_hashed(sent.user, context),
        user_key_id=key_id(context.user_key) if sent.user or sent.conversation else "",
        conversation=_hashed(sent.conversation, context),
        final=sent.final,
        arm=Arm(sent.arm.name, sent.arm.share, sent.arm.unit) if sent.arm else None,
        model=screen.text(sent.model, "model"),
        prompt_version=screen.text(sent.prompt_version, "prompt_version"),
        finish_reason=screen.text(sent.finish_reason, "finish_reason"),
        input_tokens=sent.input_tokens,
        output_tokens=sent.output_tokens,
        latency_s=sent.latency_s,
        attributes=screen.texts(sent.attributes, "attributes"),
        annotations=_annotations(sent.annotations, screen),
        extra=screen.tree(extra, "extra"),
        redactions=screen.redactions,  # last: arguments are evaluated in order, and these are what they found
    )


def _hashed(raw: str, context: AdmissionContext) -> str:
    return keyed_hash(raw, context.user_key) if raw else ""


def _tool(call: ToolCall, place: str, screen: Screen) -> ToolCall:
    return ToolCall(
        screen.text(call.name, f"{place}.name"),
        screen.text(call.arguments, f"{place}.arguments"),
        screen.text(call.result, f"{place}.result"),
    )


def _annotations(sent: Annotations, screen: Screen) -> Annotations:
    if not sent.reference_answer:
        return sent
    clean = screen.text(sent.reference_answer, "annotations.reference_answer")
    return msgspec.structs.replace(sent, reference_answer=clean)


def _admit_opinion(sent: FeedbackSubmission | LabelSubmission, context: AdmissionContext) -> Admission:
    """Admit feedback or a label: they differ in two fields only."""
    client_ms = read_time_ms(sent.event_time, "event_time", context)
    raw_id = _raw_id(sent.id, context)
    check_id(sent.interaction_id, "interaction_id")
    about = interaction_id(sent.deployment, sent.interaction_id)
    draft = _opinion(sent, about, client_ms, context)
    kind, id_field = ("feedback", "feedback_id") if isinstance(draft, Feedback) else ("label", "label_id")
    digest = digest_of(draft, context)
    raw_id = raw_id or derive_id(f"{kind}-content", sent.deployment, digest)
    stored_id = derive_id(kind, sent.deployment, raw_id)
    times = {
        "received_at_ms": context.received_at_ms,
        "event_time_ms": context.received_at_ms if client_ms == NO_TIME else client_ms,
    }
    entry = Entry(
        topic="feedback" if kind == "feedback" else "labels",
        key=sent.deployment,
        record=msgspec.structs.replace(draft, **times, **{id_field: stored_id}),
        identity=f"{kind}:{stored_id}",
        digest=digest,
    )
    clean_id = Screen(context.redactor).text(raw_id, "id")
    return Admission(entries=(entry,), client_id=clean_id, interaction_id=about)


def _opinion(
    sent: FeedbackSubmission | LabelSubmission, about: str, client_ms: int, context: AdmissionContext
) -> Feedback | Label:
    comment = Screen(context.redactor).text(sent.comment, "comment")
    if isinstance(sent, FeedbackSubmission):
        return Feedback(
            deployment=sent.deployment,
            feedback_id="",
            interaction_id=about,
            kind=sent.kind,
            event_time_ms=client_ms,
            received_at_ms=0,
            value=sent.value,
            comment=comment,
        )
    # Raters must stay distinct, so one who is named by an address becomes a hash and not a placeholder.
    rater = Screen(context.redactor).text(sent.rater, "rater")
    return Label(
        deployment=sent.deployment,
        label_id="",
        interaction_id=about,
        metric=sent.metric,
        value=sent.value,
        rater=rater if rater == sent.rater else keyed_hash(sent.rater, context.user_key),
        event_time_ms=client_ms,
        received_at_ms=0,
        comment=comment,
    )


def _raw_id(sent_id: str | None, context: AdmissionContext) -> str:
    """Return the client's id, else the idempotency key, else nothing: it is then derived."""
    if sent_id is not None:
        check_id(sent_id, "id")
        return sent_id
    if context.idempotency_key is not None:
        check_id(context.idempotency_key, "the Idempotency-Key header")
        return context.idempotency_key
    return ""
