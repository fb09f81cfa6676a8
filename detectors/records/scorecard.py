"""Every score of one interaction, with its verdict."""

from typing import Literal

from msgspec import Struct

from detectors.records.interaction import Arm

Direction = Literal["higher", "lower", "neutral"]
"""Which way is better. A *neutral* score describes; it is never worse, and never pages."""

ScoreStatus = Literal["scored", "abstained", "skipped", "errored"]
Verdict = Literal["pass", "review", "reject"]


class Span(Struct, frozen=True, array_like=True, gc=False):
    """Where the evidence stands: characters ``[start, end)`` of ``field``, and the rule that found it."""

    field: str
    start: int
    end: int
    rule: str


class Score(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """One measurement of one interaction.

    ``value`` is in [0, 1], finite, and None unless ``status`` is *scored*. ``confidence`` in [0, 1] is how
    sure the scorer is of this value. ``label`` names the kind where there is one (``full``, ``partial``,
    ``deflection`` for a refusal). ``flags`` are categories raised, ``reason`` says why there is no value.
    """

    name: str
    value: float | None = None
    direction: Direction = "neutral"
    confidence: float = 1.0
    label: str = ""
    flags: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    status: ScoreStatus = "scored"
    reason: str = ""
    version: str = "1"


class Scorecard(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """All scores of one interaction, its verdict, its segments and where it came from.

    ``unit`` is the key of the randomisation or cluster unit the interaction belongs to. ``source_partition``
    and ``source_offset`` name the interaction's place in the log.
    """

    deployment: str
    interaction_id: str
    release: str
    event_time_ms: int
    received_at_ms: int
    unit: str
    scores: tuple[Score, ...]
    verdict: Verdict = "pass"
    deciding: tuple[str, ...] = ()
    arm: Arm | None = None
    segments: dict[str, str] = {}
    policy_version: str = ""
    source_partition: int = 0
    source_offset: int = 0
