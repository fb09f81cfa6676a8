"""Scoring: one card an interaction, whatever a scorer does; time; the unit of randomisation."""

import itertools
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.checks.scorer_checks import HOSTILE_TEXTS
from detectors.records import Arm, Interaction, Release, Score, Scorecard, Span, Tick
from detectors.records.codec import decode, encode
from detectors.scorers import SCORERS
from detectors.stages import Delivery
from detectors.stages.score import ScoreStage, unit_of
from detectors.stages.segments import SegmentRule


def interaction(number: int = 0, *, at_ms: int = 1_000, **fields) -> Interaction:
    values = {
        "deployment": "d", "interaction_id": f"i{number}", "raw_id": "", "release": "1",
        "event_time_ms": at_ms, "received_at_ms": 10**12, "prompt": "How?", "response": "So.",
    }  # fmt: skip
    return Interaction(**{**values, **fields})


def deliveries(*records, partition: int = 0):
    return [Delivery(partition, offset, record) for offset, record in enumerate(records)]


class Fixed:
    """Answers, or raises, what it was made with."""

    direction, version = "higher", "1"

    def __init__(self, answer, name="fixed"):
        self.answer, self.name = answer, name

    def score(self, _features):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def only(answer) -> Score:
    card = ScoreStage([Fixed(answer), Fixed(Score(name="other", value=0.5), "other")]).score(interaction())
    assert card.scores[1].value == 0.5  # the neighbour is never hurt
    assert decode("Scorecard", encode(card)) == card  # and the card survives the log
    return card.scores[0]


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (None, "abstained", "does_not_apply"),
        (ValueError("user text"), "errored", "ValueError"),
        (RecursionError(), "errored", "RecursionError"),
        (Score(name="fixed", value=1.5), "errored", "value_out_of_range"),
        (Score(name="fixed", value=math.nan), "errored", "value_out_of_range"),
        (Score(name="fixed", value=-math.inf), "errored", "value_out_of_range"),
        (Score(name="fixed", value=0.5, confidence=math.nan), "errored", "confidence_out_of_range"),
        (Score(name="fixed", value=None), "errored", "status_without_value"),
        (Score(name="fixed", value=0.5, status="skipped"), "errored", "status_without_value"),
        (0.5, "errored", "AttributeError"),
        (Score(name="fixed", value="high"), "errored", "TypeError"),
        (Score(name="fixed", value=0.5, label=7), "errored", "ValidationError"),
        (Score(name="fixed", value=0.5, direction="up"), "errored", "ValidationError"),
        (Score(name="fixed", value=0.5, flags=None), "errored", "ValidationError"),
        (Score(name="fixed", value=0.5, flags=(1,)), "errored", "ValidationError"),
        (Score(name="fixed", value=0.5, spans=(Span("r", 0.5, 1, "r"),)), "errored", "ValidationError"),
        (Score(name="fixed", value=0.5, spans=("response",)), "errored", "ValidationError"),
        (Score(name="fixed", value=True), "errored", "ValidationError"),
    ],
)  # fmt: skip
def test_a_scorer_that_goes_wrong_costs_its_own_score(answer, status, reason):
    score = only(answer)
    assert (score.status, score.reason, score.value) == (status, reason, None)
    assert "user text" not in repr(score)


def test_the_scorers_version_stands_on_its_scores():
    scorer = Fixed(Score(name="fixed", value=0.5, version="old"))
    assert ScoreStage([scorer]).score(interaction()).scores[0].version == "1"


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
def test_no_text_stops_the_stage(text):
    rules = [
        SegmentRule("language", "language"),
        SegmentRule("plan", "attributes.plan"),
        SegmentRule("turn", "turn"),
    ]
    stage = ScoreStage([SCORERS.build(name, {}) for name in SCORERS.names()], segments=rules)
    text = text.encode("utf-8", "replace").decode()  # what JSON can carry
    card = stage.score(interaction(prompt=text, response=text, system=text, attributes={"plan": text}))
    assert decode("Scorecard", encode(card)) == card
    assert len(card.scores) == len(SCORERS.names())
    assert all(len(value) <= 64 for value in card.segments.values())


def test_a_batch_becomes_cards_controls_and_one_tick_for_every_partition():
    stage = ScoreStage([], detect_partitions=3, policy_version="p")
    state = stage.restore(7, {})
    release = Release(deployment="d", release="1", role="stable", started_at_ms=0)
    records = [interaction(1, at_ms=5_000), release, interaction(2, at_ms=3_000), Tick(9, 4_000)]
    state, outputs = stage.step(state, deliveries(*records, partition=7))
    cards = [output for output in outputs if isinstance(output.record, Scorecard)]
    assert [(one.record.interaction_id, one.record.source_offset) for one in cards] == [("i1", 0), ("i2", 2)]
    assert {one.key for one in cards} == {"d"}
    assert [one.record for one in outputs if isinstance(one.record, Release)] == [release]
    ticks = [one for one in outputs if isinstance(one.record, Tick)]
    assert [(one.partition, one.record) for one in ticks] == [(part, Tick(7, 5_000)) for part in range(3)]
    assert outputs[-3:] == ticks  # time goes on after what happened before


def test_time_never_goes_back_and_is_told_once():
    stage = ScoreStage([])
    state, first = stage.step(stage.restore(0, {}), deliveries(Tick(0, 5_000)))
    restored = stage.restore(0, stage.changes(state))
    _, second = stage.step(restored, deliveries(Tick(0, 4_000), interaction(at_ms=2_000)))
    assert [one.record for one in first] == [Tick(0, 5_000)]
    assert not [one for one in second if isinstance(one.record, Tick)]


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=20), st.booleans()
)
def test_the_watermark_is_the_furthest_time_and_live_never_ahead_of_arrival(times, live):
    stage = ScoreStage([], live=live)
    records = [interaction(n, at_ms=at, received_at_ms=arrived) for n, (at, arrived) in enumerate(times)]
    state, _ = stage.step(stage.restore(0, {}), deliveries(*records))
    wanted = max(min(at, arrived) if live else at for at, arrived in times)
    assert state.get("watermark") == wanted


def test_the_unit_is_what_was_routed_as_one():
    by_user = Arm("a", 0.5, "user")
    cases = {
        (None, "", ""): "i:i0",
        (None, "u1", ""): "i:i0",
        (None, "u1", "c1"): "c:c1",
        (by_user, "u1", "c1"): "u:u1",
        (by_user, "", "c1"): "c:c1",
        (Arm("a", 0.5), "u1", "c1"): "c:c1",
    }
    for (arm, user, conversation), unit in cases.items():
        assert unit_of(interaction(arm=arm, user=user, conversation=conversation)) == unit


def test_batch_edges_do_not_matter():
    stage = ScoreStage([SCORERS.build("refusal", {})])
    records = [interaction(n, at_ms=n) for n in range(6)]
    whole = stage.step(stage.restore(0, {}), deliveries(*records))[1]
    state, pieces = stage.restore(0, {}), []
    for delivery in deliveries(*records):
        state, outputs = stage.step(state, [delivery])
        pieces += outputs
    cards = [[msgspec.json.encode(one.record) for one in outs if isinstance(one.record, Scorecard)]
             for outs in (whole, pieces)]  # fmt: skip
    assert cards[0] == cards[1]
    assert len(list(itertools.chain(*cards))) == 12
