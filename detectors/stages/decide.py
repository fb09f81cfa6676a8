"""Decide: signals become intents, each with a named reason."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from detectors.records import Decision, Release, Signal
from detectors.rules import Rule
from detectors.stages.contract import Delivery, Output, StageState
from detectors.stages.detect_state import key_of

RELEASE = "release"
MAX_MADE = 1_000
"""How many decisions of a deployment are remembered; the oldest is forgotten first."""


class DecideStage:
    """Asks every rule about every signal, and passes on what the act side verifies with.

    An intent names the release, the cause and the permitted verbs. Which release to go back to, whether it
    is safe and whether it was done already is for the act side to say. A decision is made once: the same id
    is never emitted twice.

    Parameters
    ----------
    rules
        In the order in which they are asked.
    """

    name = "decide"
    source = "signals"

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)

    def restore(self, partition: int, stored: Mapping[str, bytes]) -> StageState:  # noqa: ARG002 - contract
        """Return the state held by the stored blobs."""
        return StageState(stored)

    def changes(self, state: StageState) -> dict[str, bytes | None]:
        """Return the blobs that changed since the last call."""
        return state.take_changes()

    def step(self, state: StageState, batch: Sequence[Delivery]) -> tuple[StageState, list[Output]]:
        """Return the state after `batch` and decisions, releases and watched statuses for the act side."""
        outputs: list[Output] = []
        for delivery in batch:
            record = delivery.record
            if isinstance(record, Release):
                key = key_of(RELEASE, record.deployment)
                declared = {**state.get(key, {}), record.release: msgspec.to_builtins(record)}
                state.put(key, declared)
                outputs.append(_for_act(record.deployment, record))
            elif isinstance(record, Signal):
                outputs += self._decide(state, record)
        return state, outputs

    def _decide(self, state: StageState, signal: Signal) -> list[Output]:
        deployment = signal.stream.deployment
        releases = msgspec.convert(state.get(key_of(RELEASE, deployment), {}), dict[str, Release])
        made_key = key_of("made", deployment)
        made: dict[str, list[str]] = state.get(made_key, {})
        outputs: list[Output] = []
        for rule in self._rules:
            memory_key = key_of("memory", rule.name, deployment)
            memory: dict[str, Any] = state.get(memory_key, {})
            before = msgspec.msgpack.encode(memory)  # a rule may change a list in place
            for decision in self._ask(rule, signal, releases, memory, state):
                if decision.decision_id not in made:
                    made = {**made, decision.decision_id: [decision.metric, decision.segment]}
                    made = dict(list(made.items())[-MAX_MADE:])
                    state.put(made_key, made)
                    outputs.append(_for_act(deployment, decision))
            if msgspec.msgpack.encode(memory) != before:
                state.put(memory_key, memory)
        if _is_watched(signal, made):
            outputs.append(_for_act(deployment, signal))
        return outputs

    @staticmethod
    def _ask(
        rule: Rule, signal: Signal, releases: dict[str, Release], memory: dict[str, Any], state: StageState
    ) -> list[Decision]:
        try:
            return list(rule.decide(signal, releases, memory))
        except Exception:  # noqa: BLE001 - a plug-in's fault is counted, and must not stop the line (I8)
            state.count(f"rule_error_{rule.name}", signal.stream.deployment)
            return []


def _for_act(deployment: str, record: Decision | Release | Signal) -> Output:
    return Output(topic="decisions", key=deployment, record=record)


def _is_watched(signal: Signal, made: dict[str, list[str]]) -> bool:
    """Return whether the act side verifies a decision with this status: served shares, and its metric."""
    if signal.kind != "status" or not made:
        return False
    stream = signal.stream
    return stream.test == "share" or (
        stream.test == "reference" and [stream.metric, stream.segment] in made.values()
    )
