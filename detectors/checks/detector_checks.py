"""What every detector must keep; run on each registered one, and by authors of new ones.

A check takes a :class:`~detectors.drift.trial.Trial`, the one that the detector brings along, and raises
:class:`BrokenWordError` with one sentence when the detector breaks its word::

    for check in DETECTOR_CHECKS:
        check(MyDetector.trial())
"""

import math
from collections.abc import Callable, Iterator
from itertools import islice
from random import Random
from typing import Any, Final

import msgspec

from detectors.drift.trial import Arguments, Trial

Check = Callable[[Trial], None]

_SEEDS: Final = (11, 12, 13)
_STEADY: Final = 500
_LONG: Final = 8000
_GROWTH: Final = 1.3  # digits of numbers may grow, the count of numbers may not


class BrokenWordError(AssertionError):
    """A detector that breaks its word; the text says which and how."""


def check_fires_on_a_change(trial: Trial) -> None:
    """It fires within its patience after a change, with evidence at its threshold, and says since when."""
    for seed in _SEEDS:
        detector, random = trial.build(), Random(seed)  # noqa: S311 - seeded traffic, not cryptography
        _feed(detector, trial.steady(random), _STEADY)
        _require(not detector.drift_detected, "it fired before there was a change")
        for arguments in islice(trial.changed(random), trial.patience):
            detector.update(**arguments)
            if detector.drift_detected:
                break
        _require(detector.drift_detected, f"it did not fire within {trial.patience} changed observations")
        _require(detector.evidence >= detector.threshold, "it fired below its own threshold")
        began = detector.began_index
        _require(began is not None and 0 <= began < detector.n, "it fired without saying since when")


def check_stays_quiet(trial: Trial) -> None:
    """It neither fires without a change nor shows evidence that is not a finite number."""
    for seed in _SEEDS:
        detector = trial.build()
        _require(detector.n == 0, "it counts observations before the first")
        for arguments in islice(_steady(trial, seed), 4 * _STEADY):
            detector.update(**arguments)
            _require(math.isfinite(detector.evidence), "its evidence is not a finite number")
            _require(not detector.drift_detected, "it fired without a change")
        _require(detector.n == 4 * _STEADY, "it miscounts its observations")


def check_refuses(trial: Trial) -> None:
    """It refuses what is no observation with a ValueError, counts that, and changes nothing else."""
    detector = trial.build()
    _feed(detector, _steady(trial, _SEEDS[0]), 50)
    for count, arguments in enumerate(trial.refused, start=1):
        before = _state(detector)
        try:
            detector.update(**arguments)
        except ValueError:
            pass
        else:
            raise BrokenWordError(f"it accepted {arguments!r}")
        after = _state(detector)
        _require(detector.refused == after.pop("refused") == count, "it does not count what it refused")
        before.pop("refused")
        _require(before == after, f"its state changed when it refused {arguments!r}")


def check_resumes_exactly(trial: Trial) -> None:
    """Taken down anywhere, through JSON, and put up again, it has the same future to the last bit."""
    for pause in (0, 1, 57, _STEADY):
        random = Random(pause)  # noqa: S311 - seeded traffic, not cryptography
        kept = trial.build()
        _feed(kept, trial.steady(random), pause)
        resumed = _restore(trial, _state(kept))
        _require(_state(resumed) == _state(kept), f"its state differs after a pause at {pause}")
        for arguments in islice(trial.changed(random), trial.patience):
            kept.update(**arguments)
            resumed.update(**arguments)
            _require(_visible(kept) == _visible(resumed), f"it went another way after a pause at {pause}")
        _require(_state(resumed) == _state(kept), f"its state went another way after a pause at {pause}")


