"""EmbeddingSR: any change of embeddings, by blocks and by a witness that share one alpha."""

import math
from collections.abc import Iterator
from functools import cached_property
from random import Random
from typing import Any, Final, Literal, Self

import msgspec
import numpy as np
from msgspec import Struct
from river.base import DriftAndWarningDetector

from detectors.drift import detector
from detectors.drift.blocks_of_embeddings import EmbeddingBlocks
from detectors.drift.embedding_vectors import Vectors, read_vector, read_vectors
from detectors.drift.polya_block_sr import PolyaBlockSR
from detectors.drift.saved_state import read_state
from detectors.drift.trial import Arguments, Trial
from detectors.drift.witness_reference import WitnessReference
from detectors.drift.witness_sr import WitnessSR

_VERSION: Final = 1
_CHUNK: Final = 256  # vectors taken at once: they stay in the cache
_SHARES: Final = (1.0 / 3.0, 2.0 / 3.0)  # of alpha: a witness is the slower of the two to pay a price


class EmbeddingReference(Struct, frozen=True, kw_only=True, tag=True, dict=True):
    """Blocks and witness reference of one set of embeddings; shared by all streams that have it."""

    blocks: EmbeddingBlocks
    witness: WitnessReference

    @classmethod
    def fit(cls, vectors: object, *, seed: int = 0) -> Self:
        """Return both, fitted to `vectors`: shape (n, d), floats, at least 40 rows; ValueError as theirs.

        Examples
        --------
        >>> vectors = np.random.default_rng(1).standard_normal((400, 10))
        >>> len(EmbeddingReference.fit(vectors).blocks.shares)
        16
        """
        return cls(
            blocks=EmbeddingBlocks.fit(vectors, seed=seed), witness=WitnessReference.fit(vectors, seed=seed)
        )

    @cached_property
    def matrix(self) -> Vectors:
        """Centroids above projection: what every vector is multiplied with, once."""
        return np.ascontiguousarray(np.vstack([self.blocks.matrix, self.witness.matrix]))


