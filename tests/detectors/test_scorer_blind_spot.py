"""blind_spot: 0 or 1, at the threshold, neutral, and a stream of its mean sees a new language arrive."""

import pytest

from detectors.drift.betting_sr import BettingSR
from detectors.features import Features
from detectors.scorers import SCORERS

BLIND = SCORERS.build("blind_spot", {})
NOVELTY = SCORERS.build("novelty", {})


def blind(prompt, part=BLIND):
    found = part.score(Features.of(prompt=prompt, response="An answer."))
    return None if found is None else found.value


def test_it_is_the_novelty_cut_at_the_threshold():
    half = "blorf snarkle where invoice"
    assert NOVELTY.score(Features.of(prompt=half, response="")).value == 0.5
    assert blind(half) == 1.0
    assert blind("blorf the invoice where") == 0.0
    assert blind("blorf the invoice where", SCORERS.build("blind_spot", {"threshold": 0.25})) == 1.0
    assert blind("12 345 ?") is None
    assert BLIND.direction == "neutral"


def test_a_score_is_as_sure_as_the_prompt_is_long():
    assert BLIND.score(Features.of(prompt="blorf snarkle", response="")).confidence == 0.2


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, float("nan")])
def test_an_impossible_threshold_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        SCORERS.build("blind_spot", {"threshold": threshold})


def test_a_stream_of_it_sees_a_new_language_arrive():
    english, german = "Where can I find the invoice of May?", "Wo finde ich bitte meine letzte Rechnung?"
    watch = BettingSR(mean_low=0.01, mean_high=0.02)
    for i in range(600):
        watch.update(blind(german if i % 100 == 0 else english))
    assert not watch.drift_detected
    for i in range(400):
        watch.update(blind(german if i % 10 == 0 else english))
    assert watch.drift_detected
    assert watch.side == "up"
