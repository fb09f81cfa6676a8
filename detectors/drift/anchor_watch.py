"""AnchorWatch: a judged score has moved, and it was not the judge."""

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

Culprit = Literal["none", "pending", "system", "judge", "unattributed"]

_VERSION: Final = 1
_DECIDED: Final = ("system", "unattributed")


class AnchorState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An :class:`AnchorWatch` at rest; ``live`` and ``anchors`` are its two detectors."""

    version: int
    mean: float
    anchor_mean: float
    largest_error: float
    alpha: float
    direction: Side
    reference_units: int | None
    anchor_units: int | None
    guard: int
    least_anchors: int
    refused: int
    waited: int
    checked: int
    culprit: Culprit
    live: dict[str, Any]
    anchors: dict[str, Any]


@detector("anchor_watch")
class AnchorWatch(Base):
    r"""Tells a worse system from a changed judge, by items of which humans know the right score.

    Two detectors run side by side: one :class:`BettingSR` on the live scores that the judge gives, one on
    the judge's error on the *anchors*, judge less human, clipped at `largest_error` and rescaled to [0, 1]:
    a scale as wide as [-1, 1] would leave bets too small for errors that are not.

    When the live one alarms, nothing is said for `guard` live units, in which anchors go on being scored by
    the judge of today. If the anchor detector alarms by then, the judge is the culprit and no change is
    announced; ``culprit`` says so, and it is for a person to repair the judge. If it does not, the system
    is. Where fewer than `least_anchors` anchors came in the guard window, nobody can tell: that is
    announced as ``unattributed``, because missing data must not silence an alarm.

    **Promise.** A change is announced only where the live detector alarmed, so in control at most
    ``alpha * n`` are, of n live units. A judge that did not change is blamed on average at most ``alpha``
    times per anchor. A judge that changed is missed while its anchors hold too little evidence; see
    ``anchor_evidence``.

    Parameters
    ----------
    mean
        Of the live scores in control, in [0, 1].
    anchor_mean
        Of the clipped error on the anchors in control, in [-`largest_error`, `largest_error`].
    largest_error
        Where an error is clipped, in (0, 1]. Marks that only agree or differ lose nothing by it.
    alpha
        At most this many false alarms per live unit, and per anchor, in (0, 1).
    direction
        The side(s) of the live scores that are watched; the judge's error is watched on both.
    reference_units, anchor_units
        How many units, and anchors, the two means were estimated from; None: they are known.
    guard
        Live units between the live alarm and the verdict, at least 0.
    least_anchors
        Anchors that must come in the guard window for a verdict on the system, at least 0.

    References
    ----------
    "Who Drifted: the system or the judge?" (2026), arXiv:2606.15474, for anchors and guard window; the
    bets are those of :class:`BettingSR`.

    Examples
    --------
    >>> watch = AnchorWatch(mean=0.9, anchor_mean=0.0, alpha=1e-3, guard=50, least_anchors=5)
    >>> for i in range(200):
    ...     watch.update(score=float(i % 2))
    ...     if i % 5 == 0:
    ...         watch.update(judge=0.8, human=0.8)
    >>> watch.culprit, watch.drift_detected
    ('system', True)
    """

    def __init__(
        self,
        *,
        mean: float,
        anchor_mean: float = 0.0,
        largest_error: float = 0.25,
        alpha: float = 1e-4,
        direction: Side = "both",
        reference_units: int | None = None,
        anchor_units: int | None = None,
        guard: int = 300,
        least_anchors: int = 30,
    ) -> None:
        if not 0.0 < largest_error <= 1.0 or not abs(anchor_mean) <= largest_error:
            raise ValueError(f"need |anchor_mean| <= largest_error <= 1, got {anchor_mean}, {largest_error}")
        if guard < 0 or least_anchors < 0:
            raise ValueError(f"guard and least_anchors must not be negative, got {guard} and {least_anchors}")
        self.mean, self.anchor_mean, self.alpha = float(mean), float(anchor_mean), float(alpha)
        self.largest_error, self.direction = float(largest_error), direction
        self.reference_units, self.anchor_units = reference_units, anchor_units
        self.guard, self.least_anchors = guard, least_anchors
        self.refused = 0
        self._live = BettingSR(
            mean_low=mean,
            mean_high=mean,
            alpha=alpha,
            direction=direction,
            reference_units=reference_units,
        )
        centre = (self.anchor_mean / self.largest_error + 1.0) / 2.0
        self._anchors = BettingSR(
            mean_low=centre, mean_high=centre, alpha=alpha, reference_units=anchor_units
        )
        self._waited = self._checked = 0
        self._culprit: Culprit = "none"

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the watch that `state` was taken from; ValueError if it is not one."""
        read = read_state(state, AnchorState, of="AnchorWatch", version=_VERSION)
        new = cls(
            mean=read.mean,
            anchor_mean=read.anchor_mean,
            largest_error=read.largest_error,
            alpha=read.alpha,
            direction=read.direction,
            reference_units=read.reference_units,
            anchor_units=read.anchor_units,
            guard=read.guard,
            least_anchors=read.least_anchors,
        )
        new._live, new._anchors = BettingSR.from_state(read.live), BettingSR.from_state(read.anchors)
        new._waited, new._checked, new._culprit = read.waited, read.checked, read.culprit
        new.refused = read.refused
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything as JSON-able built-ins; floats survive JSON exactly."""
        state = AnchorState(
            version=_VERSION,
            mean=self.mean,
            anchor_mean=self.anchor_mean,
            largest_error=self.largest_error,
            alpha=self.alpha,
            direction=self.direction,
            reference_units=self.reference_units,
            anchor_units=self.anchor_units,
            guard=self.guard,
            least_anchors=self.least_anchors,
            refused=self.refused,
            waited=self._waited,
            checked=self._checked,
            culprit=self._culprit,
            live=self._live.to_state(),
            anchors=self._anchors.to_state(),
        )
        built: dict[str, Any] = msgspec.to_builtins(state)
        return built

    def update(
        self, *, score: float | None = None, judge: float | None = None, human: float | None = None
    ) -> None:
        """Take a live `score`, or an anchor as the scores of `judge` and `human`; each in [0, 1].

        Raises
        ------
        ValueError
            For anything else, also for both at once or half an anchor. It is counted in ``refused``;
            nothing else changes.
        """
        live = judge is None and human is None
        try:
            if live:
                value = read_unit_value(score)
            else:
                error = (read_unit_value(judge) - read_unit_value(human)) / self.largest_error
                value = (max(-1.0, min(1.0, error)) + 1.0) / 2.0
                _refuse_both(score)
        except ValueError:
            self.refused += 1
            raise
        if live:
            self._waited += self._live.drift_detected
            self._live.update(value)
        else:
            self._checked += self._live.drift_detected
            self._anchors.update(value)
        self._judge()

    def reset(self) -> None:
        """Forget all units and anchors, and with them the verdict; ``refused`` and ``companion`` stay."""
        self._live.reset()
        self._anchors.reset()
        self._waited = self._checked = 0
        self._culprit = "none"

    @property
    def culprit(self) -> Culprit:
        """Who moved: ``pending`` while the guard window is open; ``system``, ``judge`` and so on stay."""
        return self._culprit

    @property
    def n(self) -> int:
        """Live units and anchors taken since the start or the last reset."""
        return self._live.n + self._anchors.n

    @property
    def n_live(self) -> int:
        """Live units taken since the start or the last reset."""
        return self._live.n

    @property
    def n_anchors(self) -> int:
        """Anchors taken since the start or the last reset."""
        return self._anchors.n

    @property
    def drift_detected(self) -> bool:
        """Whether a change was announced; stays until ``reset``."""
        return self._culprit in _DECIDED

    @property
    def warning_detected(self) -> bool:
        """Whether a verdict is pending, the judge is to blame, or the live statistic is at .1 / alpha."""
        return self._culprit in ("pending", "judge") or self._live.warning_detected

    @property
    def evidence(self) -> float:
        """log10 of the live statistic; 0 while it is below 1."""
        return self._live.evidence

    @property
    def anchor_evidence(self) -> float:
        """log10 of the statistic against the judge; 0 while it is below 1."""
        return self._anchors.evidence

    @property
    def threshold(self) -> float:
        """log10 of ``1 / alpha``, where either alarms."""
        return self._live.threshold

    @property
    def began_index(self) -> int | None:
        """Index (from 0, of live units alone) at which the change began, estimated; None without evidence."""
        return self._live.began_index

    @property
    def alarm_record(self) -> dict[str, Any] | None:
        """What stood at the live alarm, and the ``culprit``; None without one."""
        record = self._live.alarm_record
        return None if record is None else {**record, "culprit": self._culprit}

    @property
    def companion(self) -> Companion:
        """A copy of the e-process of the live bets that no reset touches."""
        return self._live.companion

    @classmethod
    def trial(cls) -> Trial:
        """Return how the shared checks try it: every fifth an anchor, then a system that fails."""

        def draw(rate: float, random: Random) -> Iterator[Arguments]:
            while True:
                for _ in range(4):
                    yield {"score": float(random.random() < rate)}
                human = random.random()
                yield {"judge": min(1.0, max(0.0, human + random.gauss(0.0, 0.05))), "human": human}

        bad: tuple[Any, ...] = (math.nan, math.inf, -0.1, 1.1, True, "1")
        mixed: tuple[Arguments, ...] = ({}, {"judge": 0.5}, {"human": 0.5}, {"score": 0.5, "judge": 0.5})
        return Trial(
            build=lambda: cls(mean=0.9, alpha=1e-5, guard=100, least_anchors=10),
            steady=lambda random: draw(0.9, random),
            changed=lambda random: draw(0.6, random),
            refused=(*({"score": x} for x in bad), *({"judge": 0.5, "human": x} for x in bad), *mixed),
            patience=600,
            kept_by_reset=("live", "anchors"),
        )

    def _judge(self) -> None:
        """Say who moved as far as it is known; a verdict on the system stays, one on the judge too."""
        if self._culprit in (*_DECIDED, "judge"):
            return
        if self._anchors.drift_detected:
            self._culprit = "judge"
        elif self._live.drift_detected:
            over = self._waited >= self.guard
            enough = self._checked >= self.least_anchors
            self._culprit = ("system" if enough else "unattributed") if over else "pending"


def _refuse_both(score: object) -> None:
    if score is not None:
        raise ValueError("a live score and an anchor are two observations")
