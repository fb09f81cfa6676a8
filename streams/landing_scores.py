"""Scores as rows of the store: by column, since they are a dozen times as many as anything else."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from typing import Any

from detectors.records import Score, Scorecard
from streams.landing_cells import json_text, text, time_ms


def score_columns(cards: Sequence[tuple[int, int, Scorecard]]) -> dict[str, list[Any]]:
    """Return the columns of table ``scores``: one row per score, in the order of cards and scores.

    Parameters
    ----------
    cards
        Partition, place and scorecard.

    Examples
    --------
    >>> card = Scorecard(deployment="d", interaction_id="i", release="r", event_time_ms=5, received_at_ms=6,
    ...     unit="u", scores=(Score(name="refusal", value=0.5), Score(name="length", value=0.1)))
    >>> columns = score_columns([(2, 40, card)])
    >>> columns["metric"], columns["src_offset"]
    (['refusal', 'length'], [40, 40])
    """
    scores = [score for _, _, card in cards for score in card.scores]
    counts = [len(card.scores) for _, _, card in cards]

    def of_card(values: Iterable[Any]) -> list[Any]:
        return list(chain.from_iterable(map(repeat, values, counts)))

    def of_card_texts(read: Callable[[Scorecard], str]) -> list[str]:
        return of_card(_texts([read(card) for _, _, card in cards]))

    return {
        "deployment": of_card_texts(lambda card: card.deployment),
        "release": of_card_texts(lambda card: card.release),
        "interaction_id": of_card_texts(lambda card: card.interaction_id),
        "event_time": of_card(time_ms(card.event_time_ms) for _, _, card in cards),
        "received_at": of_card(time_ms(card.received_at_ms) for _, _, card in cards),
        "unit": of_card_texts(lambda card: card.unit),
        "verdict": of_card(card.verdict for _, _, card in cards),
        "policy_version": of_card_texts(lambda card: card.policy_version),
        **_own_columns(scores),
        "arm": of_card_texts(lambda card: card.arm.name if card.arm else ""),
        "src_partition": of_card(partition for partition, _, _ in cards),
        "src_offset": of_card(place for _, place, _ in cards),
    }


def _own_columns(scores: Sequence[Score]) -> dict[str, list[Any]]:
    return {
        "metric": _texts([score.name for score in scores]),
        "status": [score.status for score in scores],
        "value": [score.value for score in scores],
        "direction": [score.direction for score in scores],
        "confidence": [score.confidence for score in scores],
        "label": _texts([score.label for score in scores]),
        "flags": [[text(flag) for flag in score.flags] for score in scores],
        "spans": [json_text(score.spans) if score.spans else "[]" for score in scores],
        "reason": _texts([score.reason for score in scores]),
        "version": _texts([score.version for score in scores]),
    }


def _texts(values: list[str]) -> list[str]:
    """Return `values` without lone surrogates; one look at them all is enough where all are ASCII."""
    return values if "".join(values).isascii() else [text(value) for value in values]
