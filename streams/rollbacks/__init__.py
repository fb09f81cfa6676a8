"""Rollback targets act on the user's deployment. A file here is one target.

A target moves to an *absolute* release and only if the expected one is still active (compare-and-set): there
is no "undo". It is idempotent on the action's id.
"""

from typing import Any, Protocol

from msgspec import Struct

from detectors.registry import Registry
from streams.notifiers import Permanent, Retryable

__all__ = [
    "ROLLBACKS",
    "Move",
    "Permanent",
    "Receipt",
    "Retryable",
    "RollbackTarget",
    "Served",
    "rollback_target",
]


class Move(Struct, frozen=True, kw_only=True):
    """Make `to_release` serve all traffic of `deployment`, if `from_release` is still among those serving."""

    action_id: str
    deployment: str
    from_release: str
    to_release: str
    reason: str


class Served(Struct, frozen=True, kw_only=True):
    """The target's own view of the routing: the share of traffic of every release, and its generation."""

    shares: dict[str, float]
    generation: str = ""


class Receipt(Struct, frozen=True, kw_only=True):
    """The target's answer to a move; a receipt is not yet a rollback."""

    accepted: bool
    detail: dict[str, Any] = {}


class RollbackTarget(Protocol):
    """What every rollback target offers; raises Retryable or Permanent from :mod:`streams.notifiers`."""

    name: str

    async def current(self, deployment: str) -> Served:
        """Return which releases the target serves now."""
        ...

    async def rollback(self, move: Move) -> Receipt:
        """Ask the target to carry out `move`; the same `action_id` twice has one effect."""
        ...


ROLLBACKS = Registry[RollbackTarget]("rollback target", "streams.rollbacks")
rollback_target = ROLLBACKS.register
