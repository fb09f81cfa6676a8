"""Settings become parts: the one place that knows which stage, notifier and target a file asks for."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from msgspec import Struct

from detectors.policy import policy_version
from detectors.registry import PartError, Registry
from detectors.rules import RULES
from detectors.scorers import SCORERS, Scorer
from detectors.stages import Stage
from detectors.stages.decide import DecideStage
from detectors.stages.detect import DetectStage
from detectors.stages.detect_plan import DetectPlan
from detectors.stages.score import ScoreStage
from detectors.stages.segments import SegmentRule, check_source
from streams.notifiers import NOTIFIERS, Notifier
from streams.response.machine import ANY_DEPLOYMENT
from streams.rollbacks import ROLLBACKS, RollbackTarget
from streams.settings import Settings, SettingsError

P = TypeVar("P")
_SEGMENT_NAME: Final = re.compile(r"[a-z0-9_]{1,64}")


class Parts(Struct, frozen=True):
    """Everything a configuration asks for, built and checked."""

    score: ScoreStage
    detect: DetectStage
    decide: DecideStage
    notifiers: dict[str, Notifier]
    targets: dict[str, RollbackTarget]

    @property
    def stages(self) -> list[Stage]:
        """The thinking path, in order."""
        return [self.score, self.detect, self.decide]


def assemble(settings: Settings) -> Parts:
    """Return the parts that `settings` ask for.

    Raises
    ------
    SettingsError
        For an unknown part, key, type or value, two parts of one name, a segment without a source, a network
        that is none, or scorers of which none could ever page.
    """
    try:
        _check_networks(settings)
        scorers = _build(SCORERS, settings.scorer, "scorer")
        _check_directions(scorers)
        segments = [_segment(index, settings) for index in range(len(settings.segment))]
        rules = _build(RULES, settings.rule, "rule")
        score = ScoreStage(
            scorers,
            segments=segments,
            detect_partitions=settings.journal.partitions,
            policy_version=policy_version(),
            live=settings.door.clamp,
        )
        notifiers = _notifiers(settings)
        targets = _targets(settings)
    except PartError as error:
        raise SettingsError(str(error)) from error
    detect = DetectStage(detect_plan(settings, scorers))
    return Parts(score, detect, DecideStage(rules), notifiers, targets)


def detect_plan(settings: Settings, scorers: Sequence[Scorer]) -> DetectPlan:
    """Return how detection spends the promised false alarms.

    Only scores with a direction page. What one release answered of one conversation (or user) within one
    bucket is a unit; it is counted once per such score in ``all`` against the anchor, once in ``all`` against
    its release's own beginning and, where its first interaction has a value of a segment dimension, once in
    that value. So a reference stream may raise ``false_pages_per_week / (units_per_week * scores * (2 +
    dimensions))`` false alarms per unit, whatever the number of values, releases and streams, and however
    often a stream is cleared and alarms again. The probability of a false
    rollback is shared by the arm tests of one candidate, in each of its episodes.
    """
    detect = settings.detect
    paging = max(1, sum(scorer.direction != "neutral" for scorer in scorers))
    views = paging * (2 + len(settings.segment))
    return DetectPlan(
        source_partitions=settings.journal.partitions,
        unit_ms=round(detect.unit_s * 1000),
        lateness_ms=round(detect.lateness_s * 1000),
        status_ms=round(detect.status_s * 1000),
        reference_units=detect.reference_units,
        tolerance=detect.tolerance,
        reference_alpha=min(0.5, detect.false_pages_per_week / (detect.units_per_week * views)),
        arm_alpha=detect.false_rollback_probability / paging,
        max_streams=detect.max_streams,
        max_deployments=detect.max_deployments,
        segment_top={segment.name: segment.top for segment in settings.segment},
    )


def _build(registry: Registry[P], tables: Sequence[Mapping[str, Any]], kind: str) -> list[P]:
    if not tables:
        return [registry.build(name, {}) for name in registry.names()]
    parts: dict[str, P] = {}
    for index, table in enumerate(tables):
        path, name = f"{kind}[{index}]", _name(table, f"{kind}[{index}]")
        if name in parts:
            raise PartError(f"{path}: two {kind}s are called {name!r}; each may be there once")
        parts[name] = registry.build(name, _parameters(table, "name"), path=path)
    return list(parts.values())


def _check_networks(settings: Settings) -> None:
    for index, network in enumerate(settings.act.allow_networks):
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise PartError(f"act.allow_networks[{index}]: {error}") from error


def _check_directions(scorers: Sequence[Scorer]) -> None:
    if all(scorer.direction == "neutral" for scorer in scorers):
        names = ", ".join(scorer.name for scorer in scorers)
        raise PartError(
            f"scorer: nothing could ever page, for no score has a better side: {names}; add one that has"
        )


def _notifiers(settings: Settings) -> dict[str, Notifier]:
    tables = settings.notifier or ({"name": "log"},)
    found: dict[str, Notifier] = {}
    for index, table in enumerate(tables):
        path = f"notifier[{index}]"
        name = _name(table, path)
        channel = str(table.get("channel", name))
        if channel in found:
            raise PartError(f"{path}: two notifiers share the channel {channel!r}; give one a `channel`")
        parameters = _guarded(_parameters(table, "name", "channel"), NOTIFIERS.get(name, path=path), settings)
        found[channel] = NOTIFIERS.build(name, parameters, path=path)
    return found


def _targets(settings: Settings) -> dict[str, RollbackTarget]:
    found: dict[str, RollbackTarget] = {}
    for index, table in enumerate(settings.rollback):
        path = f"rollback[{index}]"
        name, deployment = _name(table, path), str(table.get("deployment", ANY_DEPLOYMENT))
        if deployment in found:
            raise PartError(f"{path}: deployment {deployment!r} has two rollback targets")
        part = ROLLBACKS.get(name, path=path)
        parameters = _guarded(_parameters(table, "name", "deployment"), part, settings)
        found[deployment] = ROLLBACKS.build(name, parameters, path=path)
    return found


def _guarded(parameters: dict[str, Any], part: type[Any], settings: Settings) -> dict[str, Any]:
    """Add the networks that outgoing calls may reach, where the part makes any."""
    if "allow_networks" in part.__init__.__annotations__ and "allow_networks" not in parameters:
        parameters["allow_networks"] = settings.act.allow_networks
    return parameters


def _segment(index: int, settings: Settings) -> SegmentRule:
    segment = settings.segment[index]
    if not _SEGMENT_NAME.fullmatch(segment.name):
        raise PartError(f"segment[{index}].name: {segment.name!r} must be 1 to 64 of a-z, 0-9 and _")
    if [other.name for other in settings.segment].count(segment.name) > 1:
        raise PartError(f"segment[{index}]: two segments are called {segment.name!r}")
    try:
        check_source(segment.source)
    except ValueError as error:
        raise PartError(f"segment[{index}].source: {error}") from error
    return SegmentRule(segment.name, segment.source, segment.top)


def _name(table: Mapping[str, Any], path: str) -> str:
    name = table.get("name")
    if not isinstance(name, str) or not name:
        raise PartError(f"{path}: needs a `name`")
    return name


def _parameters(table: Mapping[str, Any], *own: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in own}
