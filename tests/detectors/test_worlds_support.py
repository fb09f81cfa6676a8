"""The support world: a pure function of its seed, true to its rates, and silent about the release."""

from collections import Counter
from itertools import islice
from math import log, sqrt
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.worlds import Behaviour, Question, Reply, Serving, SupportWorld
from detectors.worlds.phrase import Phrase
from detectors.worlds.support_answers import HEALTHY, REGRESSED
from detectors.worlds.support_texts import LANGUAGES, load_texts

N = 6_000
OLD = Serving(release="2.3", behaviour=HEALTHY)
NEW = Serving(release="2.4", behaviour=REGRESSED, arm="canary", share=0.2)


def world(seed: int = 7) -> SupportWorld:
    return SupportWorld(seed=seed, start_ms=1_700_000_000_000, rate_per_s=2.0)


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return list(islice(world().questions(), N))


@pytest.fixture(scope="module")
def replies(questions: list[Question]) -> dict[str, list[Reply]]:
    made = world()
    return {
        "old": [made.answer(question, HEALTHY) for question in questions],
        "new": [made.answer(question, REGRESSED) for question in questions],
    }


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    def first(seed: int) -> bytes:
        return msgspec.json.encode(list(islice(world(seed).submissions(lambda _: OLD), 300)))

    assert first(7) == first(7)
    assert first(7) != first(8)


def test_whom_the_router_chooses_changes_no_prompt_no_time_and_no_user() -> None:
    asked = ("id", "event_time", "prompt", "user", "conversation", "final", "attributes", "annotations")

    def prompts(routing_seed: int) -> list[list[object]]:
        rng = Random(routing_seed)
        route = world().submissions(lambda _: rng.choice([OLD, NEW]))
        return [[record[name] for name in asked] for record in islice(route, 400)]

    assert prompts(1) == prompts(2)


def test_an_answer_depends_on_its_own_release_only(questions: list[Question]) -> None:
    made = world()
    backwards = [made.answer(question, HEALTHY) for question in reversed(questions[:300])]
    assert backwards[::-1] == [made.answer(question, HEALTHY) for question in questions[:300]]


def test_event_times_never_go_back_and_conversations_end_once(questions: list[Question]) -> None:
    times = [question.event_time_ms for question in questions]
    assert times == sorted(times)
    turns: dict[str, int] = {}
    finals: Counter[str] = Counter()
    for question in questions:
        assert question.turn == turns.get(question.conversation, 0) + 1
        assert not finals[question.conversation]
        turns[question.conversation] = question.turn
        finals[question.conversation] += question.final
    assert {1, 2, 3} == set(turns.values())


def test_the_history_is_what_was_shown() -> None:
    shown: dict[str, list[str]] = {}
    for record in islice(world().submissions(lambda _: NEW), 500):
        assert [turn["text"] for turn in record["history"]] == shown.get(record["conversation"], [])
        shown.setdefault(record["conversation"], []).extend([record["prompt"], record["response"]])


def near(hits: int, n: int, p: float) -> bool:
    """Within four standard deviations of a binomial."""
    return abs(hits - n * p) <= 4 * sqrt(n * p * (1 - p)) + 1


@pytest.mark.parametrize(("name", "behaviour"), [("old", HEALTHY), ("new", REGRESSED)])
def test_each_behaviour_has_its_rate(
    questions: list[Question], replies: dict[str, list[Reply]], name: str, behaviour: Behaviour
) -> None:
    pairs = list(zip(questions, replies[name], strict=True))
    benign = [reply.over_refused for question, reply in pairs if question.asked.kind == "ask"]
    foreign = [reply.wrong_language for question, reply in pairs if question.asked.language != "en"]
    unknown = [reply.overcertain for question, reply in pairs if question.asked.kind == "unknown"]
    assert near(sum(benign), len(benign), behaviour.over_refusal)
    assert near(sum(foreign), len(foreign), behaviour.wrong_language)
    assert near(sum(unknown), len(unknown), behaviour.overcertainty)
    assert sum(reply.over_refused for reply in replies[name]) == sum(benign)
    assert sum(reply.wrong_language for reply in replies[name]) == sum(foreign)
    assert sum(reply.overcertain for reply in replies[name]) == sum(unknown)


def test_the_mix_is_as_promised(questions: list[Question]) -> None:
    kinds = Counter(question.asked.kind for question in questions)
    assert 0.2 < kinds["unknown"] / N < 0.3
    assert 0.03 < kinds["unsafe"] / N < 0.07
    english = sum(question.asked.language == "en" for question in questions)
    assert 0.74 < english / N < 0.86
    marked = [q.annotations.get("fact_known") is False for q in questions if q.asked.kind == "unknown"]
    assert near(sum(marked), len(marked), 0.85)


