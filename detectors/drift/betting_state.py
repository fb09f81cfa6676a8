"""What a saved :class:`~detectors.drift.betting_sr.BettingSR` looks like."""

from typing import Final

from msgspec import Struct

from detectors.drift.bet_grid import Side

CONFIGURATION: Final = (
    "mean_low",
    "mean_high",
    "alpha",
    "direction",
    "reference_units",
    "shift_variance",
    "spread",
)
"""The fields that a detector is built from, and its bets are laid from."""


class BettingState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A detector at rest; ``sums``, ``runs``, ``starts`` and ``life`` have one entry per bet.

    ``alarm`` is total, evidence and began index when the alarm was raised; a list, as JSON gives it back.
    """

    version: int
    mean_low: float
    mean_high: float
    alpha: float
    direction: Side
    reference_units: int | None
    shift_variance: float
    spread: float | None
    n: int
    refused: int
    detected: bool
    warning: bool
    sums: list[float]
    runs: list[float]
    starts: list[int]
    total: int
    life: list[float]
    alarm: list[int | float | None] | None