class EmbeddingState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An :class:`EmbeddingSR` at rest."""

    version: int
    alpha: float
    n: int
    refused: int
    blocks: dict[str, Any]
    witness: dict[str, Any]


@detector("embedding")
class EmbeddingSR(DriftAndWarningDetector):
    """Detects new topics, other shares of topics, and shifts of the mean, in one pass over embeddings.

    A :class:`PolyaBlockSR` with a third of `alpha` and a :class:`WitnessSR` with two thirds watch the same
    vectors; an alarm of either is an alarm.

    **Promise.** The expected number of alarms among n observations is at most ``alpha * n``: each part
    raises at most its share of that, by its own proof, and ``reset`` restarts only the part that alarmed, so
    that neither is restarted by what the other saw. It holds as far as both do: for the witness, up to the
    margin of its reference.

    Parameters
    ----------
    reference
        Fitted to normal embeddings.
    alpha
        At most this many false alarms per observation, in (0, 1).
    seed
        As that of :class:`PolyaBlockSR`.

    Notes
    -----
    State beside the reference: 1.3 kB as MessagePack, 2.1 kB as JSON. The price of sharing: the part that
    sees the change first needs 3/2 (witness) or 3 times (blocks) the evidence that it would need alone.

    References
    ----------
    Those of its parts; Shin, Ramdas and Rinaldo (2024), arXiv:2203.03532, for sharing one alpha.

    Examples
    --------
    >>> random = np.random.default_rng(1)
    >>> watch = EmbeddingSR(reference=EmbeddingReference.fit(random.standard_normal((1000, 32))))
    >>> watch.update_many(random.standard_normal((300, 32)))
    >>> watch.drift_detected
    False
    >>> watch.update_many(random.standard_normal((300, 32)) + 0.3)
    >>> watch.drift_detected, watch.part
    (True, 'witness')
    """

    def __init__(self, *, reference: EmbeddingReference, alpha: float = 1e-4, seed: int = 0) -> None:
        super().__init__()
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha must be in (0, 1), got {alpha}")
        self.reference = reference
        self.alpha = float(alpha)
        self.seed = seed
        self.refused = 0
        self._n = 0
        self._blocks = PolyaBlockSR(blocks=reference.blocks, alpha=alpha * _SHARES[0], seed=seed)
        self._witness = WitnessSR(reference=reference.witness, alpha=alpha * _SHARES[1])

    @classmethod
    def from_state(cls, state: dict[str, Any], *, reference: EmbeddingReference) -> Self:
        """Return the detector that `state` was taken from, given its `reference`; same future to the bit.

        Raises
        ------
        ValueError
            If `state` is of another version, has the wrong shape, or belongs to another reference.
        """
        read = read_state(state, EmbeddingState, of="EmbeddingSR", version=_VERSION)
        blocks = PolyaBlockSR.from_state(read.blocks, blocks=reference.blocks)
        new = cls(reference=reference, alpha=read.alpha, seed=blocks.seed)
        new._blocks = blocks
        new._witness = WitnessSR.from_state(read.witness, reference=reference.witness)
        new._n, new.refused = read.n, read.refused
        new._judge()
        return new

    def to_state(self) -> dict[str, Any]:
        """Return everything but the reference as JSON-able built-ins; floats survive JSON exactly."""
        state = EmbeddingState(
            version=_VERSION,
            alpha=self.alpha,
            n=self._n,
            refused=self.refused,
            blocks=self._blocks.to_state(),
            witness=self._witness.to_state(),
        )
        built: dict[str, Any] = msgspec.to_builtins(state)
        return built

    def update(self, x: object) -> None:
        """Take the next embedding, `d` floats.

        Raises
        ------
        ValueError
            If `x` has another shape or type, a value that is not finite, or no direction. It is counted in
            ``refused``; nothing else changes.
        """
        reference = self.reference
        try:
            row = read_vector(x, reference.blocks.d)
        except ValueError:
            self.refused += 1
            raise
        products, balls = reference.matrix.dot(row), len(reference.blocks.closeness)
        self._blocks.update_block(reference.blocks.locate_product(products[:balls], self._blocks.next_jitter))
        self._witness.update_point(reference.witness.point(products[balls:]))
        self._n += 1
        self._judge()

    def update_many(self, x: object) -> None:
        """Take embeddings one after the other, shape (n, d): faster, and the result is the same to the bit.

        Raises
        ------
        ValueError
            As :meth:`update`, if any of them is refused. None is taken then, and one refusal is counted.
        """
        try:
            rows = read_vectors(x, self.reference.blocks.d)
        except ValueError:
            self.refused += 1
            raise
        for start in range(0, len(rows), _CHUNK):
            self._take(rows[start : start + _CHUNK])

    def reset(self) -> None:
        """Take the alarm back and restart the part, or parts, that raised it."""
        for part in (self._blocks, self._witness):
            if part.drift_detected:
                part.reset()
        self._n = 0
        self._judge()

    @property
    def n(self) -> int:
        """Observations taken since the start or the last reset."""
        return self._n

    @property
    def total(self) -> int:
        """Observations taken since the start."""
        return self._blocks.total

    @property
    def part(self) -> Literal["blocks", "witness"]:
        """Which part is nearer to its alarm: what kind of change it is."""
        blocks, witness = self._blocks, self._witness
        nearer = blocks.evidence - blocks.threshold >= witness.evidence - witness.threshold
        return "blocks" if nearer else "witness"

    @property
    def evidence(self) -> float:
        """log10 of the greater of the two statistics, each times its share of alpha; 0 while below 1."""
        leading = self._leading
        return max(0.0, self.threshold + leading.evidence - leading.threshold)

    @property
    def threshold(self) -> float:
        """log10 of ``1 / alpha``, where it alarms."""
        return -math.log10(self.alpha)

    @property
    def began_index(self) -> int | None:
        """Index (from 0, among those counted by ``n``) of the observation at which the change began.

        That of the part with more evidence; 0 if it began before the last reset, None without evidence.
        """
        began = self._leading.began_index
        return None if began is None else max(0, began - self._leading.n + self._n)

    @property
    def alarm_record(self) -> dict[str, Any] | None:
        """What stood at the first alarm of a part, and which ``part`` it was; None without one."""
        records = [
            {**record, "part": name}
            for name, part in (("blocks", self._blocks), ("witness", self._witness))
            if (record := part.alarm_record) is not None
        ]
        return min(records, key=lambda record: int(record["total"]), default=None)

    @property
    def e_value(self) -> float:
        """The never-reset e-value: the average of those of the companions of both parts."""
        return (self._blocks.companion.value + self._witness.companion.value) / 2.0

    def excess(self) -> list[float]:
        """Return what :meth:`PolyaBlockSR.excess` says: which blocks have more or less than their share."""
        return self._blocks.excess()

    @classmethod
    def trial(cls) -> Trial:
        """Return how the shared checks try it: 12 dimensions whose mean moves by .6 in each."""
        draws = np.random.default_rng(4).standard_normal((2000, 12))
        reference = EmbeddingReference.fit(draws)

        def draw(mean: float, random: Random) -> Iterator[Arguments]:
            while True:
                yield {"x": tuple(random.gauss(mean, 1.0) for _ in range(12))}

        good = (0.5,) * 11
        refused = [(*good, math.nan), (*good, math.inf), good, (*good, 0.5, 0.5), (0.0,) * 12, (1,) * 12]
        return Trial(
            build=lambda: cls(reference=reference, alpha=1e-6),
            steady=lambda random: draw(0.0, random),
            changed=lambda random: draw(0.6, random),
            refused=tuple({"x": x} for x in (*refused, "0.5" * 4, None, 0.5, ("0.5",) * 12)),
            patience=400,
            restore=lambda state: cls.from_state(state, reference=reference),
            kept_by_reset=("blocks", "witness"),
        )

    @property
    def _leading(self) -> PolyaBlockSR | WitnessSR:
        return self._blocks if self.part == "blocks" else self._witness

    def _take(self, rows: Vectors) -> None:
        """Take rows of whole numbers, one after the other."""
        products = rows @ self.reference.matrix.T
        balls = len(self.reference.blocks.matrix)
        blocks, witness = self._blocks, self._witness
        found = self.reference.blocks.locate_products(products[:, :balls], blocks.next_jitter)
        points = self.reference.witness.points(products[:, balls:])
        for block, point in zip(found, points, strict=True):
            blocks.update_block(block)
            witness.update_point(point)
        self._n += len(rows)
        self._judge()

    def _judge(self) -> None:
        self._drift_detected = self._blocks.drift_detected or self._witness.drift_detected
        self._warning_detected = self._blocks.warning_detected or self._witness.warning_detected
