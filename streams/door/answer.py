"""What the door answers: one verdict per record, or one problem with the request as a whole."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The verdict on the record of one line.

    ``id`` is the client's id as stored (redacted), or the one derived from the content. ``code`` and
    ``message`` say why a record was refused, and never repeat what was sent.
    """

    line: int
    status: Literal[200, 202, 400, 409, 413, 422]
    verdict: Literal["accepted", "duplicate", "refused"]
    id: str = ""
    interaction_id: str = ""
    code: str = ""
    message: str = ""


class Answer(Struct, frozen=True, kw_only=True):
    """The verdicts of one request, in the order of its lines."""

    accepted: int
    duplicate: int
    refused: int
    results: tuple[Result, ...]


class Problem(Struct, frozen=True, kw_only=True):
    """Why the request was refused as a whole; none of its records is known to be stored."""

    code: str
    message: str


def answer_results(results: Sequence[Result]) -> tuple[int, Answer]:
    """Return the HTTP status of one or more `results`, and the body that holds them.

    202 if anything is stored, now or before; else the status of the first refusal.

    Examples
    --------
    >>> refused = Result(line=1, status=422, verdict="refused", code="field_missing")
    >>> answer_results([refused, Result(line=2, status=202, verdict="accepted")])[0]
    202
    >>> answer_results([refused])[0]
    422
    """
    counts = {"accepted": 0, "duplicate": 0, "refused": 0}
    for result in results:
        counts[result.verdict] += 1
    status = 202 if counts["accepted"] or counts["duplicate"] else int(results[0].status)
    return status, Answer(**counts, results=tuple(results))
