"""Scorers: one interaction in, one measurement out. A file here is one scorer, or a small family.

A scorer is named for what it measures. It never raises for any text, keeps no state between interactions and
reads the shared features instead of computing its own.
"""

from typing import Protocol

from detectors.features import Features
from detectors.records import Direction, Score
from detectors.registry import Registry


class Scorer(Protocol):
    """What every scorer offers; there is nothing to inherit."""

    name: str
    direction: Direction
    version: str

    def score(self, features: Features) -> Score | None:
        """Return the score of one interaction, or None where the question does not apply."""
        ...


SCORERS = Registry[Scorer]("scorer", "detectors.scorers")
scorer = SCORERS.register
