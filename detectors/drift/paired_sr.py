"""PairedSR: on the same prompts, the new release answers worse than the old one."""

import math
from collections.abc import Iterator
from random import Random
from typing import Any, Final, Literal, Self

import msgspec
from msgspec import Struct
from river.base import Base

from detectors.drift import detector
from detectors.drift.bet_grid import Side
from detectors.drift.betting_sr import BettingSR
from detectors.drift.companion import Companion
from detectors.drift.saved_state import read_state
from detectors.drift.trial import Arguments, Trial
from detectors.drift.unit_value import read_unit_value

Worse = Literal["lower", "higher", "both"]

_VERSION: Final = 1
_SIDES: Final[dict[Worse, Side]] = {"lower": "down", "higher": "up", "both": "both"}


class PairedState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A :class:`PairedSR` at rest; ``watch`` is its detector of the rescaled differences."""

    version: int
    worse: Worse
    alpha: float
    tolerance: float
    refused: int
    total: float
    watch: dict[str, Any]


@detector("paired_sr")
class PairedSR(Base):
    r"""Compares two releases on replayed prompts: each prompt is its own control.

    A pair is the score of the old and of the new release on one prompt. With the difference
    :math:`d = new - old` in [-1, 1], a :class:`BettingSR` watches :math:`(d + 1)/2` around the known mean
    1/2. How hard a prompt is cancels, so ties cost nothing, and no reference is estimated.

    **Promise.** As long as the mean difference of every pair given the past is not beyond `tolerance` on
    the watched side, the expected number of alarms among n pairs is at most ``alpha * n``: that of
    :class:`BettingSR` with a known band. Prompts may depend on each other and may be chosen by what came
    before; the two answers of a pair must be scored alike, by the same scorer version.

    Parameters
    ----------
    worse
        Which way is worse for the score; ``both`` watches both.
    alpha
        At most this many false alarms per pair, in (0, 1).
    tolerance
        How much worse the new release may be on average, in the score's own unit, in [0, 1).

    References
    ----------
    Waudby-Smith and Ramdas (2024), JRSS B 86, arXiv:2010.09686, and the references of :class:`BettingSR`.

    Examples
    --------
    >>> replay = PairedSR(worse="lower", alpha=1e-3)
    >>> for i in range(200):
    ...     replay.update(old=1.0, new=float(i % 5 > 0))
    >>> replay.drift_detected, round(replay.mean_difference, 1)
    (True, -0.2)
    """

    def __init__(self, *, worse: Worse = "lower", alpha: float = 1e-4, tolerance: float = 0.0) -> None:
        if worse not in _SIDES:
            raise ValueError(f"worse must be 'lower', 'higher' or 'both', got {worse!r}")
        if not 0.0 <= tolerance < 1.0:
            raise ValueError(f"tolerance must be in [0, 1), got {tolerance}")
        self.worse: Worse = worse
        self.alpha = float(alpha)
        self.tolerance = float(tolerance)
        self.refused = 0
        half = self.tolerance / 2.0
        self._watch = BettingSR(
            mean_low=0.5 - half, mean_high=0.5 + half, alpha=alpha, direction=_SIDES[worse]
        )
        self._total = 0.0

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the detector that `state` was taken from; ValueError if it is not one."""
        read = read_state(state, PairedState, of="PairedSR", version=_VERSION)
        new = cls(worse=read.worse, alpha=read.alpha, tolerance=read.tolerance)
        new._watch = BettingSR.from_state(read.watch)
        new._total, new.refused = read.total, read.refused
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything as JSON-able built-ins; floats survive JSON exactly."""
        state = PairedState(
            version=_VERSION,
            worse=self.worse,
            alpha=self.alpha,
            tolerance=self.tolerance,
            refused=self.refused,
            total=self._total,
            watch=self._watch.to_state(),
        )
        built: dict[str, Any] = msgspec.to_builtins(state)
        return built

    def update(self, *, old: float, new: float) -> None:
        """Take the scores of both releases on the next prompt, each in [0, 1].

        Raises
        ------
        ValueError
            If one of them is not a finite number in [0, 1]. It is counted in ``refused``; nothing else
            changes.
        """
        try:
            difference = read_unit_value(new) - read_unit_value(old)
        except ValueError:
            self.refused += 1
            raise
        self._watch.update((difference + 1.0) / 2.0)
        self._total += difference

    def reset(self) -> None:
        """Forget all pairs, and with them the alarm; ``refused`` and ``companion`` stay."""
        self._watch.reset()
        self._total = 0.0

    @property
    def n(self) -> int:
        """Pairs taken since the start or the last reset."""
        return self._watch.n

    @property
    def mean_difference(self) -> float | None:
        """Mean of new less old over those pairs; None without one."""
        return self._total / self.n if self.n else None

    @property
    def drift_detected(self) -> bool:
        """Whether the new release was found worse; stays until ``reset``."""
        return self._watch.drift_detected

    @property
    def warning_detected(self) -> bool:
        """Whether the statistic is at a tenth of its threshold now."""
        return self._watch.warning_detected

    @property
    def evidence(self) -> float:
        """log10 of the statistic; 0 while it is below 1."""
        return self._watch.evidence

    @property
    def threshold(self) -> float:
        """log10 of ``1 / alpha``, where it alarms."""
        return self._watch.threshold

    @property
    def began_index(self) -> int | None:
        """Index (from 0) of the pair at which the difference began, as estimated; None without evidence."""
        return self._watch.began_index

    @property
    def alarm_record(self) -> dict[str, Any] | None:
        """What stood at the alarm: ``total``, ``evidence``, ``began_index``; None without one."""
        return self._watch.alarm_record

    @property
    def companion(self) -> Companion:
        """A copy of the e-process of the same bets that no reset touches."""
        return self._watch.companion

    @classmethod
    def trial(cls) -> Trial:
        """Return how the shared checks try it: prompts of any hardness, then a new release that fails."""

        def draw(drop: float, random: Random) -> Iterator[Arguments]:
            while True:
                quality = random.random()
                old, new = random.random() < quality, random.random() < quality * (1.0 - drop)
                yield {"old": float(old), "new": float(new)}

        bad = (math.nan, math.inf, -0.1, 1.1, True, "1", None)
        return Trial(
            build=lambda: cls(alpha=1e-5),
            steady=lambda random: draw(0.0, random),
            changed=lambda random: draw(0.6, random),
            refused=(*({"old": x, "new": 0.5} for x in bad), *({"old": 0.5, "new": x} for x in bad)),
            patience=600,
            kept_by_reset=("watch",),
        )
