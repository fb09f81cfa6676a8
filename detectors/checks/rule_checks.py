"""What every rule keeps, whatever it looks for. A check takes a way to build the rule and raises `RuleError`.

Each check feeds a rule a story: the signals of one deployment, in their order, with its declared releases.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, get_args

import msgspec

from detectors.records import Decision, Interval, Release, Role, Signal, StreamKey, Verb
from detectors.rules import Rule

Build = Callable[[], Rule]
State = Literal["warming", "steady", "warning", "drift", "blind"]
Story = Sequence[Signal]

ROLES: Final[tuple[Role | None, ...]] = ("candidate", "stable", "retired", None)
TESTS: Final = ("arm", "reference", "own", "share")
MAX_MEMORY_BYTES: Final = 1_000
"""Per stream that was ever seen."""

_CLOSINGS: Final = 30


class RuleError(AssertionError):
    """A rule that does not keep what every rule keeps; the text says what."""


def strong_signal(**fields: Any) -> Signal:
    """Return a status that leaves no doubt that release 2.4 is worse, but for what `fields` change."""
    at_ms = fields.pop("at_ms", 0)
    test = fields.pop("test", "arm")
    release = fields.pop("release", "2.4")
    values: dict[str, Any] = {
        "signal_id": f"{release}/{test}/{at_ms}",
        "kind": "status",
        "stream": StreamKey("support", release, "all", "helpful", test),
        "at_ms": at_ms,
        "n": 1_000,
        "n_total": 100_000,
        "mean": 0.5,
        "baseline": 0.9,
        "effect": -0.4,
        "interval": Interval(-0.45, -0.35, 0.95),
        "effect_n": 10_000,
        "direction": "higher",
        "worse": True,
        "evidence": 40.0,
        "threshold": 6.0,
        "detected": True,
        "state": "drift",
        "began_at_ms": 0,
        "bad": ("bad-1",),
    }
    return Signal(**{**values, **fields})


def story(**fields: Any) -> list[Signal]:
    """Return a long run of equal statuses, one a minute."""
    return [strong_signal(at_ms=60_000 * minute, **fields) for minute in range(_CLOSINGS)]


def declared(role: Role | None, *, share: float | None = 0.2) -> dict[str, Release]:
    """Return the declarations: 2.3 is stable, and 2.4 is what `role` says (None: nobody declared it)."""
    stable = Release(deployment="support", release="2.3", role="stable", started_at_ms=0)
    if role is None:
        return {"2.3": stable}
    other = Release(deployment="support", release="2.4", role=role, started_at_ms=5, share=share)
    return {"2.3": stable, "2.4": other}


def decisions_of(
    rule: Rule, signals: Story, releases: dict[str, Release], memory: dict[str, Any] | None = None
) -> list[Decision]:
    """Return what `rule` decides over `signals`."""
    kept = {} if memory is None else memory
    return [made for signal in signals for made in rule.decide(signal, releases, kept)]


def _situations() -> Iterator[tuple[str, Role | None, float | None]]:
    yield from itertools.product(TESTS, ROLES, (0.2, None))


def _everything() -> Iterator[tuple[Story, dict[str, Release]]]:
    for test, role, share in _situations():
        yield story(test=test), declared(role, share=share)


BLIND_REASONS: Final = (
    "no_arm_stamped",
    "no_stable_release",
    "several_stable_releases",
    "share_mismatch",
    "seen_units_full",
)

UNCLEAR: Final[tuple[dict[str, Any], ...]] = (
    {"state": "blind"},
    {"state": "warming"},
    {"state": "steady"},
    {"state": "blind", "reason": "share_mismatch", "detected": True},
    {"detected": False, "evidence": 0.0, "state": "steady"},
    {"evidence": 5.9},
    {"effect": None, "interval": None, "effect_n": 0, "worse": False},
    {"effect_n": 0},
    {"n": 0, "n_total": 0, "mean": None, "baseline": None, "effect": None, "interval": None, "effect_n": 0,
     "worse": False, "detected": False, "evidence": 0.0, "state": "warming"},
    {"worse": False, "effect": 0.4, "interval": Interval(0.35, 0.45, 0.95)},
    {"evidence": math.nan},
    {"threshold": math.nan},
)  # fmt: skip
"""What is missing, inconclusive, blind, or points the other way."""


def check_unclear_evidence_decides_nothing(build: Build) -> None:
    """Missing, inconclusive, blind or opposite evidence brings no decision, however long it lasts."""
    for fields, (test, role, share) in itertools.product(UNCLEAR, list(_situations())):
        made = decisions_of(build(), story(test=test, **fields), declared(role, share=share))
        _require(not made, f"{test} test, role {role}: a decision without evidence ({sorted(fields)})")


def check_a_blind_candidate_is_never_rolled_back(build: Build) -> None:
    """That a candidate cannot be compared may page, once for each reason; it moves no traffic (I4)."""
    for reason, role in itertools.product(BLIND_REASONS, ROLES):
        blind = story(detector="share_betting", state="blind", reason=reason, detected=False, worse=False)
        made = decisions_of(build(), blind, declared(role))
        _require(all(one.verbs == ("page",) for one in made), f"{reason}: a rollback without knowledge")
        _require(role == "candidate" or not made, f"role {role}: it is no candidate that cannot be compared")
        _require(len({one.decision_id for one in made}) <= 1, f"{reason}: one episode has several pages")


def check_unclear_reference_decides_nothing(build: Build) -> None:
    """A reference test whose interval is missing or holds 0 is not confirmed, and brings no decision."""
    for interval, role in itertools.product(
        (None, Interval(-0.5, 0.1, 0.95), Interval(0.0, 0.0, 0.95)), ROLES
    ):
        made = decisions_of(build(), story(test="reference", interval=interval), declared(role, share=None))
        _require(not made, f"role {role}: a decision on a change that is not confirmed")


def check_gaps_do_not_add_up(build: Build) -> None:
    """Evidence that comes and goes is not sustained evidence."""
    fading = {"state": "steady", "detected": False, "evidence": 0.0}
    for test, role, share in _situations():
        signals = [
            strong_signal(at_ms=60_000 * at, test=test, **(fading if at % 2 else {}))
            for at in range(_CLOSINGS)
        ]
        made = decisions_of(build(), signals, declared(role, share=share))
        _require(not made, f"{test} test, role {role}: interrupted evidence was added up")


def check_only_a_candidates_arm_permits_rollback(build: Build) -> None:
    """Rollback is permitted by the arm test of a declared candidate, and by nothing else."""
    for test, role, share in _situations():
        for made in decisions_of(build(), story(test=test), declared(role, share=share)):
            allowed = test == "arm" and role == "candidate"
            _require("rollback" not in made.verbs or allowed, f"{test} test, role {role}: permits a rollback")
            _require(made.cause == "release" or "rollback" not in made.verbs, "rolls back a common cause")


def check_replay_gives_the_same(build: Build) -> None:
    """The same signals give equal decisions, also when the rule and its memory were stored at any point."""
    for signals, releases in _everything():
        whole = decisions_of(build(), signals, releases)
        for cut in range(0, _CLOSINGS, 7):
            memory: dict[str, Any] = {}
            first = decisions_of(build(), signals[:cut], releases, memory)
            restored = msgspec.msgpack.decode(msgspec.msgpack.encode(memory))
            _require(json.loads(json.dumps(memory)) == restored, "the memory is not made of plain values")
            second = decisions_of(build(), signals[cut:], releases, restored)
            _require([*first, *second] == whole, "another decision after memory was stored and restored")


def check_an_episode_is_decided_once(build: Build) -> None:
    """However long the evidence stands, its decisions carry one id for each verdict."""
    for signals, releases in _everything():
        made = decisions_of(build(), signals, releases)
        verdicts = {(one.release, one.cause, one.verbs) for one in made}
        _require(len({one.decision_id for one in made}) == len(verdicts), "one episode has several ids")


def check_memory_is_bounded(build: Build) -> None:
    """A long life adds nothing to the memory of a stream; streams that are well leave none."""
    for signals, releases in _everything():
        memory: dict[str, Any] = {}
        rule = build()
        for _ in range(10):
            decisions_of(rule, signals, releases, memory)
        size = len(json.dumps(memory))
        _require(size <= MAX_MEMORY_BYTES, f"the memory of one stream takes {size} bytes")
    memory = {}
    rule = build()
    for number in range(200):
        well = strong_signal(release=f"r{number}", state="steady", detected=False, evidence=0.0)
        decisions_of(rule, [well], declared("candidate"), memory)
    _require(len(json.dumps(memory)) <= MAX_MEMORY_BYTES, "healthy streams fill the memory")


def check_decisions_say_why(build: Build) -> None:
    """Every decision names its release, reason, rule, verbs and signals, in finite numbers."""
    for signals, releases in _everything():
        for made in decisions_of(build(), signals, releases):
            _require(made.reason.isidentifier(), "the reason is no name")
            _require(made.rule == build().name, "the decision names another rule")
            _require(bool(made.verbs) and set(made.verbs) <= set(get_args(Verb)), "the verbs are unknown")
            _require(
                bool(made.decision_id and made.summary and made.signal_ids), "id, summary or signals missing"
            )
            _require(
                (made.deployment, made.release) == ("support", "2.4"), "the decision is about another release"
            )
            numbers = (made.effect, made.low, made.high, made.baseline, float(made.n))
            _require(all(one is None or math.isfinite(one) for one in numbers), "a number is not finite")
            _require("nan" not in made.summary.casefold(), "the summary holds a number that is none")
            back = msgspec.json.decode(msgspec.json.encode(made), type=Decision)
            _require(back == made, "the decision does not survive the log")


def check_inputs_are_not_changed(build: Build) -> None:
    """The declarations are the same before and after."""
    for signals, releases in _everything():
        before = msgspec.json.encode(releases)
        decisions_of(build(), signals, releases)
        _require(msgspec.json.encode(releases) == before, "the declarations were changed")


def _require(held: bool, otherwise: str) -> None:
    if not held:
        raise RuleError(otherwise)


RULE_CHECKS: Final[tuple[Callable[[Build], None], ...]] = (
    check_unclear_evidence_decides_nothing,
    check_a_blind_candidate_is_never_rolled_back,
    check_unclear_reference_decides_nothing,
    check_gaps_do_not_add_up,
    check_only_a_candidates_arm_permits_rollback,
    check_replay_gives_the_same,
    check_an_episode_is_decided_once,
    check_memory_is_bounded,
    check_decisions_say_why,
    check_inputs_are_not_changed,
)
"""Every check, for a parametrised test."""