def test_a_user_keeps_a_language(questions: list[Question]) -> None:
    spoken: dict[str, set[str]] = {}
    for question in questions:
        spoken.setdefault(question.user, set()).add(question.locale)
    assert all(len(locales) == 1 for locales in spoken.values())


def test_texts_vary_and_have_a_natural_length(
    questions: list[Question], replies: dict[str, list[Reply]]
) -> None:
    answers = [reply.text for reply in replies["old"]]
    helped = [
        len(reply.text)
        for question, reply in zip(questions, replies["old"], strict=True)
        if question.asked.kind == "ask" and not reply.over_refused
    ]
    assert len(set(answers)) > 0.9 * N
    assert 110 < sum(len(question.prompt) for question in questions) / N < 170
    assert 380 < sum(map(len, answers)) / N < 1_100
    assert 450 < sum(helped) / len(helped) < 1_100


def test_a_release_changes_an_answer_only_where_it_behaves_worse(replies: dict[str, list[Reply]]) -> None:
    pairs = list(zip(replies["old"], replies["new"], strict=True))
    changed = [new for old, new in pairs if old.text != new.text]
    assert all(new.over_refused or new.wrong_language or new.overcertain for new in changed)
    assert 0 < len(changed) <= 0.10 * N


@pytest.mark.parametrize(("other", "limit"), [("old", 0.54), ("new", 0.60)])
def test_one_answer_does_not_tell_the_release(
    replies: dict[str, list[Reply]], other: str, limit: float
) -> None:
    """A naive Bayes over words, trained on half the answers, cannot tell who gave the others."""
    half = N // 2
    left, right = replies["old"][:half], replies[other][half:]
    train = [(r.text, 0) for r in left[: half // 2]] + [(r.text, 1) for r in right[: half // 2]]
    test = [(r.text, 0) for r in left[half // 2 :]] + [(r.text, 1) for r in right[half // 2 :]]
    assert auroc_of_words(train, test) <= limit


def auroc_of_words(train: list[tuple[str, int]], test: list[tuple[str, int]]) -> float:

    seen = (Counter[str](), Counter[str]())
    for text, label in train:
        seen[label].update(set(text.lower().split()))
    n = [sum(1 for _, label in train if label == side) for side in (0, 1)]

    def score(text: str) -> float:
        words = set(text.lower().split())
        return sum(log((seen[1][w] + 1) / (n[1] + 2)) - log((seen[0][w] + 1) / (n[0] + 2)) for w in words)

    scored = sorted((score(text), label) for text, label in test)
    ranks = sum(rank for rank, (_, label) in enumerate(scored, 1) if label)
    ones = sum(label for _, label in scored)
    return (ranks - ones * (ones + 1) / 2) / (ones * (len(scored) - ones))


def test_nothing_names_the_release() -> None:
    for record in islice(world().submissions(lambda _: NEW), 800):
        told = {name: value for name, value in record.items() if name not in ("release", "arm", "latency_s")}
        assert "2.4" not in msgspec.json.encode(told).decode()


def test_some_refusals_never_say_so(questions: list[Question]) -> None:
    refusing = Behaviour(over_refusal=1.0, wrong_language=0.0, overcertainty=0.0)
    made = world()
    texts = [
        made.answer(q, refusing).text for q in questions if q.asked.kind == "ask" and q.asked.language == "en"
    ]
    plain = ("can't", "can’t", "cannot", "unable", "not able", "decline", "won't", "not something")
    moralising = [text for text in texts if not any(word in text for word in plain)]
    assert 0.1 < len(moralising) / len(texts) < 0.3
    assert len(set(texts)) > 400


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_tells_the_same_things(language: str) -> None:
    texts, english = load_texts(language), load_texts("en")
    assert set(texts.intent) == set(english.intent)
    assert set(texts.slots) == set(english.slots)
    assert len(texts.unknown.ask) == len(texts.unknown.invented)


def test_a_world_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="rate_per_s"):
        SupportWorld(seed=1, start_ms=0, rate_per_s=0)


@pytest.mark.parametrize("pattern", ["[a|b", "a]", "{who", "x}", "{A}"])
def test_a_broken_phrase_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="do not match"):
        Phrase(pattern)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 5_000))
def test_a_conversation_is_complete_for_any_seed(seed: int, number: int) -> None:
    made = world(seed)
    turns = made.conversation(number, 1_000)
    assert turns == made.conversation(number, 1_000)
    assert [turn.final for turn in turns] == [False] * (len(turns) - 1) + [True]
    for turn in turns:
        for behaviour in (HEALTHY, REGRESSED):
            text = made.answer(turn, behaviour).text
            assert text.strip()
            assert not set("[]{}|") & set(text + turn.prompt)
            assert not any(slip in f"{text} {turn.prompt}" for slip in ("  ", " .", " ,", ".."))
