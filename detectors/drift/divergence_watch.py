"""DivergenceWatch: the cheap score rises while what it stands for falls."""

import math
from collections.abc import Iterator
from random import Random
from typing import Any, Final, Self

import msgspec
from msgspec import Struct
from river.base import Base

from detectors.drift import detector
from detectors.drift.betting_sr import BettingSR
from detectors.drift.saved_state import read_state
from detectors.drift.trial import Arguments, Trial
from detectors.drift.unit_value import read_unit_value

_VERSION: Final = 1
_WARNING: Final = 0.1  # share of the alarm threshold


class DivergenceState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A :class:`DivergenceWatch` at rest; ``proxy`` and ``target`` are its two detectors."""

    version: int
    proxy_mean: float
    target_mean: float
    alpha: float
    proxy_units: int | None
    target_units: int | None
    refused: int
    detected: bool
    alarm: tuple[int, int, float, int | None] | None
    proxy: dict[str, Any]
    target: dict[str, Any]


@detector("divergence_watch")
class DivergenceWatch(Base):
    r"""Finds that a proxy score has risen *and* the audited target has fallen: Goodhart's law at work.

    Every unit has a proxy (a judge, a heuristic), a random few have an audited target (a human's verdict).
    A :class:`BettingSR` watches the proxy for a rise, another the target for a fall; the statistic is the
    smaller of their two sums, and it alarms at ``1 / alpha``.

    **Promise.** As long as the proxy has not risen, *or* the target has not fallen, the expected number of
    alarms is at most `alpha` times the number of units, or of audited units, respectively: the smaller of
    two sums is at most the sum of the detector that is in control. Whether a unit is audited must not
    depend on its target given the past: audit by a coin, whatever the probability of the moment.

    Parameters
    ----------
    proxy_mean, target_mean
        In control, both in [0, 1]; higher is better for both.
    alpha
        At most this many false alarms per unit, in (0, 1).
    proxy_units, target_units
        How many units the two means were estimated from; None: they are known.

    References
    ----------
    Gao, Schulman and Hilton (2023), "Scaling laws for reward model overoptimization", ICML; the smaller of
    two e-processes for a union of hypotheses: Ramdas, Gruenwald, Vovk and Shafer (2023), "Game-theoretic
    statistics and safe anytime-valid inference", Statistical Science 38.

    Examples
    --------
    >>> watch = DivergenceWatch(proxy_mean=0.7, target_mean=0.9, alpha=1e-3)
    >>> for i in range(600):
    ...     watch.update(proxy=0.85, target=float(i % 20 > 5) if i % 5 == 0 else None)
    >>> watch.drift_detected, watch.n, watch.n_audited
    (True, 600, 120)
    """

    def __init__(
        self,
        *,
        proxy_mean: float,
        target_mean: float,
        alpha: float = 1e-4,
        proxy_units: int | None = None,
        target_units: int | None = None,
    ) -> None:
        self.proxy_mean, self.target_mean, self.alpha = float(proxy_mean), float(target_mean), float(alpha)
        self.proxy_units, self.target_units = proxy_units, target_units
        self.refused = 0
        self._proxy = BettingSR(
            mean_low=proxy_mean,
            mean_high=proxy_mean,
            alpha=alpha,
            direction="up",
            reference_units=proxy_units,
        )
        self._target = BettingSR(
            mean_low=target_mean,
            mean_high=target_mean,
            alpha=alpha,
            direction="down",
            reference_units=target_units,
        )
        self._drift_detected = False
        self._alarm: tuple[int, int, float, int | None] | None = None

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the watch that `state` was taken from; ValueError if it is not one."""
        read = read_state(state, DivergenceState, of="DivergenceWatch", version=_VERSION)
        new = cls(
            proxy_mean=read.proxy_mean,
            target_mean=read.target_mean,
            alpha=read.alpha,
            proxy_units=read.proxy_units,
            target_units=read.target_units,
        )
        new._proxy, new._target = BettingSR.from_state(read.proxy), BettingSR.from_state(read.target)
        new.refused, new._alarm = read.refused, read.alarm
        new._drift_detected = read.detected
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything as JSON-able built-ins; floats survive JSON exactly."""
        state = DivergenceState(
            version=_VERSION,
            proxy_mean=self.proxy_mean,
            target_mean=self.target_mean,
            alpha=self.alpha,
            proxy_units=self.proxy_units,
            target_units=self.target_units,
            refused=self.refused,
            detected=self._drift_detected,
            alarm=self._alarm,
            proxy=self._proxy.to_state(),
            target=self._target.to_state(),
        )
        built: dict[str, Any] = msgspec.to_builtins(state)
        return built

    def update(self, *, proxy: float, target: float | None = None) -> None:
        """Take the next unit: its `proxy`, and its `target` if it was audited; each in [0, 1].

        Raises
        ------
        ValueError
            If one of them is not a finite number in [0, 1]. It is counted in ``refused``; nothing else
            changes.
        """
        try:
            proxy = read_unit_value(proxy)
            target = None if target is None else read_unit_value(target)
        except ValueError:
            self.refused += 1
            raise
        self._proxy.update(proxy)
        if target is not None:
            self._target.update(target)
        evidence = self.evidence
        if evidence >= self.threshold and not self._drift_detected:
            self._drift_detected = True
            self._alarm = (self.n, self.n_audited, evidence, self.began_index)

    def reset(self) -> None:
        """Forget all units, and with them the alarm; ``refused`` stays."""
        self._proxy.reset()
        self._target.reset()
        self._drift_detected, self._alarm = False, None

    @property
    def n(self) -> int:
        """Units taken since the start or the last reset."""
        return self._proxy.n

    @property
    def n_audited(self) -> int:
        """Those of them with a target."""
        return self._target.n

    @property
    def drift_detected(self) -> bool:
        """Whether both were found to have moved; stays until ``reset``."""
        return self._drift_detected

    @property
    def warning_detected(self) -> bool:
        """Whether the statistic is at a tenth of its threshold now."""
        return self.evidence >= self.threshold + math.log10(_WARNING)

    @property
    def evidence(self) -> float:
        """log10 of the smaller statistic; 0 while it is below 1."""
        return min(self._proxy.evidence, self._target.evidence)

    @property
    def threshold(self) -> float:
        """log10 of ``1 / alpha``, where it alarms."""
        return self._proxy.threshold

    @property
    def began_index(self) -> int | None:
        """Index (from 0) of the unit at which the proxy began to rise, estimated; None without evidence."""
        return self._proxy.began_index

    @property
    def alarm_record(self) -> dict[str, Any] | None:
        """What stood at the alarm: ``n``, ``n_audited``, ``evidence``, ``began_index``; None without one."""
        if self._alarm is None:
            return None
        return dict(zip(("n", "n_audited", "evidence", "began_index"), self._alarm, strict=True))

    @property
    def ever(self) -> float:
        """An e-value for "both ever moved", never reset: the smaller of the two companions'."""
        return min(self._proxy.companion.value, self._target.companion.value)

    @classmethod
    def trial(cls) -> Trial:
        """Return how the shared checks try it: a third audited, then the proxy rises and the target falls."""

        def draw(proxy: float, target: float, random: Random) -> Iterator[Arguments]:
            while True:
                graded = random.betavariate(10 * proxy, 10 * (1 - proxy))
                audited = float(random.random() < target) if random.random() < 1 / 3 else None
                yield {"proxy": graded, "target": audited}

        bad: tuple[Any, ...] = (math.nan, math.inf, -0.1, 1.1, True, "1")
        return Trial(
            build=lambda: cls(proxy_mean=0.7, target_mean=0.9, alpha=1e-5),
            steady=lambda random: draw(0.7, 0.9, random),
            changed=lambda random: draw(0.8, 0.6, random),
            refused=(
                {"proxy": None},
                *({"proxy": x} for x in bad),
                *({"proxy": 0.5, "target": x} for x in bad),
            ),
            patience=600,
            kept_by_reset=("proxy", "target"),
        )
