"""Which release plays which part: the only source of the words *candidate* and *stable*."""

from typing import Literal

from msgspec import Struct

from detectors.records.interaction import Share

Role = Literal["stable", "candidate", "retired"]


class Release(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A release of a deployment, as its owner declared it.

    The part a release plays comes from here, never from the order of version names. A release that was
    never declared is scored and may page, but has no role and is never rolled back.
    """

    deployment: str
    release: str
    role: Role
    started_at_ms: int
    digest: str = ""
    share: Share | None = None
    notes: str = ""
