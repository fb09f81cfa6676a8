"""What an :class:`ArmBettingTest` is made of when it rests."""

from typing import Any, Literal

from msgspec import Struct

Worse = Literal["lower", "higher"]


class ArmState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An :class:`ArmBettingTest` at rest; one entry per bet in ``products``, ``lowest`` and ``starts``."""

    version: int
    worse: Worse
    alpha: float
    tolerance: float
    refused: int
    detected: bool
    centre: float
    products: list[float]
    lowest: list[float]
    starts: list[int]
    counts: tuple[int, int]
    totals: tuple[float, float]
    difference: dict[str, Any]
    alarm: tuple[int, float, int | None] | None
