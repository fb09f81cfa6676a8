"""Decision rules: signals in, decisions out, each with a named reason. A file here is one rule."""

from collections.abc import Iterable, MutableMapping
from typing import Any, Protocol

from detectors.records import Decision, Release, Signal
from detectors.registry import Registry


class Rule(Protocol):
    """What every rule offers; `memory` is the rule's own, per deployment, and JSON-able."""

    name: str

    def decide(
        self, signal: Signal, releases: dict[str, Release], memory: MutableMapping[str, Any]
    ) -> Iterable[Decision]:
        """Return the decisions this signal brings about; inconclusive evidence brings none."""
        ...


RULES = Registry[Rule]("rule", "detectors.rules")
rule = RULES.register
