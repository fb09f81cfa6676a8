"""Releases and references: told once, they govern every partition, from the same record on in a replay."""

from detectors.records import Reference, Release
from detectors.records.ids import derive_id
from detectors.records.reference import name_reference
from detectors.records.wording import plain_segment
from streams.door.admission_context import Admission, AdmissionContext, digest_of, read_time_ms
from streams.door.screen import Screen
from streams.door.submission import ReferenceSubmission, RefusedError, ReleaseSubmission
from streams.inbox import Entry


def admit_release(sent: ReleaseSubmission, context: AdmissionContext) -> Admission:
    """Return the admission of a declaration; RefusedError if its start is out of range."""
    started_ms = read_time_ms(sent.started_at, "started_at", context, past=False)
    screen = Screen(context.redactor)
    record = Release(
        deployment=sent.deployment,
        release=sent.release,
        role=sent.role,
        started_at_ms=started_ms,
        digest=screen.text(sent.digest, "digest"),
        share=sent.share,
        notes=screen.text(sent.notes, "notes"),
    )
    return _admit_control(record, "releases", "release", context)


def admit_reference(sent: ReferenceSubmission, context: AdmissionContext) -> Admission:
    """Return the admission of an approval; RefusedError for a time or a segment that cannot be."""
    first_ms, last_ms, approved_ms = (
        read_time_ms(at, name, context, past=False)
        for at, name in (
            (sent.first_at, "first_at"),
            (sent.last_at, "last_at"),
            (sent.approved_at, "approved_at"),
        )
    )
    if last_ms < first_ms:
        raise RefusedError(422, "last_at_out_of_range", "last_at: before first_at")
    for name, segments in (("segment", [sent.segment]), ("cells", list(sent.cells))):
        if any(plain_segment(segment) != segment for segment in segments):
            raise RefusedError(
                422, "segment_invalid", f"{name}: a segment is all, or name=value in plain words"
            )
    _check_cells(sent)
    record = Reference(
        reference_id="",
        deployment=sent.deployment,
        release=sent.release,
        segment=sent.segment,
        metric=sent.metric,
        scorer_version=sent.scorer_version,
        n=sent.n,
        mean=sent.mean,
        variance=sent.variance,
        first_ms=first_ms,
        last_ms=last_ms,
        cells=sent.cells,
        approved_at_ms=approved_ms,
    )
    return _admit_control(name_reference(record), "references", "reference", context)


def _check_cells(sent: ReferenceSubmission) -> None:
    """Refuse slices that no values in [0, 1] can have: what explains an alarm reckons with them."""
    for segment, cell in sent.cells.items():
        rounding = 1e-9 * cell.n
        sums = -rounding <= cell.squares <= cell.total + rounding <= cell.n + 2.0 * rounding
        if "=" not in segment or not 1 <= cell.n <= sent.n or not sums:
            raise RefusedError(
                422,
                "cells_invalid",
                "cells: of each name=value there are 1 to n units with values in [0, 1]: the sum of their "
                "squares is at most their sum, and that at most their number",
            )


def _admit_control(
    record: Release | Reference, topic: str, kind: str, context: AdmissionContext
) -> Admission:
    """Admit what is told once, on its own topic, and governs every partition, among the interactions."""
    digest = digest_of(record, context)
    identity = derive_id(kind, record.deployment, digest)
    told = Entry(
        topic=topic, key=record.deployment, record=record, identity=f"{kind}:{identity}", digest=digest
    )
    control = Entry(
        topic="interactions", key=None, record=record, identity=f"{kind}-control:{identity}", digest=digest
    )
    return Admission(entries=(told, control), client_id=identity)
