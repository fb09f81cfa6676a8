"""Traffic of an imaginary customer-support assistant, in the form in which a monitor's door takes it."""

import heapq
from collections.abc import Callable, Iterator
from itertools import accumulate
from random import Random
from typing import Any

import msgspec
from msgspec import Struct

from detectors.worlds.phrase import Phrase
from detectors.worlds.support_answers import Asked, Behaviour, Kind, Reply, answer
from detectors.worlds.support_texts import NUMBER_SLOTS, Texts, load_texts

UNKNOWN_SHARE = 0.25
UNSAFE_SHARE = 0.05
_TURNS = (0.65, 0.90)
"""Up to which uniform draw a conversation has one turn, two turns; above, three."""
_LOCALES = (("en", "en-GB", 0.80), ("es", "es-ES", 0.88), ("fr", "fr-FR", 0.94), ("de", "de-DE", 1.0))
_CHANNELS = ("web", "web", "mobile", "email")
_SYSTEM = (
    "You are the support assistant of Corvane. Answer in the user's language. Say so if you do not know."
)
_MODEL = "corvane-assist"


class Question(Struct, frozen=True, kw_only=True):
    """What a user sends in one turn; it does not depend on the release that answers."""

    conversation: str
    turn: int
    final: bool
    user: str
    locale: str
    channel: str
    event_time_ms: int
    prompt: str
    asked: Asked
    annotations: dict[str, Any]

    @property
    def interaction(self) -> str:
        """The client's id of this exchange."""
        return f"{self.conversation}-{self.turn}"


class Serving(Struct, frozen=True, kw_only=True):
    """Which release answers and how; `share` is the router's share of `arm`, where there are arms."""

    release: str
    behaviour: Behaviour
    arm: str = ""
    share: float | None = None


class SupportWorld:
    """Seeded support traffic: conversations of one to three turns, in four languages.

    About a quarter of the turns ask for facts that nobody has published, and one in twenty is unsafe.

    Parameters
    ----------
    seed
        Everything drawn follows from it.
    start_ms
        Event time of the beginning, in Unix milliseconds.
    rate_per_s
        New conversations a second of event time, above 0; arrivals are Poisson.
    users
        How many people write; each keeps a language and a plan.
    deployment
        The outer key of every submission.

    Examples
    --------
    >>> from detectors.worlds.support_answers import HEALTHY
    >>> world = SupportWorld(seed=1, start_ms=0, rate_per_s=2.0)
    >>> first = next(world.submissions(lambda question: Serving(release="2.3", behaviour=HEALTHY)))
    >>> first["deployment"], first["release"], first["id"]
    ('support', '2.3', 'c1-000000-1')
    """

    def __init__(
        self, *, seed: int, start_ms: int, rate_per_s: float, users: int = 2_000, deployment: str = "support"
    ) -> None:
        if rate_per_s <= 0 or users < 1:
            raise ValueError("rate_per_s must be above 0 and users at least 1")
        self.seed = seed
        self.start_ms = start_ms
        self.rate_per_s = rate_per_s
        self.users = users
        self.deployment = deployment

    def conversation(self, number: int, start_ms: int) -> list[Question]:
        """Return the turns of conversation `number`, the first at `start_ms`, whoever answers them."""
        rng = Random(f"{self.seed}/conversation/{number}")
        user = min(int(self.users * rng.random() ** 2), self.users - 1)
        language, locale = self._locale_of(user)
        turns = _turn_count(rng.random())
        texts = load_texts(language)
        draws = {name: rng.getrandbits(30) for name in (*texts.slots, *NUMBER_SLOTS)}
        channel = _CHANNELS[int(rng.random() * len(_CHANNELS))]
        at_ms, asked, out = start_ms, None, []
        for turn in range(1, turns + 1):
            asked, prompt = _next_prompt(asked, language, draws, rng)
            out.append(
                Question(
                    conversation=f"c{self.seed}-{number:06d}",
                    turn=turn,
                    final=turn == turns,
                    user=f"user-{user}",
                    locale=locale,
                    channel=channel,
                    event_time_ms=at_ms,
                    prompt=prompt,
                    asked=asked,
                    annotations=_annotate(asked, rng),
                )
            )
            at_ms += 15_000 + int(rng.random() * 45_000)
        return out

    def questions(self) -> Iterator[Question]:
        """Yield every turn of every conversation for ever, in the order of event time."""
        arrivals = Random(f"{self.seed}/arrivals")
        waiting: list[tuple[int, int, int, Question]] = []
        at_s, number = 0.0, 0
        while True:
            at_s += arrivals.expovariate(self.rate_per_s)
            start_ms = self.start_ms + int(at_s * 1000)
            while waiting and waiting[0][0] <= start_ms:
                yield heapq.heappop(waiting)[3]
            for question in self.conversation(number, start_ms):
                heapq.heappush(waiting, (question.event_time_ms, number, question.turn, question))
            number += 1

    def answer(self, question: Question, behaviour: Behaviour) -> Reply:
        """Return what a release with `behaviour` answers to `question`, with the truth about it."""
        return answer(question.asked, behaviour, Random(f"{self.seed}/answer/{question.interaction}"))

    def submissions(self, route: Callable[[Question], Serving]) -> Iterator[dict[str, Any]]:
        """Yield what an application sends to the door, for ever; `route` is asked at the moment of sending.

        Whom `route` chooses changes the answers and the later histories, and nothing else.
        """
        shown: dict[str, list[dict[str, str]]] = {}
        for question in self.questions():
            serving = route(question)
            reply = self.answer(question, serving.behaviour)
            history = shown.setdefault(question.conversation, [])
            yield self._submission(question, serving, reply, list(history))
            history += [{"role": "user", "text": question.prompt}, {"role": "assistant", "text": reply.text}]
            if question.final:
                del shown[question.conversation]

    def _locale_of(self, user: int) -> tuple[str, str]:
        drawn = Random(f"{self.seed}/user/{user}").random()
        return next((language, locale) for language, locale, upto in _LOCALES if drawn < upto)

    def _submission(
        self, question: Question, serving: Serving, reply: Reply, history: list[dict[str, str]]
    ) -> dict[str, Any]:
        timing = Random(f"{self.seed}/timing/{question.interaction}")
        record: dict[str, Any] = {
            "deployment": self.deployment,
            "id": question.interaction,
            "release": serving.release,
            "event_time": question.event_time_ms,
            "prompt": question.prompt,
            "response": reply.text,
            "system": _SYSTEM,
            "history": history,
            "user": question.user,
            "conversation": question.conversation,
            "final": question.final,
            "model": _MODEL,
            "finish_reason": "stop",
            "input_tokens": (len(_SYSTEM) + len(question.prompt)) // 4
            + sum(len(t["text"]) for t in history) // 4,
            "output_tokens": len(reply.text) // 4,
            "latency_s": round(0.4 + timing.lognormvariate(0.0, 0.4) * (0.3 + len(reply.text) / 900), 3),
            "attributes": {"locale": question.locale, "channel": question.channel},
            "annotations": question.annotations,
        }
        if serving.arm:
            record["arm"] = {"name": serving.arm, "share": serving.share, "unit": "conversation"}
        return record


