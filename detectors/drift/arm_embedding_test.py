"""ArmEmbeddingTest: the canary's embeddings lie elsewhere than stable's, judged by the router's coin."""

import math
from collections.abc import Iterator
from random import Random
from typing import Any, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.drift import detector
from detectors.drift.betting_products import ProductsState, ProductTest
from detectors.drift.embedding_vectors import SCALE, read_vectors
from detectors.drift.saved_state import read_state
from detectors.drift.share_betting_test import read_share
from detectors.drift.trial import Arguments, Trial

_VERSION: Final = 1
_STAKES: Final = (0.1, 0.3, 0.75)  # shares of the capital that one unit may cost
_SPREADS: Final = 3.0  # the witness is clipped at so many of its standard deviations
_MEMORY: Final = 500  # units over which spread is remembered


class EmbeddingArmState(ProductsState, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An :class:`ArmEmbeddingTest` at rest; ``means`` holds both arms' sums as little-endian float64."""

    version: int
    dimensions: int
    units: tuple[int, int]
    square: float
    sums: bytes


@detector("arm_embedding")
class ArmEmbeddingTest(ProductTest):
    r"""Tests, at any time, "the embedding of a unit does not depend on its arm", under a known coin.

    The witness is the direction from the mean of the control arm to that of the treated arm, as known from
    the units before; :math:`s_t` is how far a unit lies along it from the middle of both, divided by three
    times its usual spread and clipped to [-1, 1]. The bets have the factors
    :math:`L_t = 1 + f (A_t - \rho_t) s_t / \max(\rho_t, 1 - \rho_t)`, f in {.1, .3, .75}.

    **Promise.** If embedding and arm are independent given the past, the probability that an alarm is *ever*
    raised is at most `alpha`: given the embedding and the past, :math:`E[A_t - \rho_t] = 0`. Seasons, the
    mix of traffic and changes of `share` do not matter. Every shift counts, for better or worse: open a
    ticket with it, do not page.

    Parameters
    ----------
    dimensions
        Of the embeddings, 2 to 8192.
    alpha
        Probability of ever raising a false alarm, in (0, 1).

    Notes
    -----
    One unit of randomisation is one observation; see :class:`ArmBettingTest`. Time and state grow with
    `dimensions` (16 bytes of state each): a candidate has one such test, not one for each stream.

    References
    ----------
    Podkopaev and Ramdas (2023), arXiv:2305.00143; witness functions: Shekhar and Ramdas (2023),
    "Nonparametric two-sample testing by betting", IEEE Transactions on Information Theory 70.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> test = ArmEmbeddingTest(dimensions=8, alpha=0.01)
    >>> for i in range(1000):
    ...     treated = bool(random.random() < 0.2)
    ...     x = random.normal(size=8) + (0.8 if treated else 0.0)
    ...     test.update(x, treated=treated, share=0.2)
    >>> test.drift_detected
    True
    """

    def __init__(self, *, dimensions: int, alpha: float = 0.001) -> None:
        if not 2 <= dimensions <= 8192:
            raise ValueError(f"dimensions must be in 2 ... 8192, got {dimensions}")
        self.dimensions = dimensions
        super().__init__(alpha=alpha, bets=len(_STAKES))

    def reset(self) -> None:
        """Forget all units, and with them the alarm; the parameters and ``refused`` stay."""
        super().reset()
        self._sums = np.zeros((2, self.dimensions))
        self._units = [0, 0]
        self._square = 1.0

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the test that `state` was taken from; ValueError if it is not one."""
        read = read_state(state, EmbeddingArmState, of="ArmEmbeddingTest", version=_VERSION)
        new = cls(alpha=read.alpha, dimensions=read.dimensions)
        new._resume(read)
        if len(read.sums) != 16 * read.dimensions:
            raise ValueError("not a state of ArmEmbeddingTest: the number of dimensions differs")
        new._sums = np.frombuffer(read.sums, dtype="<f8").reshape(2, -1).astype(np.float64)
        new._units, new._square = list(read.units), read.square
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything as JSON-able built-ins; floats survive JSON exactly."""
        state = EmbeddingArmState(
            version=_VERSION,
            dimensions=self.dimensions,
            units=(self._units[0], self._units[1]),
            square=self._square,
            sums=self._sums.astype("<f8").tobytes(),
            **self._fields(),
        )
        built: dict[str, Any] = msgspec.to_builtins(state)
        return built

    def update(self, x: object, *, treated: bool, share: float) -> None:
        """Take the next unit: its embedding, its arm, and the probability with which it was treated.

        Raises
        ------
        ValueError
            If `x` is not a vector of `dimensions` finite floats with a direction, `treated` not a bool or
            `share` not in (0, 1). It is counted in ``refused``; nothing else changes.
        """
        try:
            share = read_share(treated, share)
            point = read_vectors(_as_rows(x), self.dimensions)[0].astype(np.float64) / SCALE
        except ValueError:
            self.refused += 1
            raise
        along = self._along(point)
        gain = 0.0
        if along is not None:
            clipped = max(-1.0, min(1.0, along / (_SPREADS * math.sqrt(self._square))))
            gain = (treated - share) * clipped / max(share, 1.0 - share)
            seen = min(_MEMORY, self._units[0] + self._units[1])
            self._square += (along * along - self._square) / (seen + 1.0)
        self._take([1.0 + stake * gain for stake in _STAKES])
        self._sums[int(treated)] += point
        self._units[treated] += 1

    def _along(self, point: NDArray[np.float64]) -> float | None:
        """Return how far `point` lies along the witness; None before both arms have a unit."""
        if 0 in self._units:
            return None
        control, treated = self._sums[0] / self._units[0], self._sums[1] / self._units[1]
        witness = treated - control
        length = math.sqrt(float(witness @ witness))
        if length < 1e-12:
            return None
        return float(witness @ (point - (control + treated) / 2.0)) / length

    @classmethod
    def trial(cls) -> Trial:
        """Return how the shared checks try it: 16 dimensions, the treated arm shifted in all; share .3."""

        def draw(shift: float, random: Random) -> Iterator[Arguments]:
            while True:
                treated = random.random() < 0.3
                x = [random.gauss(1.0 + shift * treated * (i % 2), 1.0) for i in range(16)]
                yield {"x": x, "treated": treated, "share": 0.3}

        good = np.ones(16)
        bad_x = [good[:15], good * math.nan, good * 0.0, good.astype(int), None, "x", 1.0]
        return Trial(
            build=lambda: cls(dimensions=16, alpha=1e-4),
            steady=lambda random: draw(0.0, random),
            changed=lambda random: draw(0.7, random),
            refused=(
                *({"x": x, "treated": True, "share": 0.3} for x in bad_x),
                *({"x": good, "treated": True, "share": share} for share in (0.0, 1.0, math.nan)),
                {"x": good, "treated": 1, "share": 0.3},
            ),
            patience=2500,
        )


def _as_rows(x: object) -> object:
    return x[None] if isinstance(x, np.ndarray) else [x]
