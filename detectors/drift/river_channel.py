"""RiverChannel: river's own detectors as warning channels, with their numbers untouched."""

import base64
import math
from collections import deque
from collections.abc import Callable, Iterator
from random import Random
from types import MethodType
from typing import Any, Final, Literal, Self, TypeAlias

import msgspec
from msgspec import Struct
from river.__version__ import __version__ as river_version
from river.base import Base
from river.drift import ADWIN, KSWIN, PageHinkley
from river.drift.binary import HDDMA, HDDMW

from detectors.drift import detector
from detectors.drift.saved_state import read_state
from detectors.drift.trial import Arguments, Trial
from detectors.drift.unit_value import read_unit_value

Channel = Literal["adwin", "page_hinkley", "hddm_a", "hddm_w", "kswin"]
Inner: TypeAlias = Any  # river has no types

_VERSION: Final = 1
_BUILD: Final[dict[Channel, Callable[..., Inner]]] = {
    "adwin": ADWIN,
    "page_hinkley": PageHinkley,
    "hddm_a": HDDMA,
    "hddm_w": HDDMW,
    "kswin": KSWIN,
}
_SETTINGS: Final[dict[Channel, dict[str, float]]] = {
    "adwin": {},
    "page_hinkley": {},
    "hddm_a": {"two_sided_test": True},  # one side alone by default, and silently so
    "hddm_w": {"two_sided_test": True},
    "kswin": {"seed": 1},  # it draws at random; without a seed no replay would be exact
}
_READINGS: Final[dict[Channel, dict[str, Callable[[Inner], float]]]] = {
    "adwin": {"width": lambda d: d.width, "mean": lambda d: d.estimation, "variance": lambda d: d.variance},
    "page_hinkley": {"mean": lambda d: vars(d)["_x_mean"].get()},
    "hddm_a": {"mean": lambda d: vars(d)["_z"].get()},
    "hddm_w": {"mean": lambda d: vars(d)["_total"].ewma},
    "kswin": {"p_value": lambda d: d.p_value, "width": lambda d: d.stat_size},
}


class ChannelState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A :class:`RiverChannel` at rest; ``inner`` is river's detector, valid for that river alone."""

    version: int
    river: str
    channel: Channel
    settings: dict[str, float]
    n: int
    refused: int
    alarms: int
    low: int
    record: dict[str, Any] | None
    inner: dict[str, Any]


