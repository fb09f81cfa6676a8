"""Scores by column are the rows that one would write card by card."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.records import Arm, Score, Scorecard, Span
from streams.landing_rows import rows_of
from streams.landing_scores import score_columns

TEXT = st.sampled_from(["", "a", "é", "x\ud800y", "\x00<b>", "z" * 40])
SCORE = st.builds(
    Score, name=TEXT, value=st.none() | st.floats(0, 1), label=TEXT, reason=TEXT, version=TEXT,
    direction=st.sampled_from(["higher", "lower", "neutral"]), confidence=st.floats(0, 1),
    flags=st.lists(TEXT, max_size=2).map(tuple),
    spans=st.lists(st.builds(Span, TEXT, st.just(0), st.just(3), TEXT), max_size=1).map(tuple),
    status=st.sampled_from(["scored", "abstained", "skipped", "errored"]),
)  # fmt: skip
CARD = st.builds(
    Scorecard, deployment=TEXT, interaction_id=TEXT, release=TEXT, unit=TEXT, policy_version=TEXT,
    event_time_ms=st.integers(-5, 2**60), received_at_ms=st.integers(-5, 2**60),
    scores=st.lists(SCORE, max_size=3).map(tuple), verdict=st.sampled_from(["pass", "review", "reject"]),
    arm=st.none() | st.builds(Arm, TEXT, st.none()),
)  # fmt: skip


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cards=st.lists(CARD, max_size=5))
def test_columns_are_the_rows_of_one_card_after_another(cards: list[Scorecard]) -> None:
    placed = [(index % 3, index * 70_000, card) for index, card in enumerate(cards)]
    wanted: dict[str, list[object]] = {name: [] for name in score_columns([])}
    for at, place, card in placed:
        for score in card.scores:
            single = score_columns([(at, place, msgspec.structs.replace(card, scores=(score,)))])
            for name, values in single.items():
                wanted[name] += values
            assert [len(values) for values in single.values()] == [1] * len(single)
            assert (single["value"], single["src_offset"], single["src_partition"]) == (
                [score.value],
                [place],
                [at],
            )
            assert (single["status"], single["verdict"]) == ([score.status], [card.verdict])
            assert "\ud800" not in "".join(str(values) for values in single.values())
    found = rows_of(placed).get("scores", score_columns([]))
    assert found == wanted
    for values in found.values():
        assert len(values) == sum(len(card.scores) for card in cards)
