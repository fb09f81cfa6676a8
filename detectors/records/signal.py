"""What a stream of scores said."""

from typing import Literal

from msgspec import Struct

from detectors.records.scorecard import Direction

SignalKind = Literal["change", "cleared", "status"]
SplitKind = Literal["within", "mix", "both", "unclear"]


class StreamKey(Struct, frozen=True, array_like=True, order=True):
    """Names one monitored stream.

    ``segment`` is ``all`` or ``name=value``. ``test`` is ``reference`` (against the pinned anchor), ``own``
    (against the release's own beginning), ``arm`` (canary against stable under known routing) or ``share``
    (the served share of the release).
    """

    deployment: str
    release: str
    segment: str
    metric: str
    test: Literal["reference", "own", "arm", "share"]

    def parts(self) -> tuple[str, ...]:
        """Return the five names, from which ids are derived: a slash in one of them changes nothing."""
        return self.deployment, self.release, self.segment, self.metric, self.test

    def __str__(self) -> str:
        return f"{self.deployment}/{self.release}/{self.segment}/{self.metric}/{self.test}"


class Interval(Struct, frozen=True, array_like=True):
    """A confidence interval; ``level`` is its coverage, valid at any stopping time where it says so."""

    low: float
    high: float
    level: float


class Signal(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A change, its end, or the status of a stream at the close of a bucket of event time.

    ``n`` counts the units behind ``mean``: for a reference test those since the last status, for an arm test
    all canary units so far, for a share the interactions since the last status. ``from_ms`` is the start of
    the first bucket behind ``n`` and ``mean``. ``mean_interval`` is valid at the bucket's close alone.
    ``baseline`` is the anchor's mean, or the stable arm's. ``effect`` is the difference from it over
    ``effect_n`` units, with its ``interval``, which holds at any stopping time: for an arm test over all
    canary units so far, for a reference test over the units that came *after* the alarm, because those before
    it are biased by having raised it. ``worse`` is true when the change points against the metric's
    direction; ``alarmed_at_ms`` is when it was announced. ``evidence`` is log10 of the detector's statistic,
    ``threshold`` log10 of where it alarms, ``n_total`` the units seen so far. ``bad`` and ``good`` are
    example interaction ids.

    ``split`` tells, for a change of the whole against the anchor, whether answers got worse ``within``
    slices, or the ``mix`` of the traffic moved to slices that were always worse (or *both*; *unclear*: the
    units do not say; empty: nothing is known by slice). ``within`` + ``mix`` is the change over the whole
    buckets after the alarm, split by the dimension ``split_by`` (Kitagawa). ``segments`` are the slices whose
    own mean got worse beyond chance, the worst first.

    Whether a candidate can be compared at all is said under the metric ``routing`` of its arm test: state
    *blind* with the reason at every status while it cannot, *steady* once when it can again.
    """

    signal_id: str
    kind: SignalKind
    stream: StreamKey
    at_ms: int
    n: int
    from_ms: int | None = None
    n_total: int = 0
    mean: float | None = None
    mean_interval: Interval | None = None
    baseline: float | None = None
    effect: float | None = None
    interval: Interval | None = None
    effect_n: int = 0
    direction: Direction = "neutral"
    worse: bool = False
    evidence: float = 0.0
    threshold: float = 0.0
    detected: bool = False
    state: Literal["warming", "steady", "warning", "drift", "blind"] = "steady"
    began_at_ms: int | None = None
    alarmed_at_ms: int | None = None
    role: Literal["stable", "candidate", "retired", "unknown"] = "unknown"
    detector: str = ""
    reason: str = ""
    reference_id: str = ""
    bad: tuple[str, ...] = ()
    good: tuple[str, ...] = ()
    split: SplitKind | Literal[""] = ""
    split_by: str = ""
    within: float | None = None
    mix: float | None = None
    segments: tuple[str, ...] = ()