def check_refuses_foreign_states(trial: Trial) -> None:
    """It refuses the state of another version, an incomplete one, and one with an unknown field."""
    good = _state(trial.build())
    incomplete = {key: value for key, value in good.items() if key != "refused"}
    for state in ({}, {**good, "version": 999}, {**good, "unknown": 1}, incomplete):
        try:
            _restore(trial, state)
        except ValueError:
            continue
        raise BrokenWordError("it took a state that is not its own")


def check_memory_is_bounded(trial: Trial) -> None:
    """Its state is as large after many observations as after some."""
    detector, stream = trial.build(), _steady(trial, _SEEDS[0])
    _feed(detector, stream, _STEADY)
    early = len(msgspec.json.encode(detector.to_state()))
    _feed(detector, stream, _LONG)
    late = len(msgspec.json.encode(detector.to_state()))
    _require(late <= _GROWTH * early, f"its state grew from {early} to {late} bytes")


def check_stays_detected(trial: Trial) -> None:
    """Once fired it stays so, with finite evidence, whatever follows, until it is reset."""
    detector, random = trial.build(), Random(_SEEDS[0])  # noqa: S311 - seeded traffic, not cryptography
    fresh = _state(detector)
    for arguments in islice(trial.changed(random), trial.patience):
        detector.update(**arguments)
        if detector.drift_detected:
            break
    # Back to normal first, so that the evidence has fallen; then enough of the change to overflow.
    for stream, count in ((trial.steady(random), _LONG), (trial.changed(random), 2 * _LONG)):
        for arguments in islice(stream, count):
            detector.update(**arguments)
            _require(detector.drift_detected, "it took its alarm back")
            _require(math.isfinite(detector.evidence), "its evidence is not a finite number")
    state = _state(detector)
    _require(_restore(trial, state).drift_detected, "its alarm did not survive a pause")
    detector.reset()
    _require(not detector.drift_detected, "reset did not take the alarm back")
    left = _state(detector)
    for field in trial.kept_by_reset:  # a name that is no field of the state is a mistake: KeyError
        fresh[field] = left[field]
    _require(left == fresh, "reset left something of the past")


def check_instances_are_independent(trial: Trial) -> None:
    """Two of them, a clone, a state taken from one and one put up from it share nothing that changes."""
    used, other = trial.build(), trial.build()
    clone = used.clone()
    fresh = _state(other)
    _require(_state(clone) == fresh, "a clone is not like new")
    taken = used.to_state()
    resumed = _restore(trial, taken)
    _feed(used, _steady(trial, _SEEDS[0]), 50)
    for same in (other, clone, resumed):
        _require(_state(same) == fresh, "feeding one changed another")
    _require(msgspec.json.decode(msgspec.json.encode(taken)) == fresh, "a state taken before has changed")


DETECTOR_CHECKS: Final[tuple[Check, ...]] = (
    check_fires_on_a_change,
    check_stays_quiet,
    check_refuses,
    check_resumes_exactly,
    check_refuses_foreign_states,
    check_memory_is_bounded,
    check_stays_detected,
    check_instances_are_independent,
)
"""Every check of a detector, in the order in which a failure is most telling."""


def _require(held: bool, otherwise: str) -> None:
    if not held:
        raise BrokenWordError(otherwise)


def _steady(trial: Trial, seed: int) -> Iterator[Arguments]:
    return trial.steady(Random(seed))  # noqa: S311 - seeded traffic, not cryptography


def _feed(detector: Any, stream: Iterator[Arguments], count: int) -> None:
    for arguments in islice(stream, count):
        detector.update(**arguments)


def _restore(trial: Trial, state: dict[str, Any]) -> Any:
    """Return the detector that `state` describes."""
    return (trial.restore or type(trial.build()).from_state)(state)


def _state(detector: Any) -> dict[str, Any]:
    """Return the state as it comes back from a journal: through JSON."""
    state: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(detector.to_state()))
    return state


def _visible(detector: Any) -> tuple[Any, ...]:
    return detector.drift_detected, detector.warning_detected, detector.evidence, detector.began_index
