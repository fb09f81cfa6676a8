"""Whether the embedded monitor is well: what ``/healthz``, ``/readyz`` and ``/metrics`` say."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from detectors.stages import Stage
from streams.door.counters import DoorCounters
from streams.embedded.act import ActLoop
from streams.embedded.journal import Journal
from streams.embedded.landing import Lander
from streams.embedded.pipeline import Pipeline
from streams.embedded.threads import LandThread, ThinkThread
from streams.health import Gauge, Health
from streams.response.machine import ResponseMachine
from streams.settings import JournalSettings

_RULE_ERROR: Final = "rule_error_"
_RULE_ERROR_S: Final = 600.0
"""For how long after its last fault a rule is told of."""
_OPEN: Final = ("DECIDED", "EXECUTING", "VERIFYING")


class Vitals:
    """Looks at the parts of a running monitor; called from any thread.

    Parameters
    ----------
    limits
        When a part counts as stuck or too far behind.
    journal, pipeline, stages, think, lander, land, act, machine, door
        The parts.
    failure
        Returns why the process should exit; empty while it need not.
    """

    def __init__(
        self,
        limits: JournalSettings,
        *,
        journal: Journal,
        pipeline: Pipeline,
        stages: Sequence[Stage],
        think: ThinkThread,
        lander: Lander,
        land: LandThread,
        act: ActLoop,
        machine: ResponseMachine,
        door: DoorCounters,
        failure: Callable[[], str],
    ) -> None:
        self._limits, self._journal, self._pipeline, self._stages = limits, journal, pipeline, stages
        self._think, self._lander, self._land, self._act = think, lander, land, act
        self._machine, self._door, self._failure = machine, door, failure
        # What rules did wrong before this start was told before this start.
        self._rule_errors = self._count_rule_errors()
        self._rule_failed_s: dict[str, float] = {}

    def alive(self) -> Health:
        """Return what only a restart can mend."""
        failure = self._failure()
        return Health({"process": failure} if failure else {})

    def ready(self) -> Health:
        """Return what keeps interactions from becoming decisions, acts and rows now."""
        problems = {"process": self._failure(), "landing": self._land.problem}
        for loop, age_s in self._round_ages().items():
            if loop != "land" and age_s > self._limits.stuck_after_s:
                problems[loop] = f"its last round ended {age_s:.0f} s ago"
        for stage, lag in self.lags().items():
            if lag > self._limits.lag_limit:
                problems[f"lag {stage}"] = f"{lag} records are not read yet"
        for rule in self._failing_rules():
            problems[f"rule {rule}"] = (
                "it raised an error, and may miss decisions: correct it, or leave it out"
            )
        return Health({part: problem for part, problem in problems.items() if problem})

    def lags(self) -> dict[str, int]:
        """Return how many records every stage, and the act side, has not read yet."""
        lags = {}
        for stage in self._stages:
            # Positions before ends: so a lag is never negative.
            read = self._journal.positions(stage.name, stage.source)
            lags[stage.name] = _behind(read, self._journal.ends(stage.source))
        read = self._act.positions()
        lags["act"] = _behind(read, self._journal.ends("decisions"))
        return lags

    def read(self) -> Iterable[Gauge]:
        """Return the readings of ``/metrics``."""
        yield Gauge(
            "door_records",
            "Records by verdict of the door.",
            ("code",),
            _labelled(self._door.snapshot()),
            is_counter=True,
        )
        lags, landing = _labelled(self.lags()), _labelled(self._lander.lag())
        yield Gauge("stage_lag_records", "Records that a stage has not read yet.", ("stage",), lags)
        yield Gauge(
            "set_aside_records",
            "Late records, streams and segment values over their bound, faults of scorers and rules.",
            ("kind", "deployment"),
            {labels: float(count) for labels, count in self._pipeline.counts().items()},
            is_counter=True,
        )
        yield Gauge("landing_lag_records", "Records not landed yet.", ("topic",), landing)
        watermarks = _labelled(self._pipeline.watermarks())
        yield Gauge("watermark_ms", "Event time reached by scoring.", ("partition",), watermarks)
        ages = _labelled(self._round_ages())
        yield Gauge("round_age_seconds", "Seconds since the last round of a loop ended.", ("loop",), ages)
        yield from self._act_readings()

    def _act_readings(self) -> Iterable[Gauge]:
        notices, acts = self._machine.count_states()
        waiting = {"pending": notices.get("pending", 0), "dead": notices.get("dead", 0)}
        yield Gauge(
            "notices", "Pages that wait for delivery, or that nobody took.", ("state",), _labelled(waiting)
        )
        states = {"open": sum(acts.get(state, 0) for state in _OPEN), "failed": acts.get("FAILED", 0)}
        yield Gauge("acts", "Rollbacks under way, or that did not work.", ("state",), _labelled(states))

    def _round_ages(self) -> dict[str, float]:
        threads = {"think": self._think.round_age_s(), "land": self._land.round_age_s()}
        return threads | self._act.round_ages()

    def _count_rule_errors(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for (kind, _), count in self._pipeline.counts().items():
            if kind.startswith(_RULE_ERROR):
                rule = kind.removeprefix(_RULE_ERROR)
                found[rule] = found.get(rule, 0) + count
        return found

    def _failing_rules(self) -> list[str]:
        """Return the rules that were seen to raise during the last minutes."""
        now_s, before = time.monotonic(), self._rule_errors
        self._rule_errors = self._count_rule_errors()
        for rule, count in self._rule_errors.items():
            if count > before.get(rule, 0):
                self._rule_failed_s[rule] = now_s
        return [rule for rule, at_s in self._rule_failed_s.copy().items() if now_s - at_s < _RULE_ERROR_S]


def _behind(read: Mapping[int, int], ends: Mapping[int, int]) -> int:
    return sum(ends[partition] - read[partition] for partition in ends)


def _labelled(counts: Mapping[str, float] | Mapping[int, int]) -> dict[tuple[str, ...], float]:
    return {(str(label),): float(count) for label, count in counts.items()}
