"""Bar 3: embeddings, blocks and witness sharing one alpha, beside each alone and a detector per dimension."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Final

from river.drift import ADWIN

from detectors.drift.embedding_sr import EmbeddingReference, EmbeddingSR
from detectors.drift.polya_block_sr import PolyaBlockSR
from detectors.drift.witness_sr import WitnessSR
from detectors.evaluate.contenders import build_river
from detectors.evaluate.figures import Bar, Effort, Figure, Task, arl_figure, bar, delay_figure, select
from detectors.worlds.changes import Change
from detectors.worlds.embeddings import EmbeddingChange, EmbeddingWorld, Vectors

ALPHA: Final = 1e-4
CHANGES: Final[tuple[tuple[str, EmbeddingChange, float], ...]] = (
    ("10 % new topic", "new_topic", 0.1),
    ("30 % new topic", "new_topic", 0.3),
    ("mean shift .1", "mean_shift", 0.1),
    ("mean shift .2", "mean_shift", 0.2),
)

_N_REF: Final = 4_000
_AT: Final = 500
_CHUNK: Final = 64
_TOGETHER, _BLOCKS, _WITNESS, _ADWINS = "EmbeddingSR", "PolyaBlockSR", "WitnessSR", "ADWIN per dimension"
_FEWER_ADWINS: Final = 6  # a detector for each of 1,536 dimensions takes minutes: a sixth of the worlds
_ADWIN_DELTA: Final = 0.3  # over the dimensions: Bonferroni


def tasks(effort: Effort, seed: int) -> list[Task]:
    """Return the steps of this part."""
    found = []
    for d in effort.dimensions:
        run = partial(_null, effort, seed, d)
        found.append(Task(part="embeddings", name=f"no change, d={d}", run=run))
        for name, kind, size in CHANGES:
            world = EmbeddingWorld(d=d, kind=kind, size=size, change=Change(kind="abrupt", at=_AT))
            run = partial(_delays, effort, seed, world, f"{name}, d={d}")
            found.append(Task(part="embeddings", name=f"{name}, d={d}", run=run))
    return found


def judge(figures: Sequence[Figure]) -> list[Bar]:
    """Return the bars: the time between false alarms, the share found, the price of sharing."""
    bars = []
    for figure in select(figures, part="embeddings", measure="arl"):
        name = f"{figure.detector}: time between false alarms, {figure.world}"
        note = f"{figure.note}, {figure.n} worlds, lower bound {figure.low or 0.0:.0f}"
        bars.append(bar(3, name, figure.value, ">=", 1.0 / ALPHA, note))
    delays = {(f.detector, f.world): f for f in select(figures, part="embeddings", measure="delay")}
    for (detector, world), figure in delays.items():
        if detector != _TOGETHER:
            continue
        found = 1.0 - figure.missed
        bars.append(bar(3, f"{detector}: share found, {world}", found, ">=", 0.95, f"{figure.n} worlds"))
        alone = min(delays[part, world].value for part in (_BLOCKS, _WITNESS))
        note = f"{figure.value:.1f} over {alone:.1f}"
        name = f"{detector}: delay over the better part alone, {world}"
        bars.append(bar(3, name, figure.value / alone, "<=", 1.1, note))
    return bars


@lru_cache(maxsize=512)
def _reference(d: int, seed: int) -> EmbeddingReference:
    return EmbeddingReference.fit(EmbeddingWorld(d=d).reference(seed=seed, n=_N_REF), seed=seed)


def _null(effort: Effort, seed: int, d: int) -> list[Figure]:
    world, alarms = EmbeddingWorld(d=d), []
    for row in range(effort.embedding_pairs):
        number = seed + 1_000 + row
        vectors = world.reference(seed=number, n=_N_REF)
        watch = EmbeddingSR(reference=EmbeddingReference.fit(vectors, seed=number), alpha=ALPHA, seed=number)
        stream = world.stream(seed=number, length=effort.embedding_horizon)
        alarms.append(sum(1 for _ in _in_chunks(watch, stream)))
    return [arl_figure("embeddings", _TOGETHER, f"d={d}", alarms, effort.embedding_horizon)]


def _delays(effort: Effort, seed: int, world: EmbeddingWorld, name: str) -> list[Figure]:
    makers: dict[str, Callable[[int], Any]] = {
        _TOGETHER: lambda n: EmbeddingSR(reference=_reference(world.d, n), alpha=ALPHA, seed=n),
        _BLOCKS: lambda n: PolyaBlockSR(blocks=_reference(world.d, n).blocks, alpha=ALPHA, seed=n),
        _WITNESS: lambda n: WitnessSR(reference=_reference(world.d, n).witness, alpha=ALPHA),
    }
    found: dict[str, list[float]] = {detector: [] for detector in (*makers, _ADWINS)}
    for row in range(effort.worlds):
        stream = world.stream(seed=seed + row, length=_AT + effort.embedding_horizon)
        for detector, make in makers.items():
            watch = make(seed + row)
            alarms = _one_by_one(watch, stream) if detector == _BLOCKS else _in_chunks(watch, stream)
            found[detector].append(next((i - _AT + 1.0 for i in alarms if i >= _AT), math.nan))
        if row % _FEWER_ADWINS == 0:
            found[_ADWINS].append(_adwins(stream))
    horizon = effort.embedding_horizon
    return [delay_figure("embeddings", detector, name, d, horizon) for detector, d in found.items()]


def _in_chunks(watch: EmbeddingSR | WitnessSR, stream: Vectors) -> Iterator[int]:
    """Yield the indices of the alarms; after one, the rest of its chunk is left out and the watch reset."""
    for start in range(0, len(stream), _CHUNK):
        before = watch.total
        watch.update_many(stream[start : start + _CHUNK])
        record = watch.alarm_record
        if record is not None:
            yield start + record["total"] - before - 1
            watch.reset()


def _one_by_one(watch: PolyaBlockSR, stream: Vectors) -> Iterator[int]:
    for index, vector in enumerate(stream):
        watch.update(vector)
        if watch.drift_detected:
            yield index
            watch.reset()


def _adwins(stream: Vectors) -> float:
    """Return the delay of the first of one ADWIN for each dimension, NaN if none alarms."""
    d = stream.shape[1]
    first = math.inf
    for column in stream.T:
        adwin = build_river(ADWIN, delta=_ADWIN_DELTA / d)
        for index, value in enumerate(column.tolist()):
            adwin.update(value)
            if adwin.drift_detected and index >= _AT:
                first = min(first, index - _AT + 1.0)
                break
    return first if math.isfinite(first) else math.nan
