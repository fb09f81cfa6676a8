"""One exchange between a person (or a program) and an AI product, after the door."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Share = Annotated[float, Meta(gt=0.0, lt=1.0, description="share of the traffic routed to this arm")]


class Turn(Struct, frozen=True, omit_defaults=True):
    """One earlier message of the conversation, oldest first."""

    role: Literal["user", "assistant", "tool"]
    text: str


class ToolCall(Struct, frozen=True, omit_defaults=True):
    """A tool the model called while answering (OpenTelemetry ``gen_ai.tool.*``)."""

    name: str
    arguments: str = ""
    result: str = ""


class Arm(Struct, frozen=True, omit_defaults=True):
    """The experiment arm stamped by the router.

    Without a known ``share`` the arm test is blind: the share is never estimated. ``unit`` is the unit of
    randomisation, and so the unit of the test.
    """

    name: str
    share: Share | None = None
    unit: Literal["conversation", "user"] = "conversation"


class Annotations(Struct, frozen=True, omit_defaults=True):
    """What the product knows and a scorer would otherwise infer."""

    unsafe_request: bool | None = None
    fact_known: bool | None = None
    reference_answer: str | None = None
    expertise: Literal["beginner", "intermediate", "expert"] | None = None


class Redaction(Struct, frozen=True):
    """Something personal or secret that the door replaced by a placeholder.

    ``start`` and ``end`` delimit the placeholder in the redacted text of ``field``, in characters.
    """

    kind: str
    field: str
    start: int
    end: int


class Interaction(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A prompt and what the user was shown, redacted, with everything needed to slice it.

    ``interaction_id`` is uuid5 of deployment and ``raw_id``, the client's own id. ``user`` is a keyed hash,
    never the raw id; ``user_key_id`` names the key. ``extra`` holds every field the client sent that is not
    named here.
    """

    deployment: str
    interaction_id: str
    raw_id: str
    release: str
    event_time_ms: int
    received_at_ms: int
    prompt: str
    response: str
    system: str = ""
    history: tuple[Turn, ...] = ()
    context: tuple[str, ...] = ()
    tools: tuple[ToolCall, ...] = ()
    user: str = ""
    user_key_id: str = ""
    conversation: str = ""
    final: bool = False
    arm: Arm | None = None
    model: str = ""
    prompt_version: str = ""
    finish_reason: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None
    attributes: dict[str, str] = {}
    annotations: Annotations = Annotations()
    redactions: tuple[Redaction, ...] = ()
    extra: dict[str, Any] = {}
