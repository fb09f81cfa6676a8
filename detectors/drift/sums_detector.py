"""What detectors made of Shiryaev-Roberts sums have in common: alarm, evidence, reset, companion."""

import math
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct
from river.base import DriftAndWarningDetector

from detectors.drift.companion import Companion
from detectors.drift.sr_sums import ShiryaevRobertsSums, SumsState

_WARNING: Final = 0.1  # share of the alarm threshold


class AlarmState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The common part of a state; ``alarm`` is total, evidence and began index when the alarm was raised."""

    refused: int
    detected: bool
    warning: bool
    alarm: tuple[int, float, int | None] | None
    sums: SumsState
    companion: dict[str, Any]


class SumsDetector(DriftAndWarningDetector):
    """Average of Shiryaev-Roberts sums over `bets` bets; it alarms at ``1 / alpha`` and stays so until reset.

    A detector built on it computes the factors of its bets and hands them to ``_take``.
    """

    def __init__(self, *, alpha: float, bets: int) -> None:
        super().__init__()
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha must be in (0, 1), got {alpha}")
        self.alpha = float(alpha)
        self.refused = 0
        self.companion = Companion(bets=bets)
        self._bets = bets
        self._sums = ShiryaevRobertsSums(bets)
        self._alarm: tuple[int, float, int | None] | None = None

    def reset(self) -> None:
        """Take the alarm back and start a new cycle of the sums; all that was learnt stays."""
        self._reset()  # river's own: lowers both flags
        self._sums = ShiryaevRobertsSums(self._bets)
        self._alarm = None

    @property
    def n(self) -> int:
        """Observations taken since the start or the last reset."""
        return self._sums.n

    @property
    def total(self) -> int:
        """Observations taken since the start."""
        return self.companion.n

    @property
    def evidence(self) -> float:
        """log10 of the statistic; 0 while it is below 1."""
        return self._sums.evidence

    @property
    def threshold(self) -> float:
        """log10 of ``1 / alpha``, where it alarms."""
        return -math.log10(self.alpha)

    @property
    def began_index(self) -> int | None:
        """Index (from 0, among those counted by ``n``) of the observation at which the change began.

        An estimate: where the CUSUM of the bet with most evidence last started. None without evidence.
        """
        return self._sums.began

    @property
    def alarm_record(self) -> dict[str, Any] | None:
        """What stood at the alarm: ``total``, ``evidence``, ``began_index``; None without one."""
        if self._alarm is None:
            return None
        return dict(zip(("total", "evidence", "began_index"), self._alarm, strict=True))

    def _take(self, factors: Sequence[float]) -> None:
        statistic = self._sums.update(factors)
        self.companion.update(factors)
        self._warning_detected = statistic >= _WARNING / self.alpha
        if statistic >= 1.0 / self.alpha and not self._drift_detected:
            self._drift_detected = True
            self._alarm = (self.total, self.evidence, self.began_index)

    def _alarm_fields(self) -> dict[str, Any]:
        return {
            "refused": self.refused,
            "detected": self._drift_detected,
            "warning": self._warning_detected,
            "alarm": self._alarm,
            "sums": self._sums.to_state(),
            "companion": self.companion.to_state(),
        }

    def _resume(self, state: AlarmState) -> None:
        self.refused, self._alarm = state.refused, state.alarm
        self._drift_detected, self._warning_detected = state.detected, state.warning
        self._sums = ShiryaevRobertsSums.from_state(state.sums, bets=self._bets)
        self.companion = Companion.from_state(state.companion, bets=self._bets)
