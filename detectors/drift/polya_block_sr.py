"""PolyaBlockSR: any change of a distribution, against a reference of any size, with an exact promise."""

import math
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from random import Random
from typing import Any, Final, Self

import msgspec

from detectors.drift import detector
from detectors.drift.block_jitter import jitter
from detectors.drift.blocks_of_categories import CategoryBlocks
from detectors.drift.blocks_of_embeddings import EmbeddingBlocks
from detectors.drift.blocks_of_numbers import NumberBlocks
from detectors.drift.saved_state import read_state
from detectors.drift.sums_detector import AlarmState, SumsDetector
from detectors.drift.trial import Arguments, Trial

Blocks = NumberBlocks | CategoryBlocks | EmbeddingBlocks

_VERSION: Final = 1
_RENEW: Final = 1e100  # weights are kept in units that grow; above this they are scaled down
_PRIOR: Final = 1.0  # observations per block that the guess is worth which the bets start from


class PolyaState(AlarmState, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A :class:`PolyaBlockSR` at rest; ``blocks`` names the blocks it needs, ``weights`` has a row a rate."""

    version: int
    blocks: str
    alpha: float
    rates: tuple[float, ...]
    seed: int
    counts: list[int]
    weights: list[list[float]]
    units: list[float]


@detector("polya_block")
class PolyaBlockSR(SumsDetector):
    r"""Detects any change of the distribution of numbers, labels or embeddings; needs no known baseline.

    A reference of N observations cuts the space into K blocks (:class:`NumberBlocks`,
    :class:`CategoryBlocks`, :class:`EmbeddingBlocks`); block k holds :math:`s_k` of the N + 1 gaps. Of an
    observation only its block :math:`k_t` is read. If stream and reference come from one distribution,
    *whatever it is*, then after t observations, :math:`c_k` of them in block k,

    .. math:: P_t(k) = \frac{s_k + c_k}{N + 1 + t}

    is the exact chance of block k for the next one. The bets are :math:`L_t = q_t(k_t) / P_t(k_t)`, where
    :math:`q_t = (w_k + K P_t(k)) / (\sum w + K)` is a guess from counts w of the past that forget at a rate;
    one bet per rate, each in a Shiryaev-Roberts sum. The statistic is their average; it alarms at
    ``1 / alpha``.

    **Promise.** Over the draw of reference and stream, the expected number of alarms among n observations
    from the reference's distribution, with a reset after each, is at most ``alpha * n``: for every n, N >=
    20, distribution, dimension, and number of ties. The expected time to the first is at least
    ``1 / alpha``. Proof: `proofs.md`. It assumes that reference and stream are exchangeable: feed closed
    units (sessions, micro-batches), not messages of one session.

    ``reset`` starts a new cycle of the sums. The counts c stay: a restart with the old reference alone
    would favour references that are unlucky, which alarm more often than promised. After a confirmed change
    build a detector with a new reference.

    Parameters
    ----------
    blocks
        Fitted to the reference; shared by all streams that have this reference.
    alpha
        At most this many false alarms per observation, in (0, 1).
    rates
        Of forgetting, each in (0, 1): a guess remembers about 1 / rate observations. Small rates find small
        changes, large ones are fast on large changes.
    seed
        Of the jitter that breaks ties between observations and the reference, repeatable, so a replay gives
        the same result. Streams should have seeds of their own.

    Notes
    -----
    Finds what the blocks can show: a change within blocks only is not seen. State: about 1 kB for 16 blocks.
    After an alarm it keeps accumulating (capped at 1e200) and stays detected until ``reset``.

    References
    ----------
    Tukey (1947), "Non-parametric estimation II. Statistically equivalent blocks and tolerance regions", Ann.
    Math. Statist. 18; Shin, Ramdas and Rinaldo (2024), arXiv:2203.03532. Blocks for embeddings resemble
    those of Frittoli et al. (2023), "Nonparametric and online change detection in multivariate datastreams
    using QuantTree", TKDE.

    Examples
    --------
    >>> random = Random(2)
    >>> blocks = NumberBlocks.fit([random.gauss(0.0, 1.0) for _ in range(500)])
    >>> watch = PolyaBlockSR(blocks=blocks, alpha=1e-4)
    >>> for _ in range(300):
    ...     watch.update(random.gauss(0.0, 1.0))
    >>> watch.drift_detected
    False
    >>> for _ in range(100):
    ...     watch.update(random.gauss(0.0, 2.5))
    >>> watch.drift_detected, 280 <= watch.began_index <= 320
    (True, True)
    """

    def __init__(
        self,
        *,
        blocks: Blocks,
        alpha: float = 1e-4,
        rates: tuple[float, ...] = (1 / 25, 1 / 150),
        seed: int = 0,
    ) -> None:
        super().__init__(alpha=alpha, bets=len(rates))
        if not rates or not all(0.0 < rate < 1.0 for rate in rates):
            raise ValueError(f"rates must be one or more numbers in (0, 1), got {rates}")
        self.blocks = blocks
        self.rates = tuple(rates)
        self.seed = seed
        self._name = name_blocks(blocks)
        self._shares = blocks.shares
        self._gaps = sum(blocks.shares)
        self._prior = _PRIOR * len(blocks.shares)
        self._growth = tuple(1.0 / (1.0 - rate) for rate in rates)
        self._counts = [0] * len(blocks.shares)
        self._weights = [[0.0] * len(blocks.shares) for _ in rates]
        self._units = [1.0] * len(rates)  # what one new observation weighs

    @classmethod
    def from_state(cls, state: dict[str, Any], *, blocks: Blocks) -> Self:
        """Return the detector that `state` was taken from, given its `blocks`; same future to the last bit.

        Raises
        ------
        ValueError
            If `state` is of another version, has the wrong shape, or belongs to other blocks.
        """
        read = read_state(state, PolyaState, of="PolyaBlockSR", version=_VERSION)
        new = cls(blocks=blocks, alpha=read.alpha, rates=read.rates, seed=read.seed)
        if read.blocks != new._name:
            raise ValueError("not a state of PolyaBlockSR: it belongs to other blocks")
        if {len(read.counts), *map(len, read.weights)} != {len(new._counts)}:
            raise ValueError("not a state of PolyaBlockSR: the numbers of blocks differ")
        if {len(read.weights), len(read.units)} != {len(read.rates)}:
            raise ValueError("not a state of PolyaBlockSR: the numbers of rates differ")
        new._counts, new._units = list(read.counts), list(read.units)
        new._weights = [list(row) for row in read.weights]
        new._resume(read)
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything but the blocks as JSON-able built-ins; floats survive JSON exactly."""
        state = PolyaState(
            version=_VERSION,
            blocks=self._name,
            alpha=self.alpha,
            rates=self.rates,
            seed=self.seed,
            counts=self._counts,
            weights=self._weights,
            units=self._units,
            **self._alarm_fields(),
        )
        built: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(state))
        return built

    def update(self, x: object) -> None:
        """Take the next observation: a number, a label or a vector, as the blocks are.

        Raises
        ------
        ValueError
            If the blocks refuse `x`. It is counted in ``refused``; nothing else changes.
        """
        try:
            block = self.blocks.locate(x, self.next_jitter())
        except ValueError:
            self.refused += 1
            raise
        self.update_block(block)

    def update_block(self, block: int) -> None:
        """Take the next observation, whose block has been looked up already with ``next_jitter``."""
        self._take(self._learn(block))

    def next_jitter(self, ahead: int = 0) -> float:
        """Return the jitter of the next observation, or of the one `ahead` places after it."""
        return jitter(self.seed ^ 0x5DEECE66D, self.total + ahead)

    def excess(self) -> list[float]:
        """Return, per block, its recent share (slowest rate) less its expected one: where the change is.

        All zeros before the first observation; they sum to 0.
        """
        slowest = min(range(len(self.rates)), key=self.rates.__getitem__)
        weights = self._weights[slowest]
        mass, gaps = sum(weights), self._gaps + self.total
        if not self.total:
            return [0.0] * len(weights)
        chances = ((s + c) / gaps for s, c in zip(self._shares, self._counts, strict=True))
        return [weight / mass - chance for weight, chance in zip(weights, chances, strict=True)]

    @classmethod
    def trial(cls) -> Trial:
        """Return how the shared checks try it: numbers around 0 that move to 2, N = 300."""
        random = Random(4)  # noqa: S311 - seeded traffic, not cryptography
        blocks = NumberBlocks.fit([random.gauss(0.0, 1.0) for _ in range(300)])

        def draw(mean: float, random: Random) -> Iterator[Arguments]:
            while True:
                yield {"x": random.gauss(mean, 1.0)}

        refused = (math.nan, math.inf, -math.inf, True, "0.5", None, 10**400, b"1", [0.5])
        return Trial(
            build=lambda: cls(blocks=blocks, alpha=1e-6),
            steady=lambda random: draw(0.0, random),
            changed=lambda random: draw(2.0, random),
            refused=tuple({"x": x} for x in refused),
            patience=300,
            restore=lambda state: cls.from_state(state, blocks=blocks),
            kept_by_reset=("counts", "weights", "units", "companion"),
        )

    def _learn(self, block: int) -> Sequence[float]:
        """Return the factor of every rate for an observation in `block`, then count it."""
        prior, factors = self._prior, []
        chance = (self._shares[block] + self._counts[block]) / (self._gaps + self.total)
        for j, (weights, unit, growth) in enumerate(
            zip(self._weights, self._units, self._growth, strict=True)
        ):
            # The mass of all weights, in units of the next observation: a sum of powers of 1 / growth.
            mass = unit * (1.0 - growth ** -float(self.total)) / (growth - 1.0)
            guess = (weights[block] + prior * unit * chance) / (mass + prior * unit)
            factors.append(guess / chance)
            weights[block] += unit
            self._units[j] = unit * growth
            if unit > _RENEW:
                self._weights[j] = [weight / unit for weight in weights]
                self._units[j] = growth
        self._counts[block] += 1
        return factors


def name_blocks(blocks: Blocks) -> str:
    """Return a short name that two sets of blocks share only if they are the same."""
    return blake2b(msgspec.msgpack.encode(blocks), digest_size=8).hexdigest()
