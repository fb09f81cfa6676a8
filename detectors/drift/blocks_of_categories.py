"""Blocks of labels with exactly known chances."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Final, Self

from msgspec import Struct

from detectors.drift.blocks_of_numbers import SMALLEST_REFERENCE, SMALLEST_SHARE, NumberBlocks

_MOST_BLOCKS: Final = 64


class CategoryBlocks(Struct, frozen=True, kw_only=True, tag=True, dict=True):
    """Labels in an order, cut into blocks; made by :meth:`fit`.

    Every second observation of the reference, starting with the first, says which labels there are, their
    order (most frequent first) and where to cut: after each frequent label. The others are laid on a line by
    the place of their label plus a uniform jitter, and cut at those ranks. So a block is a label, up to the
    difference between the two halves, and the chances of blocks are exact, which those of labels are not.

    A label that the first half of the reference does not hold comes after all others. It falls into the last
    block, which is as small as a block may be, so that such labels stand out; rare labels share it.

    Parameters
    ----------
    labels
        The labels in their order.
    line
        The blocks of the line.
    """

    labels: tuple[str, ...]
    line: NumberBlocks

    @classmethod
    def fit(cls, labels: Sequence[str], *, seed: int = 0) -> Self:
        """Return blocks for the reference `labels`, at least 40 strings.

        At most 64 blocks are made, each with an expected count of at least 5 in a half of the reference.

        Raises
        ------
        ValueError
            For a reference that is too small or holds something that is not a string.

        Examples
        --------
        >>> blocks = CategoryBlocks.fit(["yes", "yes", "no", "no"] * 50)
        >>> blocks.labels, blocks.shares, blocks.locate("never seen", 0.5)
        (('no', 'yes'), (50, 46, 5), 2)
        """
        if len(labels) < 2 * SMALLEST_REFERENCE:
            raise ValueError(f"a reference needs at least {2 * SMALLEST_REFERENCE} labels")
        if not all(isinstance(label, str) for label in labels):
            raise ValueError("the reference holds something that is not a string")
        first, second = labels[0::2], labels[1::2]
        counted = sorted(Counter(first).items(), key=lambda item: (-item[1], item[0]))
        order = tuple(label for label, _ in counted)
        places = {label: place for place, label in enumerate(order)}
        values = [float(places.get(label, len(order))) for label in second]
        ranks = _ranks([count / len(first) for _, count in counted], gaps=len(second) + 1)
        return cls(labels=order, line=NumberBlocks.at_ranks(values, ranks, seed=seed))

    @property
    def shares(self) -> tuple[int, ...]:
        """As those of :class:`NumberBlocks`."""
        return self.line.shares

    @cached_property
    def _places(self) -> dict[str, float]:
        return {label: float(place) for place, label in enumerate(self.labels)}

    def locate(self, x: object, jitter: float) -> int:
        """Return the block of the label `x`.

        Raises
        ------
        ValueError
            If `x` is not a string. The text names the type only.
        """
        if not isinstance(x, str):
            raise ValueError(f"not a label: a {type(x).__name__}")  # noqa: TRY004 - as every refused value
        return self.line.locate(self._places.get(x, float(len(self.labels))), jitter)


def _ranks(portions: Sequence[float], *, gaps: int) -> list[int]:
    """Return where to cut: after every label in turn, and once more before a small last block."""
    ranks: list[int] = []
    passed, last = 0.0, 0
    for portion in portions:
        passed += portion
        rank = round(passed * gaps)
        if len(ranks) == _MOST_BLOCKS - 2 or gaps - rank < 2 * SMALLEST_SHARE:
            break
        if rank - last >= SMALLEST_SHARE:
            ranks.append(rank)
            last = rank
    return [*ranks, gaps - SMALLEST_SHARE]
