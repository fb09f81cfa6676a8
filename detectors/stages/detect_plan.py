"""How detection is done."""

from msgspec import Struct


class DetectPlan(Struct, frozen=True, kw_only=True):
    """How detection is done; see the settings ``[detect]`` for what each means to a user.

    ``reference_alpha`` is per observation of one reference stream (against the anchor, or the release's own
    beginning), ``arm_alpha`` per arm stream for ever. ``max_streams`` (references likewise),
    ``max_undeclared`` releases and ``max_seen_units`` are per deployment;
    ``max_deployments`` bounds, per partition, those of which nobody declared a release.
    """

    source_partitions: int
    unit_ms: int
    lateness_ms: int
    status_ms: int
    reference_units: int
    tolerance: float
    reference_alpha: float
    arm_alpha: float
    max_streams: int = 5_000
    max_deployments: int = 1_000
    max_undeclared: int = 50
    max_seen_units: int = 200_000
    segment_top: dict[str, int] = {}
