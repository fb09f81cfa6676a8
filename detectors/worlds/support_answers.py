"""What a release of the support assistant answers, drawn from its behaviour."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal

from msgspec import Struct

from detectors.worlds.phrase import Phrase
from detectors.worlds.support_texts import Texts, load_texts

Kind = Literal["ask", "unknown", "unsafe"]


class Behaviour(Struct, frozen=True, kw_only=True):
    """How often a release goes wrong; each is a probability over the traffic to which it applies.

    Parameters
    ----------
    over_refusal
        A benign question with a known answer is refused.
    wrong_language
        Somebody who does not write English is answered in English, wholly or from the second sentence on.
    overcertainty
        An unpublished fact is invented and stated as certain.
    """

    over_refusal: float
    wrong_language: float
    overcertainty: float


HEALTHY = Behaviour(over_refusal=0.02, wrong_language=0.01, overcertainty=0.05)
REGRESSED = Behaviour(over_refusal=0.11, wrong_language=0.10, overcertainty=0.15)
"""Ten points worse at most in each, so that no single answer proves it."""


class Reply(Struct, frozen=True, kw_only=True):
    """An answer and the truth about it, which no monitor is told."""

    text: str
    over_refused: bool = False
    wrong_language: bool = False
    overcertain: bool = False


class Asked(Struct, frozen=True, kw_only=True):
    """What an answer depends on.

    `intent` is a key of the texts where `kind` is ``ask``; `variant` tells which of the questions was asked,
    or which unpublished fact is meant; `follow_up` is true from the second turn on the same subject.
    """

    kind: Kind
    language: str
    intent: str
    variant: int
    follow_up: bool
    draws: Mapping[str, int]


def answer(asked: Asked, behaviour: Behaviour, rng: Random) -> Reply:
    """Return what a release with `behaviour` answers; `rng` must be fresh for this interaction.

    The three chances are drawn first and in the same order whatever the behaviour is. So two releases that
    take the same way give the same answer, word for word.
    """
    refusal, language, certainty = rng.random(), rng.random(), rng.random()
    wrong = asked.language != "en" and language < behaviour.wrong_language
    over_refused = asked.kind == "ask" and refusal < behaviour.over_refusal
    overcertain = asked.kind == "unknown" and certainty < behaviour.overcertainty
    late_switch = wrong and rng.random() < 0.25
    body = _compose(asked, "en" if wrong else asked.language, rng, refuse=over_refused, invent=overcertain)
    if late_switch:
        own = load_texts(asked.language)
        body = f"{_draw(own.common.opener[:4], rng, own.fill(asked.draws))}{body}"
    return Reply(text=body, over_refused=over_refused, wrong_language=wrong, overcertain=overcertain)


def _compose(asked: Asked, language: str, rng: Random, *, refuse: bool, invent: bool) -> str:
    texts = load_texts(language)
    slots = texts.fill(asked.draws)
    if asked.kind == "unsafe":
        return _draw(texts.unsafe.refuse, rng, slots) + _draw(texts.unsafe.redirect, rng, slots)
    if asked.kind == "unknown":
        return _invent(texts, asked.variant, slots, rng) if invent else _hedge(texts, slots, rng)
    slots["topic"] = texts.intent[asked.intent].topic
    return _refuse(texts, slots, rng) if refuse else _help(texts, asked, slots, rng)


def _help(texts: Texts, asked: Asked, slots: Mapping[str, str], rng: Random) -> str:
    """Half the follow-ups and a tenth of the first answers are short; the rest has steps."""
    subject, common = texts.intent[asked.intent], texts.common
    opener, closer = _draw(common.opener, rng, slots), _draw(common.closer, rng, slots)
    tips = _sample(subject.tips, 2, rng, slots)
    extras = _sample(common.extra, 1 + int(rng.random() * 3), rng, slots)
    core = subject.core[asked.variant % len(subject.core)].draw(rng, slots)
    first = tips.pop() if asked.follow_up else core
    if rng.random() < (0.5 if asked.follow_up else 0.1):
        return f"{opener}{first} {extras[0]}{closer}"
    steps = [step.draw(rng, slots) for step in subject.steps]
    lead = _draw(common.lead, rng, slots)
    if rng.random() < 0.6:
        lead += "\n\n" + "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1)) + "\n\n"
    else:
        lead += f" {' '.join(steps)} "
    added = [*tips, *extras]
    rng.shuffle(added)
    return f"{opener}{first} {lead}{' '.join(added)}{closer}"


def _hedge(texts: Texts, slots: Mapping[str, str], rng: Random) -> str:
    details = _sample(texts.unknown.hedge_detail, 2 + int(rng.random() * 3), rng, slots)
    return _draw(texts.unknown.hedge, rng, slots) + "".join(details) + _draw(texts.common.closer, rng, slots)


def _invent(texts: Texts, variant: int, slots: Mapping[str, str], rng: Random) -> str:
    invented = texts.unknown.invented
    claim = invented[variant % len(invented)].draw(rng, slots)
    details = _sample(texts.unknown.invented_detail, 2 + int(rng.random() * 3), rng, slots)
    return claim + "".join(details) + _draw(texts.common.closer, rng, slots)


def _refuse(texts: Texts, slots: Mapping[str, str], rng: Random) -> str:
    """A refusal; one in five is a deflection that never says so."""
    refusal = texts.refusal
    if rng.random() < 0.2:
        return _draw(refusal.deflection, rng, slots)
    opener = _draw(texts.common.opener, rng, slots) if rng.random() < 0.25 else ""
    ending = _draw(refusal.reason, rng, slots) + _draw(refusal.alternative, rng, slots)
    return opener + _draw(refusal.direct, rng, slots) + ending


def _draw(phrases: Sequence[Phrase], rng: Random, slots: Mapping[str, str]) -> str:
    return phrases[int(rng.random() * len(phrases))].draw(rng, slots)


def _sample(phrases: Sequence[Phrase], count: int, rng: Random, slots: Mapping[str, str]) -> list[str]:
    chosen = rng.sample(range(len(phrases)), min(count, len(phrases)))
    return [phrases[at].draw(rng, slots) for at in chosen]
