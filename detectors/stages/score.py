"""Score: every interaction becomes one scorecard."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

import msgspec

from detectors.features import Features
from detectors.policy.verdict import decide_verdict
from detectors.records import Direction, Interaction, Reference, Release, Score, Scorecard, Span, Tick
from detectors.scorers import Scorer
from detectors.stages.contract import Delivery, Output, StageState
from detectors.stages.segments import SegmentRule, segments_of

WATERMARK = "watermark"
_DIRECTIONS = frozenset(get_args(Direction))
_NUMBERS = frozenset({float, int})


class ScoreStage:
    """Runs all scorers over each interaction, once, on features computed once.

    A scorer that raises costs its own score (status *errored*), never the record, and never its neighbours.
    It is counted, as ``score_error_<scorer>``, by deployment.
    After each batch a tick tells every detect partition how far event time has come in this one.

    Parameters
    ----------
    scorers
        In the order in which their scores stand on the card.
    segments
        How interactions are sliced.
    detect_partitions
        How many partitions the scorecards topic has.
    policy_version
        Stamped on every card.
    live
        Whether event time is wall-clock time. A record from the future, of a producer whose clock runs ahead,
        then moves event time no further than to its own arrival: else it would make everybody else late.
    """

    name = "score"
    source = "interactions"

    def __init__(
        self,
        scorers: Sequence[Scorer],
        *,
        segments: Sequence[SegmentRule] = (),
        detect_partitions: int = 1,
        policy_version: str = "",
        live: bool = False,
    ) -> None:
        self._scorers = tuple(scorers)
        self._segments = tuple(segments)
        self._detect_partitions = detect_partitions
        self._policy_version = policy_version
        self._live = live

    def restore(self, partition: int, stored: Mapping[str, bytes]) -> StageState:
        """Return the state of `partition`: its watermark."""
        state = StageState(stored)
        if state.get("partition") is None:
            state.put("partition", partition)
        return state

    def changes(self, state: StageState) -> dict[str, bytes | None]:
        """Return what changed since the last call."""
        return state.take_changes()

    def step(self, state: StageState, batch: Sequence[Delivery]) -> tuple[StageState, list[Output]]:
        """Return the state after `batch`, the scorecards, and the control records passed on."""
        outputs: list[Output] = []
        errors: Counter[tuple[str, str]] = Counter()
        before: int = state.get(WATERMARK, -1)
        watermark = before
        for delivery in batch:
            record = delivery.record
            if isinstance(record, Interaction):
                card = self.score(record, delivery.partition, delivery.offset)
                outputs.append(Output(topic="scorecards", key=record.deployment, record=card))
                errors.update((one.name, record.deployment) for one in card.scores if one.status == "errored")
                watermark = max(watermark, self._time_of(record))
            elif isinstance(record, Release | Reference):
                outputs.append(Output(topic="scorecards", key=record.deployment, record=record))
            elif isinstance(record, Tick):
                watermark = max(watermark, record.watermark_ms)
        for (scorer, deployment), count in sorted(errors.items()):
            state.count(f"score_error_{scorer}", deployment, count)
        if watermark > before:
            state.put(WATERMARK, watermark)
            tick = Tick(state.get("partition"), watermark)
            outputs += [
                Output(topic="scorecards", partition=target, record=tick)
                for target in range(self._detect_partitions)
            ]
        return state, outputs

    def _time_of(self, record: Interaction) -> int:
        return min(record.event_time_ms, record.received_at_ms) if self._live else record.event_time_ms

    def score(self, interaction: Interaction, partition: int = 0, offset: int = 0) -> Scorecard:
        """Return the scorecard of one interaction that stands at `partition` and `offset`."""
        features = Features(interaction)
        scores = tuple(self._score_one(scorer, features) for scorer in self._scorers)
        verdict, deciding = decide_verdict(scores)
        return Scorecard(
            deployment=interaction.deployment,
            interaction_id=interaction.interaction_id,
            release=interaction.release,
            event_time_ms=interaction.event_time_ms,
            received_at_ms=interaction.received_at_ms,
            unit=unit_of(interaction),
            scores=scores,
            verdict=verdict,
            deciding=deciding,
            arm=interaction.arm,
            segments=segments_of(interaction, features, self._segments),
            policy_version=self._policy_version,
            source_partition=partition,
            source_offset=offset,
        )

    @staticmethod
    def _score_one(scorer: Scorer, features: Features) -> Score:
        try:
            score = scorer.score(features)
            if score is None:
                return _empty(scorer, "abstained", "does_not_apply")
            wrong = _fault(score)
        except Exception as error:  # noqa: BLE001 - a plug-in's fault must not stop the line (I8)
            return _empty(scorer, "errored", type(error).__name__)
        if wrong:
            return _empty(scorer, "errored", wrong)
        return (
            score
            if score.version == scorer.version
            else msgspec.structs.replace(score, version=scorer.version)
        )


def _fault(score: Score) -> str:
    """Return what is wrong with a plug-in's score, empty for nothing; it must survive the log and back."""
    value = score.value
    if value is not None and not 0.0 <= value <= 1.0:
        return "value_out_of_range"
    if not 0.0 <= score.confidence <= 1.0:
        return "confidence_out_of_range"
    if (value is not None) != (score.status == "scored"):
        return "status_without_value"
    if not _plain(score):  # what is plainly of the right types needs no deep look, and nearly every score is
        msgspec.convert(msgspec.to_builtins(score), Score)
    return ""


def _plain(score: Score) -> bool:
    """Whether every field has its type exactly; a score with flags may be right, but is not plain."""
    return (
        type(score) is Score
        and type(score.value) in _NUMBERS
        and type(score.confidence) in _NUMBERS
        and score.direction in _DIRECTIONS
        and score.flags == ()
        and type(score.spans) is tuple
        and all(map(_plain_span, score.spans))
        and str is type(score.name) is type(score.label) is type(score.reason) is type(score.version)
    )


def _plain_span(span: Span) -> bool:
    return (
        type(span) is Span
        and int is type(span.start) is type(span.end)
        and str is type(span.field) is type(span.rule)
    )


def _empty(scorer: Scorer, status: str, reason: str) -> Score:
    return Score(
        name=scorer.name,
        direction=scorer.direction,
        confidence=0.0,
        status="errored" if status == "errored" else "abstained",
        reason=reason,
        version=scorer.version,
    )


def unit_of(interaction: Interaction) -> str:
    """Return the key of the unit of randomisation: what was routed as one must be counted as one."""
    by_user = interaction.arm is not None and interaction.arm.unit == "user"
    if by_user and interaction.user:
        return f"u:{interaction.user}"
    if interaction.conversation:
        return f"c:{interaction.conversation}"
    return f"i:{interaction.interaction_id}"