def _turn_count(drawn: float) -> int:
    return 1 + sum(drawn >= limit for limit in _TURNS)


def _next_prompt(
    before: Asked | None, language: str, draws: dict[str, int], rng: Random
) -> tuple[Asked, str]:
    """Draw a first question, a follow-up (three in four), or a change of subject."""
    texts = load_texts(language)
    if before is not None and before.kind != "unsafe" and rng.random() < 0.75:
        follow = texts.unknown.follow if before.kind == "unknown" else texts.intent[before.intent].follow
        phrase = follow[int(rng.random() * len(follow))]
        asked = msgspec.structs.replace(before, follow_up=True)
        return asked, _dress(phrase, texts, draws, rng, greet=False)
    kind, intent = _kind(rng.random()), _intent(texts, rng.random())
    asks = {"unsafe": texts.unsafe.ask, "unknown": texts.unknown.ask, "ask": texts.intent[intent].ask}[kind]
    variant = int(rng.random() * len(asks))
    asked = Asked(kind=kind, language=language, intent=intent, variant=variant, follow_up=False, draws=draws)
    return asked, _dress(asks[variant], texts, draws, rng, greet=before is None)


def _kind(drawn: float) -> Kind:
    if drawn < UNSAFE_SHARE:
        return "unsafe"
    return "unknown" if drawn < UNSAFE_SHARE + UNKNOWN_SHARE else "ask"


def _intent(texts: Texts, drawn: float) -> str:
    limits = list(accumulate(intent.weight for intent in texts.intent.values()))
    return next(name for name, limit in zip(texts.intent, limits, strict=True) if drawn * limits[-1] < limit)


def _dress(core: Phrase, texts: Texts, draws: dict[str, int], rng: Random, *, greet: bool) -> str:
    """Put a greeting before the question and what users add after it; some write without capitals."""
    slots, common = texts.fill(draws), texts.common
    text = core.draw(rng, slots)
    if greet:
        text = common.greeting[int(rng.random() * len(common.greeting))].draw(rng, slots) + text
    added = rng.sample(range(len(common.context)), int(rng.random() * 3))
    text = " ".join([text, *(common.context[at].draw(rng, slots) for at in added)])
    text += common.thanks[int(rng.random() * len(common.thanks))].draw(rng, slots)
    return text if rng.random() < 0.15 else text[:1].upper() + text[1:]


def _annotate(asked: Asked, rng: Random) -> dict[str, Any]:
    """Return what the product itself knows: most unpublished facts and unsafe requests are marked."""
    known = rng.random() < 0.85
    if asked.kind == "unknown":
        return {"fact_known": False} if known else {}
    if asked.kind == "unsafe":
        return {"unsafe_request": True} if known else {}
    return {}
