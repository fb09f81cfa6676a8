"""What normal was, as an immutable artefact."""

import msgspec
from msgspec import Struct

from detectors.records.ids import content_digest


class Cell(Struct, frozen=True, array_like=True):
    """The units of one slice: how many, their sum, and the sum of their squares."""

    n: int
    total: float
    squares: float


class Reference(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The pinned behaviour of one metric in one segment, by which every later release is measured.

    ``reference_id`` is a hash of everything but itself and ``approved_at_ms``, so the same reference has the
    same id wherever it is computed. ``mean`` and ``variance`` are over ``n`` closed units between the two
    times; values lie in [0, 1]. Where ``segment`` is ``all``, ``cells`` holds the same units by slice
    (``name=value``), by which a shift of the traffic's mix is told from worse answers.

    ``approved_at_ms`` is the event time from which somebody wants it to be normal, whatever was normal until
    then; None: nobody asked, detection pinned it from the first units it saw.
    """

    reference_id: str
    deployment: str
    release: str
    segment: str
    metric: str
    scorer_version: str
    n: int
    mean: float
    variance: float
    first_ms: int
    last_ms: int
    cells: dict[str, Cell] = {}
    approved_at_ms: int | None = None


def name_reference(reference: Reference) -> Reference:
    """Return `reference` under the id that its content gives it.

    Examples
    --------
    >>> one = Reference(reference_id="", deployment="d", release="1", segment="all", metric="helpful",
    ...                 scorer_version="1", n=4, mean=0.5, variance=0.25, first_ms=0, last_ms=9)
    >>> later = msgspec.structs.replace(one, approved_at_ms=50)
    >>> name_reference(one).reference_id == name_reference(later).reference_id
    True
    """
    cells = dict(sorted(reference.cells.items()))
    bare = msgspec.structs.replace(reference, reference_id="", approved_at_ms=None, cells=cells)
    return msgspec.structs.replace(
        reference, cells=cells, reference_id=content_digest(msgspec.json.encode(bare))
    )
