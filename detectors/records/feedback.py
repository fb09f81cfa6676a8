"""What people said about an interaction."""

from typing import Literal

from msgspec import Struct


class Feedback(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A thumb, rating, ticket or outcome that joins an interaction by its id.

    ``value`` is in [0, 1], 1 is best. Silence is never read as approval.
    """

    deployment: str
    feedback_id: str
    interaction_id: str
    kind: Literal["thumb", "rating", "ticket", "outcome"]
    event_time_ms: int
    received_at_ms: int
    value: float
    comment: str = ""


class Label(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A reviewer's judgement of one metric of one interaction; ``value`` is in [0, 1]."""

    deployment: str
    label_id: str
    interaction_id: str
    metric: str
    value: float
    rater: str
    event_time_ms: int
    received_at_ms: int
    comment: str = ""
