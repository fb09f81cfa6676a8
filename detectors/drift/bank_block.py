"""The numbers of up to a thousand BettingSR, side by side: what a Bank is made of."""

import math
from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors.drift.bank_steps import RUNS, SUMS, Steps, aligned_zeros
from detectors.drift.bet_grid import BETS, WageredSide, lay_bets
from detectors.drift.betting_state import CONFIGURATION, BettingState

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

TICKS: Final = 250
"""At most so many observations of a stream are taken at a time: a byte counts them."""

_CAP, _CAP_EVERY = 1e200, 16  # as in BettingSR; the second is a power of 2
_SMALL: Final = 1e100  # what is not larger is below the cap after 16 observations: no factor is above 1e6
_WARNING: Final = 0.1  # share of the alarm threshold
_WIDE: Final = 96  # so many streams are worth a call of NumPy for each operation of each row
_FEW: Final = 8  # rows that are not worth room for several
_AHEAD_WIDE, _AHEAD_NARROW = 2, 16  # rows whose gains are computed at once: what stays in the cache


class BankBlock:
    """Keeps some detectors in arrays of shape (sides, 7 bets, streams), bets on a fall first.

    A side that no detector watches is left out. One that a detector does not watch has weight 0 there, and
    its sums stay 0.
    """

    def __init__(self, states: Sequence[BettingState]) -> None:
        self._states = list(states)
        self.streams = len(self._states)
        watched = {side.down for state in self._states for side in _lay(state)}
        self._downs = sorted(watched, reverse=True) or [True]
        sides = len(self._downs)
        shape = (sides, BETS, self.streams)
        self._weight, self._kept, self._risk = (aligned_zeros(shape) for _ in range(3))
        self._sums, self._runs, self._life = (aligned_zeros(shape) for _ in range(3))
        self._starts = np.zeros(shape, dtype=np.int64)
        # One copy for each row ahead: arrays of one shape are twice as fast as those that are broadcast.
        self._ahead = _AHEAD_WIDE if self.streams >= _WIDE else _AHEAD_NARROW
        row = (self._ahead, sides, 1, self.streams)
        self._end, self._slope = np.full(row, 0.5), np.zeros(row)
        # Where no detector bets on squares, the last bet of a side is as the others.
        self._curved = any(side.spread is not None for state in self._states for side in _lay(state))
        last = row if self._curved else (self._ahead, sides, 1, 0)
        self._last_end, self._last_slope, self._last_bend = np.full(last, 0.5), np.zeros(last), np.zeros(last)
        for stream, state in enumerate(self._states):
            self._enter(stream, state)
        self._gains, self._last_gains, self._curve = np.empty(row), np.empty(last), np.empty(last)
        self._factor, self._restarts = aligned_zeros(shape), np.empty(shape, dtype=bool)
        self._restarted = np.empty(shape, dtype=np.uint8)
        self.n = np.array([state.n for state in states], dtype=np.int64)
        self.total = np.array([state.total for state in states], dtype=np.int64)
        self.refused = np.array([state.refused for state in states], dtype=np.int64)
        self.detected = np.array([state.detected for state in states], dtype=bool)
        self.warning = np.array([state.warning for state in states], dtype=bool)
        self._alarm_at = np.array([1.0 / state.alpha for state in states])
        self._alarms = {stream: state.alarm for stream, state in enumerate(states) if state.alarm}

    def _enter(self, stream: int, state: BettingState) -> None:
        first = 0
        for side in _lay(state):
            row, last = self._downs.index(side.down), first + len(side.wagers)
            self._end[:, row, 0, stream], self._slope[:, row, 0, stream] = side.end, side.slope
            if self._curved:
                end, slope, bend = side.last
                self._last_end[:, row, 0, stream], self._last_slope[:, row, 0, stream] = end, slope
                self._last_bend[:, row, 0, stream] = bend
            for bet, wager in enumerate(side.wagers):
                self._weight[row, bet, stream] = wager.weight
                self._kept[row, bet, stream] = wager.kept
                self._risk[row, bet, stream] = wager.risk
            for values, saved in zip(self._kept_numbers(), _saved_numbers(state), strict=True):
                values[row, :, stream] = saved[first:last]
            first = last

    def state(self, stream: int) -> BettingState:
        """Return the state of one detector, as its own ``to_state`` would give it."""
        rows = [self._downs.index(side.down) for side in _lay(self._states[stream])]
        sums, runs, life, starts = (
            [number for row in rows for number in values[row, :, stream].tolist()]
            for values in self._kept_numbers()
        )
        was = self._states[stream]
        configuration = {name: getattr(was, name) for name in CONFIGURATION}
        return BettingState(
            version=was.version,
            **configuration,
            n=int(self.n[stream]),
            refused=int(self.refused[stream]),
            detected=bool(self.detected[stream]),
            warning=bool(self.warning[stream]),
            sums=sums,
            runs=runs,
            starts=starts,
            total=int(self.total[stream]),
            life=life,
            alarm=self._alarms.get(stream),
        )

    def part(self, streams: int) -> "BankBlock":
        """Return a block of the first `streams` detectors, over the same numbers: it carries these on too."""
        part = copy(self)
        part.streams = streams
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(part, name, value[..., :streams])
        return part

    def run(self, rows: Floats) -> None:
        """Take up to 250 observations of every stream, shape (observations, streams), all in [0, 1]."""
        if self.streams < _WIDE and len(rows) >= _FEW:
            self._run_ahead(rows)
        else:
            self._run_rows(rows)
        self.n += len(rows)
        self.total += len(rows)

    def _run_rows(self, rows: Floats) -> None:
        """Take the observations row by row."""
        self._restarted.fill(0)
        limits = np.where(self.detected, np.inf, self._alarm_at)
        ages = self.total
        # Streams that moved in together have one age: a number is faster than an array of equal ones.
        age: Any = int(ages[0]) if (ages == ages[0]).all() else ages.copy()
        total = np.zeros(self.streams)
        for tick in range(1, len(rows) + 1):
            age += 1
            place = (tick - 1) % self._ahead
            if not place:
                self._gain_from(rows[tick - 1 : tick - 1 + self._ahead])
            # Copied to all bets first: arrays of one shape are multiplied three times as fast.
            np.copyto(self._factor, self._gains[place])
            if self._curved:
                np.copyto(self._factor[:, -1:], self._last_gains[place])
            self._factor *= self._risk
            self._factor += self._kept
            self._bet(tick, 1.0 / (age * (age + 1.0)))
            total = _totals(self._sums[None])[0]
            due = age % _CAP_EVERY == 0
            if due if isinstance(age, int) else due.any():
                self._cap(np.broadcast_to(due, total.shape))
            fresh = total >= limits
            if np.count_nonzero(fresh):  # sooner known than any()
                limits[fresh] = np.inf
                self._raise(fresh, age)
        self.warning[:] = total >= _WARNING * self._alarm_at
        self._starts[:] = self._started(slice(None), self._restarted)

    def _run_ahead(self, rows: Floats) -> None:
        """Take the observations some rows at a time: what can be done for all of these at once is."""
        steps = Steps(self._weight)
        kept, done = steps.kept, 0
        self._restarted.fill(0)
        limits = np.where(self.detected, np.inf, self._alarm_at)
        for number, values in enumerate((self._sums, self._life, self._runs)):
            kept[0, number] = values
        while done < len(rows):
            count = min(steps.ahead, len(rows) - done)
            self._take(steps, rows[done : done + count], done, limits)
            kept[0] = kept[count]
            done += count
        for number, values in enumerate((self._sums, self._life, self._runs)):
            values[:] = kept[0, number]
        self._starts[:] = self._started(slice(None), self._restarted)

    def _take(self, steps: Steps, rows: Floats, done: int, limits: Floats) -> None:
        """Take as many observations as there are `rows`, at most 16, behind `done` ones."""
        ticks = np.arange(done + 1, done + len(rows) + 1)
        ages = self.total + ticks[:, None]
        self._factors_from(rows, steps.factors[: len(rows)])
        near = steps.kept[0].max() > _SMALL
        caps = np.where(ages % _CAP_EVERY == 0, _CAP, np.inf) if near else None
        steps.take(1.0 / (ages * (ages + 1.0)), caps)
        totals = _totals(steps.kept[1 : len(rows) + 1, SUMS])
        # A run of at most 1 restarts with the next observation: its last restart is what counts.
        restarts = np.less_equal(steps.kept[: len(rows), RUNS], 1.0).view(np.uint8)
        restarts *= ticks.astype(np.uint8)[:, None, None, None]
        fresh = totals >= limits
        if np.count_nonzero(fresh):  # sooner known than any()
            self._raise_ahead(steps, fresh, restarts, done)
            limits[fresh.any(axis=0)] = np.inf
        np.maximum(self._restarted, np.maximum.reduce(restarts), out=self._restarted)
        self.warning[:] = totals[-1] >= _WARNING * self._alarm_at

    def reset(self, chosen: Flags) -> None:
        """Reset the chosen detectors as their own ``reset`` does."""
        self.detected[chosen] = self.warning[chosen] = False
        self.n[chosen] = 0
        for values in (self._sums, self._runs):
            values[:, :, chosen] = 0.0
        self._starts[:, :, chosen] = 0
        for stream in np.flatnonzero(chosen).tolist():
            self._alarms.pop(stream, None)

    def evidence(self) -> list[float]:
        """Return log10 of every statistic; 0 while it is below 1."""
        # The sum and the logarithm of the single detector: others may differ in the last bit.
        sums = self._sums.reshape(-1, self.streams).T.tolist()
        return [math.log10(max(1.0, sum(bets))) for bets in sums]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    def _gain_from(self, rows: Floats) -> None:
        """Compute the gains of some rows at once, as fewer and larger steps are faster."""
        some = slice(len(rows))
        gains = self._gains[some]
        np.copyto(gains, rows[:, None, None])
        if self._curved:
            last, curve = self._last_gains[some], self._curve[some]
            np.multiply(gains, self._last_bend[some], out=curve)
            curve += self._last_slope[some]
            np.subtract(gains, self._last_end[some], out=last)
            last *= curve
        gains -= self._end[some]
        gains *= self._slope[some]

    def _bet(self, tick: int, late: Any) -> None:
        """Apply the factors to the sums, to the companions and to the runs."""
        sums, runs, life, factor = self._sums, self._runs, self._life, self._factor
        sums += self._weight
        sums *= factor
        life += late
        life *= factor
        # A run of at most 1 restarts with this observation: its last restart is what counts.
        np.less_equal(runs, 1.0, out=self._restarts)
        restarts = self._restarts.view(np.uint8)
        restarts *= np.uint8(tick)
        np.maximum(self._restarted, restarts, out=self._restarted)
        np.maximum(runs, 1.0, out=runs)
        runs *= factor

    def _cap(self, due: Flags) -> None:
        for values in (self._sums, self._runs, self._life):
            if values.max() > _CAP:
                values[:, :, due] = np.minimum(values[:, :, due], _CAP)

    def _started(self, streams: slice | int, restarted: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return where the runs of `streams` started; ``n`` still stands before the rows being taken."""
        rows = restarted[:, :, streams].astype(np.int64)
        return np.where(rows > 0, self.n[streams] + rows - 1, self._starts[:, :, streams])

    def _raise(self, fresh: Flags, age: Any) -> None:
        """Note the alarms of the streams in `fresh`."""
        ages = np.broadcast_to(age, fresh.shape)
        for stream in np.flatnonzero(fresh).tolist():
            bets = self._sums[:, :, stream], self._runs[:, :, stream]
            self._note(stream, int(ages[stream]), *bets, self._restarted)

    def _raise_ahead(self, steps: Steps, fresh: Flags, restarts: NDArray[np.uint8], done: int) -> None:
        """Note the alarms of the streams that are in `fresh` at some step."""
        for stream in np.flatnonzero(fresh.any(axis=0)).tolist():
            row = int(fresh[:, stream].argmax())
            restarted = np.maximum(self._restarted, np.maximum.reduce(restarts[: row + 1]))
            after = steps.kept[row + 1, :, :, :, stream]
            self._note(stream, int(self.total[stream]) + done + row + 1, after[SUMS], after[RUNS], restarted)

    def _note(self, stream: int, age: int, sums: Floats, runs: Floats, restarted: NDArray[np.uint8]) -> None:
        """Note the alarm of one stream: total, evidence and began index."""
        self.detected[stream] = True
        best = int(sums.ravel().argmax())
        running = runs.ravel()[best] > 1.0
        began = int(self._started(stream, restarted).ravel()[best]) if running else None
        self._alarms[stream] = [age, math.log10(max(1.0, sum(sums.ravel().tolist()))), began]

    def _factors_from(self, rows: Floats, factors: Floats) -> None:
        """Compute what every bet is multiplied with, by row."""
        for first in range(0, len(rows), self._ahead):
            some = factors[first : first + self._ahead]
            self._gain_from(rows[first : first + self._ahead])
            # Copied to all bets first: arrays of one shape are multiplied three times as fast.
            np.copyto(some, self._gains[: len(some)])
            if self._curved:
                np.copyto(some[:, :, -1:], self._last_gains[: len(some)])
        factors *= self._risk
        factors += self._kept

    def _kept_numbers(self) -> tuple[NDArray[np.float64] | NDArray[np.int64], ...]:
        return self._sums, self._runs, self._life, self._starts


def _totals(sums: Floats) -> Floats:
    """Return the statistics by step and stream, added up bet by bet as a single detector does."""
    bets = sums.reshape(len(sums), -1, sums.shape[-1])
    if sums.shape[-1] == 1:  # a single column would be added up pairwise
        last: Floats = np.add.accumulate(bets, axis=1)[:, -1]
        return last
    added: Floats = np.add.reduce(bets, axis=1)
    return added


def _saved_numbers(state: BettingState) -> tuple[Sequence[float], ...]:
    return state.sums, state.runs, state.life, state.starts


_lay_bets = lru_cache(maxsize=8_192)(lay_bets)


def _lay(state: BettingState) -> tuple[WageredSide, ...]:
    return _lay_bets(**{name: getattr(state, name) for name in CONFIGURATION})
