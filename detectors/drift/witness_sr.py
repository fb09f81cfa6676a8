"""WitnessSR: the mean of embeddings has moved, by however little in each of many dimensions."""

import math
from collections.abc import Iterator
from random import Random
from typing import Any, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.drift import detector
from detectors.drift.embedding_vectors import read_vector, read_vectors
from detectors.drift.saved_state import read_state
from detectors.drift.sums_detector import AlarmState, SumsDetector
from detectors.drift.trial import Arguments, Trial
from detectors.drift.witness_reference import WitnessReference

_VERSION: Final = 1
_STAKES: Final = (0.1, 0.3, 0.75)  # shares of the capital that one observation may cost
_CHUNK: Final = 256  # vectors taken at once: they stay in the cache


class WitnessState(AlarmState, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A :class:`WitnessSR` at rest; ``direction`` is little-endian float32."""

    version: int
    reference: str
    alpha: float
    rate: float
    direction: bytes
    square: float


@detector("witness")
class WitnessSR(SumsDetector):
    r"""Detects a shift of the mean of embeddings, small in every dimension but the same in all of them.

    A :class:`WitnessReference` turns every vector into a point :math:`y_t`, :math:`|y_t| < 1`, whose mean in
    control is 0 up to the reference's sampling error. The witness :math:`u_t` is the moving average of the
    points before t; it turns towards a shift. Its bets on the next point are

    .. math:: L_t = 1 + f (\langle u_t / |u_t|, y_t \rangle - margin), \quad f \in \{.1, .3, .75\},

    each a factor of a Shiryaev-Roberts sum. The statistic is their average; it alarms at
    ``1 / alpha``.

    **Promise.** While the length of the mean of y given the past is at most the margin, the expected number
    of alarms among n observations, with a reset after each, is at most ``alpha * n``, and the expected time
    to the first at least ``1 / alpha``: u is known before y, so :math:`E[L_t \mid past] = 1 + f (\langle
    u/|u|, E y \rangle - margin) \le 1`, and :math:`L_t > 0` as the bracket is above -1. The margin is one
    standard error of the reference's mean as a whole. The part of that error that a witness can use is
    the projection of it on a direction which is mostly noise, far below its length; the margin covers it by
    far, but that is measured, not proved: for an exact promise use :class:`PolyaBlockSR`.

    Parameters
    ----------
    reference
        Fitted to normal embeddings; shared by all streams that have this reference.
    alpha
        At most this many false alarms per observation, in (0, 1).
    rate
        Of the moving average, in (0, 1): it remembers about 1 / rate observations.

    Notes
    -----
    State beside the reference: about 0.8 kB for 64 dimensions. After an alarm it keeps
    accumulating (capped at 1e200) and stays detected until ``reset``, which keeps the witness.

    References
    ----------
    Shekhar and Ramdas (2023), "Nonparametric two-sample testing by betting", IEEE Trans. Inf. Theory 70;
    Shin, Ramdas and Rinaldo (2024), arXiv:2203.03532.

    Examples
    --------
    >>> random = np.random.default_rng(1)
    >>> watch = WitnessSR(reference=WitnessReference.fit(random.standard_normal((2000, 32))), alpha=1e-4)
    >>> watch.update_many(random.standard_normal((500, 32)))
    >>> watch.drift_detected
    False
    >>> watch.update_many(random.standard_normal((300, 32)) + 0.3)
    >>> watch.drift_detected
    True
    """

    def __init__(
        self,
        *,
        reference: WitnessReference,
        alpha: float = 1e-4,
        rate: float = 1 / 100,
    ) -> None:
        super().__init__(alpha=alpha, bets=len(_STAKES))
        if not 0.0 < rate < 1.0:
            raise ValueError(f"rate must be in (0, 1), got {rate}")
        self.reference = reference
        self.rate = float(rate)
        self._direction = np.zeros(reference.dimensions, dtype=np.float32)
        self._square = 0.0  # of the length of the direction

    @classmethod
    def from_state(cls, state: dict[str, Any], *, reference: WitnessReference) -> Self:
        """Return the detector that `state` was taken from, given its `reference`; same future to the bit.

        Raises
        ------
        ValueError
            If `state` is of another version, has the wrong shape, or belongs to another reference.
        """
        read = read_state(state, WitnessState, of="WitnessSR", version=_VERSION)
        if read.reference != reference.name:
            raise ValueError("not a state of WitnessSR: it belongs to another reference")
        new = cls(reference=reference, alpha=read.alpha, rate=read.rate)
        direction = np.frombuffer(read.direction, dtype="<f4")
        if direction.size != reference.dimensions:
            raise ValueError("not a state of WitnessSR: the numbers of dimensions differ")
        new._direction, new._square = direction.astype(np.float32), read.square
        new._resume(read)
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything but the reference as JSON-able built-ins; floats survive JSON exactly."""
        state = WitnessState(
            version=_VERSION,
            reference=self.reference.name,
            alpha=self.alpha,
            rate=self.rate,
            direction=self._direction.astype("<f4").tobytes(),
            square=self._square,
            **self._alarm_fields(),
        )
        built: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(state))
        return built

    def update(self, x: object) -> None:
        """Take the next embedding, `d` floats.

        Raises
        ------
        ValueError
            If `x` has another shape or type, a value that is not finite, or no direction. It is counted in
            ``refused``; nothing else changes.
        """
        try:
            row = read_vector(x, self.reference.d)
        except ValueError:
            self.refused += 1
            raise
        self.update_point(self.reference.point(self.reference.matrix.dot(row)))

    def update_many(self, x: object) -> None:
        """Take embeddings one after the other, shape (n, d): faster, and the result is the same to the bit.

        Raises
        ------
        ValueError
            As :meth:`update`, if any of them is refused. None is taken then, and one refusal is counted.
        """
        try:
            rows = read_vectors(x, self.reference.d)
        except ValueError:
            self.refused += 1
            raise
        for start in range(0, len(rows), _CHUNK):
            products = rows[start : start + _CHUNK] @ self.reference.matrix.T
            for point in self.reference.points(products):
                self.update_point(point)

    def update_point(self, y: NDArray[np.float32]) -> None:
        """Take the next embedding as its point of the reference."""
        direction, rate, square = self._direction, self.rate, self._square
        along, size = float(direction.dot(y)), float(y.dot(y))
        gain = along / math.sqrt(square) - self.reference.margin if square > 0.0 else 0.0
        gain = max(-1.0, gain)  # rounding may not make an observation cost more than everything
        kept = 1.0 - rate
        self._square = max(0.0, kept * kept * square + 2.0 * kept * rate * along + rate * rate * size)
        direction *= kept
        direction += y * rate
        self._take([1.0 + stake * gain for stake in _STAKES])

    @classmethod
    def trial(cls) -> Trial:
        """Return how the shared checks try it: 12 dimensions whose mean moves by .6 in each."""
        draws = np.random.default_rng(4).standard_normal((2000, 12))
        reference = WitnessReference.fit(draws, dimensions=8)

        def draw(mean: float, random: Random) -> Iterator[Arguments]:
            while True:
                yield {"x": tuple(random.gauss(mean, 1.0) for _ in range(12))}

        good = (0.5,) * 11
        refused = [(*good, math.nan), (*good, math.inf), good, (*good, 0.5, 0.5), (0.0,) * 12, (1,) * 12]
        return Trial(
            build=lambda: cls(reference=reference, alpha=1e-5),
            steady=lambda random: draw(0.0, random),
            changed=lambda random: draw(0.6, random),
            refused=tuple({"x": x} for x in (*refused, "0.5" * 4, None, 0.5, ("0.5",) * 12)),
            patience=400,
            restore=lambda state: cls.from_state(state, reference=reference),
            kept_by_reset=("companion", "direction", "square"),
        )
