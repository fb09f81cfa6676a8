"""Scorers that raise are counted, by scorer and deployment, whatever the batches are; the counts survive."""

from hypothesis import given
from hypothesis import strategies as st

from detectors.records import Interaction, Score
from detectors.stages import Delivery
from detectors.stages.score import ScoreStage


class Sour:
    """Raises for the texts that say so."""

    direction, version = "higher", "1"

    def __init__(self, name: str) -> None:
        self.name = name

    def score(self, features):
        if self.name in features.interaction.response:
            raise ValueError("what a user wrote")
        return Score(name=self.name, value=0.5)


def deliver(number: int, deployment: str, response: str) -> Delivery:
    record = Interaction(
        deployment=deployment, interaction_id=str(number), raw_id="", release="1", event_time_ms=number,
        received_at_ms=10**12, prompt="a", response=response,
    )  # fmt: skip
    return Delivery(0, number, record)


@given(
    st.lists(st.tuples(st.sampled_from("de"), st.sampled_from(["fine", "sour", "bitter", "sour bitter"]))),
    st.integers(1, 7),
)
def test_errors_are_counted_by_scorer_and_deployment(rows, size):
    stage = ScoreStage([Sour("sour"), Sour("bitter")])
    batch = [deliver(number, *row) for number, row in enumerate(rows)]
    stored: dict[str, bytes | None] = {}
    state = stage.restore(0, {})
    for start in range(0, len(batch), size):
        state, _ = stage.step(state, batch[start : start + size])
        stored |= stage.changes(state)
    expected: dict[str, dict[str, int]] = {}
    for deployment, response in rows:
        for name in set(response.split()) - {"fine"}:
            of_kind = expected.setdefault(f"score_error_{name}", {})
            of_kind[deployment] = of_kind.get(deployment, 0) + 1
    assert state.counts == expected
    assert stage.restore(0, stored).counts == expected


def test_a_scorer_without_errors_costs_no_state():
    stage = ScoreStage([Sour("sour")])
    state, _ = stage.step(stage.restore(0, {}), [deliver(1, "d", "fine")])
    assert "counts" not in stage.changes(state)
