"""What normal was, as an immutable artefact."""

from msgspec import Struct


class Reference(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The pinned behaviour of one metric in one segment, by which every later release is measured.

    ``reference_id`` is a hash of everything else, so the same reference has the same id wherever it is
    computed. ``mean`` and ``variance`` are over ``n`` closed units between the two times; values lie in
    [0, 1].
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
