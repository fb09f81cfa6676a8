"""Everything that is compared, one line each. A new detector joins by a line in the table of its kind."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from msgspec import Struct
from river.drift import ADWIN, KSWIN, PageHinkley
from river.drift.binary import HDDMA, HDDMW

from detectors.drift.betting_sr import BettingSR
from detectors.drift.blocks_of_numbers import NumberBlocks
from detectors.drift.polya_block_sr import PolyaBlockSR
from detectors.evaluate.feeding import InABank, OneByOne
from detectors.evaluate.run_lengths import Runner
from detectors.records import Reference

Owner = Literal["house", "river"]

_DELTAS: Final = (0.002, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
_THRESHOLDS: Final = (10.0, 15.0, 20.0, 30.0, 40.0, 50.0)


class Start(Struct, frozen=True, kw_only=True):
    """What a detector is told of one stream before it starts: the true mean, or a reference, and alpha.

    With the mean goes the spread, where the world has one that is known.
    """

    mean: float
    spread: float | None = None
    reference: tuple[float, ...] = ()
    alpha: float = 1e-4
    row: int = 0


class Contender(Struct, frozen=True, kw_only=True):
    """One detector in one setting.

    ``knows`` is what it makes use of in a :class:`Start`; ``banked`` whether it is a
    :class:`~detectors.drift.betting_sr.BettingSR`, which runs faster in a bank,
    and ``slow`` whether it gets a small part of the streams only.
    """

    name: str
    make: Callable[[Start], Any]
    owner: Owner = "house"
    knows: Literal["mean", "reference", "nothing"] = "nothing"
    banked: bool = False
    slow: bool = False

    def runner(self, starts: Sequence[Start]) -> Runner:
        """Return what runs it over as many streams as there are `starts`."""
        if self.banked:
            return InABank(lambda row: self.make(starts[row]))
        return OneByOne(lambda row: self.make(starts[row]), resets=self.owner == "house")


def river_contenders() -> tuple[Contender, ...]:
    """Return river's detectors over a grid of settings, their own defaults included."""
    return (
        *(_river(f"ADWIN delta={delta:g}", ADWIN, delta=delta) for delta in _DELTAS),
        *(_river(f"PageHinkley threshold={h:g}", PageHinkley, threshold=h) for h in _THRESHOLDS),
    )


def special_contenders() -> tuple[Contender, ...]:
    """Return those of river's that are slow: KSWIN, and the HDDMs, which are made for 0 and 1."""
    return (
        _river("KSWIN alpha=0.005", KSWIN, slow=True, alpha=0.005, seed=1),
        _river("HDDM_A two-sided", HDDMA, slow=True, two_sided_test=True),
        _river("HDDM_W two-sided", HDDMW, slow=True, two_sided_test=True),
    )


def build_river(kind: Any, **settings: Any) -> Any:
    """Return a new detector of river's, which is published without types."""
    return kind(**settings)


def _river(name: str, kind: Any, *, slow: bool = False, **settings: Any) -> Contender:
    return Contender(name=name, make=lambda _: build_river(kind, **settings), owner="river", slow=slow)


def _polya(start: Start) -> PolyaBlockSR:
    blocks = NumberBlocks.fit(start.reference, seed=start.row)
    return PolyaBlockSR(blocks=blocks, alpha=start.alpha, seed=start.row)


KNOWN: Final = Contender(
    name="BettingSR, known baseline",
    make=lambda s: BettingSR(mean_low=s.mean, mean_high=s.mean, alpha=s.alpha, spread=s.spread),
    knows="mean",
    banked=True,
)
PLUGGED: Final = Contender(
    name="BettingSR, reference",
    make=lambda s: watch_reference(s.reference, alpha=s.alpha),
    knows="reference",
    banked=True,
)
POLYA: Final = Contender(name="PolyaBlockSR", make=_polya, knows="reference")


def watch_reference(
    values: Sequence[float], *, alpha: float, direction: Literal["both", "down", "up"] = "both"
) -> BettingSR:
    """Return the shipped detector of a mean, pinned to the reference `values`."""
    return BettingSR.from_reference(reference_of(values), tolerance=0.0, alpha=alpha, direction=direction)


def reference_of(values: Sequence[float]) -> Reference:
    """Return the reference artefact of `values`."""
    n, mean = len(values), sum(values) / len(values)
    return reference_of_mean(mean, n, sum((x - mean) ** 2 for x in values) / n)


def reference_of_mean(mean: float, n: int, variance: float | None = None) -> Reference:
    """Return the reference artefact of `n` units with this mean; coins, unless their variance is given."""
    return Reference(
        reference_id="evaluation",
        deployment="evaluation",
        release="1",
        segment="all",
        metric="score",
        scorer_version="1",
        n=n,
        mean=mean,
        variance=mean * (1.0 - mean) if variance is None else variance,
        first_ms=0,
        last_ms=1,
    )
