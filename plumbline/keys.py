"""Where a submission goes on Kafka: records that belong together share a key, and so a partition."""

from collections.abc import Mapping
from typing import Any, Literal

from detectors.records.ids import derive_id, interaction_id

Kind = Literal["interaction", "release", "reference", "feedback", "label"]


def submission_key(kind: Kind, fields: Mapping[str, Any]) -> str:
    """Return the key of a submission with these `fields`: its deployment and, of an interaction, whose it is.

    That is its user, else its conversation, else its own id, as in the topic of interactions, so that turns
    stay in order and a record that is sent twice meets itself. User and conversation are hashed: keys show in
    the tools of brokers. The hash has no secret, as the value beside it holds the name itself.

    Examples
    --------
    >>> submission_key("feedback", {"deployment": "support", "interaction_id": "42"})
    'support'
    >>> one = submission_key("interaction", {"deployment": "support", "user": "ann", "id": "1"})
    >>> one == submission_key("interaction", {"deployment": "support", "user": "ann", "id": "2"})
    True
    """
    deployment = _text(fields.get("deployment"))
    if kind != "interaction":
        return deployment
    for name in ("user", "conversation"):
        if whose := _text(fields.get(name)):
            return f"{deployment}/{derive_id(name, deployment, whose)}"
    return f"{deployment}/{interaction_id(deployment, _text(fields.get('id')))}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