@detector("river_channel")
class RiverChannel(Base):
    """One of river's drift detectors, kept from what breaks it.

    It refuses NaN and whatever else is no number in [0, 1] (a single NaN silences ADWIN and PageHinkley for
    ever), captures what stood at an alarm (river erases it at the next update), saves its state, and stays
    detected until ``reset``. What river computes is left alone: ``fired`` is after every update exactly what
    river's ``drift_detected`` would be, and like river it starts anew by itself after each alarm.

    **No promise.** River's parameters are no bounds on false alarms: ADWIN's ``delta`` is for one cut, the
    time between false alarms depends on the distribution, KSWIN fires about every thousand observations.
    Use it to warn and to adapt, never to page.

    Parameters
    ----------
    channel
        Which of river's detectors. The two HDDM are watched on both sides here.
    settings
        River's own parameters for it, by name; what is not named keeps river's default, or for the two HDDM
        ``two_sided_test=True``, for KSWIN ``seed=1``.

    Raises
    ------
    ValueError
        For an unknown channel, or settings that river does not take.

    References
    ----------
    river 0.26, modules ``river.drift`` and ``river.drift.binary``; Bifet and Gavalda (2007) for ADWIN.

    Examples
    --------
    >>> channel = RiverChannel(channel="adwin")
    >>> for i in range(2000):
    ...     channel.update(float(i % 10 > 0) if i < 1000 else float(i % 2))
    >>> channel.drift_detected, channel.alarms > 0
    (True, True)
    >>> 1000 < channel.alarm_record["n"] < 1200
    True
    """

    def __init__(self, *, channel: Channel = "adwin", settings: dict[str, float] | None = None) -> None:
        if channel not in _BUILD:
            raise ValueError(f"channel must be one of {', '.join(_BUILD)}, got {channel!r}")
        self.channel: Channel = channel
        self.settings = dict(settings or {})
        self.refused = 0
        self.reset()

    def reset(self) -> None:
        """Forget all observations, and with them the alarm; the settings and ``refused`` stay."""
        try:
            self._inner = _BUILD[self.channel](**{**_SETTINGS[self.channel], **self.settings})
        except TypeError as error:
            raise ValueError(f"{self.channel} has other settings than {sorted(self.settings)}") from error
        self._n = self._alarms = self._low = 0
        self._record: dict[str, Any] | None = None

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the channel that `state` was taken from; its future is the same to the last bit.

        Raises
        ------
        ValueError
            If `state` has the wrong shape, or was saved by another version of this class or of river.
        """
        read = read_state(state, ChannelState, of="RiverChannel", version=_VERSION)
        if read.river != river_version:
            raise ValueError(f"state of river {read.river}, this is river {river_version}")
        new = cls(channel=read.channel, settings=read.settings)
        try:
            _thaw(new._inner, read.inner)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError("not a state of RiverChannel: river's part has another shape") from error
        new._n, new._alarms, new._low = read.n, read.alarms, read.low
        new.refused, new._record = read.refused, read.record
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything as JSON-able built-ins; floats survive JSON exactly."""
        state = ChannelState(
            version=_VERSION,
            river=river_version,
            channel=self.channel,
            settings=self.settings,
            n=self._n,
            refused=self.refused,
            alarms=self._alarms,
            low=self._low,
            record=self._record,
            inner=_freeze(self._inner),
        )
        built: dict[str, Any] = msgspec.to_builtins(state)
        return built

    def update(self, x: float) -> None:
        """Take the next observation.

        Raises
        ------
        ValueError
            If `x` is not a finite number in [0, 1]. It is counted in ``refused``; nothing else changes.
        """
        try:
            x = read_unit_value(x)
        except ValueError:
            self.refused += 1
            raise
        if self._inner.drift_detected:
            self._low = self._n  # river starts anew with this observation
        self._inner.update(x)
        self._n += 1
        if not self._inner.drift_detected:
            return
        self._alarms += 1
        if self._record is None:
            readings = {name: float(read(self._inner)) for name, read in _READINGS[self.channel].items()}
            # Only ADWIN and KSWIN say how long the new regime has been there.
            width = readings.get("width", self._n - self._low)
            began = min(self._n - 1, max(0, self._n - int(width)))
            self._record = {"n": self._n, "began_index": began, **readings}

    @property
    def fired(self) -> bool:
        """Whether the last observation made river's detector fire."""
        return bool(self._inner.drift_detected)

    @property
    def alarms(self) -> int:
        """How often it has fired since the start or the last reset."""
        return self._alarms

    @property
    def n(self) -> int:
        """Observations taken since the start or the last reset."""
        return self._n

    @property
    def drift_detected(self) -> bool:
        """Whether it has fired; stays until ``reset``."""
        return self._alarms > 0

    @property
    def warning_detected(self) -> bool:
        """Whether it has fired, or river warns now (the two HDDM do)."""
        return self.drift_detected or bool(getattr(self._inner, "warning_detected", False))

    @property
    def evidence(self) -> float:
        """The number of alarms: river has no other measure of evidence in common."""
        return float(self._alarms)

    @property
    def threshold(self) -> float:
        """One alarm."""
        return 1.0

    @property
    def began_index(self) -> int | None:
        """Index (from 0) at which the first change began; None before.

        ADWIN: where its window was cut, mostly early. KSWIN: where its recent sample begins. The others do
        not say; then it is where they last started, which is no later.
        """
        return None if self._record is None else int(self._record["began_index"])

    @property
    def alarm_record(self) -> dict[str, Any] | None:
        """What stood at the first alarm: ``n``, ``began_index`` and river's readings; None without one."""
        return None if self._record is None else dict(self._record)

    @classmethod
    def trial(cls) -> Trial:
        """Return how the shared checks try it: PageHinkley, a rate of .9 that falls to .2 and comes back."""

        def draw(rates: tuple[float, ...], random: Random) -> Iterator[Arguments]:
            while True:  # what has no baseline sees a change only where there was something before
                for rate in rates:
                    for _ in range(300):
                        yield {"x": float(random.random() < rate)}

        refused = (math.nan, math.inf, -math.inf, -0.001, 1.001, True, "0.5", None)
        return Trial(
            build=lambda: cls(channel="page_hinkley"),
            steady=lambda random: draw((0.9,), random),
            changed=lambda random: draw((0.2, 0.9), random),
            refused=tuple({"x": x} for x in refused),
            patience=600,
        )


def _freeze(value: Any) -> Any:
    """Return `value`, a river object or something inside one, as JSON-able built-ins."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):  # NumPy's too
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, list | tuple | deque):
        return [_freeze(item) for item in value]
    if isinstance(value, Random):
        return _freeze(value.getstate())
    if hasattr(value, "__dict__"):
        return {name: _freeze(item) for name, item in vars(value).items() if not isinstance(item, MethodType)}
    return {"bytes": base64.b64encode(value.__getstate__()).decode("ascii")}


def _thaw(like: Any, frozen: Any) -> Any:
    """Return what `frozen` was, of the kind of `like`, which is changed in place where it can be."""
    if isinstance(frozen, dict) and frozen.keys() == {"float"}:
        return float(frozen["float"])
    if isinstance(like, Random):
        version, words, gauss = frozen
        like.setstate((version, tuple(words), gauss))
        return like
    if isinstance(like, deque):
        return deque(frozen, maxlen=like.maxlen)
    if not isinstance(frozen, dict):
        return frozen
    if frozen.keys() == {"bytes"}:
        like.__setstate__(base64.b64decode(frozen["bytes"]))
        return like
    for name, item in frozen.items():
        setattr(like, name, _thaw(getattr(like, name), item))
    return like
