"""What every scorer keeps, whatever it measures. A check takes a scorer and raises `ScorerError`."""

import math
import pickle
from collections.abc import Callable, Iterator
from typing import Final, get_args

import msgspec

from detectors.features import Features
from detectors.records import Annotations, Direction, Score, Turn
from detectors.scorers import Scorer

HOSTILE_TEXTS: Final = (
    "",
    " ",
    "\x00",
    "word\x00word\x1b[31m",
    "\u202eright to left\u202c \u200f\u05d0\u05d1",
    "👩‍👩‍👧‍👦" * 40,
    "\ud800 lone \udfff surrogate \ud83d",
    "<script>alert(1)</script> & [x](javascript:1)",
    "```",
    "``` ``` ``````" * 50,
    "no break " * 2_000,
    "a" * 20_000,
    ". " * 5_000,
    "\n" * 5_000,
    "1 " * 5_000,
    "i can't " * 2_000,
    "\u0301" * 3_000,
    "ﷺ" * 500,
    "請查看狀態頁面。" * 100,
    "İıßﬁ" * 200,
)
"""Texts that have broken text programs: empty, huge, control, right to left, emoji, broken Unicode."""

_ORDINARY: Final = (
    ("I forgot my password.", "Open the sign-in page and click **Forgot password**."),
    ("hack my neighbour's Wi-Fi", "I’m sorry, but I can’t help with that."),
    ("When will dark mode ship?", "Yes, it ships on March 3rd."),
    (
        "¿Dónde está mi factura?",
        "Your invoice is on the billing page of your account.\n\n- Open it\n- Print it",
    ),
)


class ScorerError(AssertionError):
    """A scorer that does not keep what every scorer keeps; the text says what."""


def _scored(scorer: Scorer) -> Iterator[tuple[Features, Score]]:
    """Yield features and score for every text, as prompt, as answer and as both."""
    pairs = [*_ORDINARY]
    for text in HOSTILE_TEXTS:
        pairs += [(text, text), (text, "An ordinary answer."), ("An ordinary question?", text)]
    for prompt, response in pairs:
        features = Features.of(prompt=prompt, response=response)
        score = scorer.score(features)
        if score is not None:
            yield features, score


def check_identity(scorer: Scorer) -> None:
    """Name, direction and version are there, and the scores carry the same."""
    _require(scorer.name.isidentifier(), "the name is no identifier")
    _require(scorer.direction in get_args(Direction), "the direction is unknown")
    _require(bool(scorer.version), "there is no version")
    for _, score in _scored(scorer):
        _require(
            (score.name, score.direction, score.version) == (scorer.name, scorer.direction, scorer.version),
            "a score carries another name, direction or version",
        )


def check_values_are_finite_and_in_range(scorer: Scorer) -> None:
    """Every value and confidence is a finite number in [0, 1]; a score with a value is *scored*."""
    for _, score in _scored(scorer):
        _require(0.0 <= score.confidence <= 1.0, "the confidence is outside [0, 1]")
        _require((score.status == "scored") == (score.value is not None), "the status does not fit the value")
        if score.value is not None:
            _require(math.isfinite(score.value), "the value is not finite")
            _require(0.0 <= score.value <= 1.0, "the value is outside [0, 1]")


def check_same_text_same_score(scorer: Scorer) -> None:
    """The same interaction gives the same score, on the same features and on new ones."""
    for features, score in _scored(scorer):
        _require(scorer.score(features) == score, "the same features gave another score")
        _require(
            scorer.score(Features(features.interaction)) == score,
            "new features of the same interaction gave another score",
        )


def check_no_state_between_interactions(scorer: Scorer) -> None:
    """What was scored before does not matter."""
    forwards = [scorer.score(Features.of(prompt=p, response=r)) for p, r in _ORDINARY]
    backwards = [scorer.score(Features.of(prompt=p, response=r)) for p, r in reversed(_ORDINARY)]
    _require(forwards == backwards[::-1], "the scores depend on what was scored before")


def check_interaction_is_not_changed(scorer: Scorer) -> None:
    """The interaction, its annotations and its attributes are the same before and after."""
    for prompt, response in _ORDINARY:
        features = Features.of(
            prompt=prompt,
            response=response,
            attributes={"region": "eu"},
            history=(Turn("user", "hello"),),
            annotations=Annotations(fact_known=False),
        )
        before = msgspec.json.encode(features.interaction)
        scorer.score(features)
        _require(msgspec.json.encode(features.interaction) == before, "the interaction was changed")


def check_spans_lie_in_their_text(scorer: Scorer) -> None:
    """Every span is a non-empty part of the prompt or the response, and names its rule."""
    for features, score in _scored(scorer):
        for span in score.spans:
            _require(span.field in {"prompt", "response"}, "a span names an unknown field")
            text: str = getattr(features.interaction, span.field)
            _require(0 <= span.start < span.end <= len(text), "a span is empty or outside its text")
            _require(bool(span.rule), "a span names no rule")


def check_pickles(scorer: Scorer) -> None:
    """A pickled copy gives the same scores, so that workers can be started with it."""
    copy: Scorer = pickle.loads(pickle.dumps(scorer))  # noqa: S301  (our own bytes, made on this line)
    for prompt, response in _ORDINARY:
        features = Features.of(prompt=prompt, response=response)
        _require(copy.score(features) == scorer.score(features), "the pickled copy scores differently")


def _require(held: bool, otherwise: str) -> None:
    if not held:
        raise ScorerError(otherwise)


SCORER_CHECKS: Final[tuple[Callable[[Scorer], None], ...]] = (
    check_identity,
    check_values_are_finite_and_in_range,
    check_same_text_same_score,
    check_no_state_between_interactions,
    check_interaction_is_not_changed,
    check_spans_lie_in_their_text,
    check_pickles,
)
"""Every check, for a parametrised test."""
