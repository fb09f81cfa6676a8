"""The load of the Kafka chaos: many short, distinct submissions of several deployments, drawn from a seed.

What is sent, in which order and at which event time follows from the seed alone. Two deployments get a canary
that refuses, so that there are signals, decisions and acts. Some submissions are sent twice, and some are no
records at all: a duplicate must count once, and every bad one must leave exactly one dead letter.
"""

import random
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

import msgspec
from msgspec import Struct

from detectors.worlds import Behaviour, SupportWorld
from plumbline.keys import submission_key

START_MS = 1_760_000_000_000
STABLE, CANARY = "2.3", "2.4"
SHARE = 0.25
DEPLOYMENTS = ("support", "support", "support", "support", "sales", "sales", "docs", "search")
"""Drawn with equal chances; the first two names get the bad canary."""
REGRESSED = frozenset({"support", "sales"})
CLOSING = "closing"
"""The deployment whose only records carry event time past everything else, so that all buckets close."""

_LETTERS = str.maketrans("0123456789", "bcdfghjklm")
"""Makes a word of a number: one of seven digits may be a phone's, and so costs the door twice as much."""

Kind = Literal["interaction", "release", "feedback", "label"]


class Message(Struct, frozen=True):
    """One submission as a producer sends it; `bad` says that no door admits it."""

    kind: Kind
    key: str
    payload: bytes
    event_time_ms: int
    bad: bool = False
    again: bool = False


class Load(Struct, frozen=True, kw_only=True):
    """What is sent: `interactions` distinct ones, at `rate_per_s` of event time."""

    interactions: int
    seed: int = 5
    rate_per_s: float = 60.0
    start_ms: int = START_MS
    closing_s: float = 3_600.0

    @property
    def canary_from(self) -> int:
        """From which interaction on there is a canary."""
        return self.interactions // 4

    def event_time_ms(self, number: int) -> int:
        """Return the event time of interaction `number`."""
        return self.start_ms + round(number * 1000 / self.rate_per_s)

    def messages(self) -> Iterator[Message]:
        """Yield everything but the closing, in the order of event time."""
        rng = random.Random(f"{self.seed}/load")
        for name in dict.fromkeys(DEPLOYMENTS):
            yield _release(name, STABLE, "stable", self.start_ms)
        for number in range(self.interactions):
            if number == self.canary_from:
                at_ms = self.event_time_ms(number)
                yield from (_release(name, CANARY, "candidate", at_ms) for name in sorted(REGRESSED))
            yield from self._around(number, rng)

    def closing(self, partitions: int) -> Iterator[Message]:
        """Yield late records for every partition: each bucket that holds a message is then complete."""
        at_ms = self.event_time_ms(self.interactions) + round(self.closing_s * 1000)
        yield _release(CLOSING, STABLE, "stable", self.start_ms)
        for number in range(16 * partitions):
            yield _interaction(
                {
                    "deployment": CLOSING,
                    "id": f"closing-{self.seed}-{number}",
                    "release": STABLE,
                    "event_time": at_ms,
                    "prompt": "Is it over?",
                    "response": "Yes.",
                    "user": f"closer-{number}",
                }
            )

    def _around(self, number: int, rng: random.Random) -> Iterator[Message]:
        """Yield interaction `number` and what goes with it."""
        message = self._interaction(number, rng)
        yield message
        drawn = rng.random()
        if drawn < 0.004:
            yield msgspec.structs.replace(message, again=True)
        elif drawn < 0.006:
            yield _bad(message, rng)
        elif drawn < 0.016:
            yield _opinion("feedback", message, number, {"kind": "thumb", "value": float(rng.random() < 0.7)})
        elif drawn < 0.020:
            yield _opinion("label", message, number, {"metric": "refusal", "value": 1.0, "rater": "r1"})

    def _interaction(self, number: int, rng: random.Random) -> Message:
        deployment = DEPLOYMENTS[int(rng.random() * len(DEPLOYMENTS))]
        conversation = int(rng.random() * 1_000_000)
        routed = number >= self.canary_from and deployment in REGRESSED
        canary = routed and random.Random(f"{self.seed}/{conversation}").random() < SHARE
        prompt, answer, refusal = _texts(self.seed)[int(rng.random() * len(_texts(self.seed)))]
        refuses = rng.random() < (0.5 if canary else 0.03)
        record: dict[str, Any] = {
            "deployment": deployment,
            "id": f"{self.seed}-{number}",
            "release": CANARY if canary else STABLE,
            "event_time": self.event_time_ms(number),
            "prompt": f"{prompt} ({str(number).translate(_LETTERS)})",
            "response": refusal if refuses else answer,
            "user": f"user-{int(rng.random() * 5_000)}",
            "conversation": f"c{conversation}",
            "attributes": {"locale": ("en-GB", "de-DE", "fr-FR")[number % 3], "channel": "web"},
        }
        if routed:
            share = SHARE if canary else 1.0 - SHARE
            record["arm"] = {"name": "canary" if canary else "stable", "share": share, "unit": "conversation"}
        return _interaction(record)


def _interaction(record: dict[str, Any]) -> Message:
    key = submission_key("interaction", record)
    return Message("interaction", key, msgspec.json.encode(record), record["event_time"])


def _release(deployment: str, release: str, role: str, at_ms: int) -> Message:
    body: dict[str, Any] = {"deployment": deployment, "release": release, "role": role, "started_at": at_ms}
    if role == "candidate":
        body["share"] = SHARE
    return Message("release", deployment, msgspec.json.encode(body), at_ms)


def _bad(message: Message, rng: random.Random) -> Message:
    """Return `message` broken: cut off, of no release, or of an impossible number."""
    body = msgspec.json.decode(message.payload)
    way = int(rng.random() * 3)
    if way == 0:
        payload = message.payload[: len(message.payload) // 2]
    else:
        broken: dict[str, Any] = {"release": "no such name\n"} if way == 1 else {"latency_s": -1}
        body |= {"id": f"bad-{body['id']}", **broken}
        payload = msgspec.json.encode(body)
    return msgspec.structs.replace(message, payload=payload, bad=True)


def _opinion(kind: Kind, about: Message, number: int, more: dict[str, Any]) -> Message:
    body = msgspec.json.decode(about.payload)
    opinion = {
        "deployment": body["deployment"],
        "interaction_id": body["id"],
        "id": f"{kind}-{number}",
        "event_time": about.event_time_ms,
        **more,
    }
    return Message(kind, body["deployment"], msgspec.json.encode(opinion), about.event_time_ms)


@cache
def _texts(seed: int) -> tuple[tuple[str, str, str], ...]:
    """Return prompts, each with a good answer and a refusal, all short."""
    world = SupportWorld(seed=seed, start_ms=0, rate_per_s=1.0)
    good = Behaviour(over_refusal=0.0, wrong_language=0.0, overcertainty=0.0)
    bad = Behaviour(over_refusal=1.0, wrong_language=0.0, overcertainty=0.0)
    found = []
    for number in range(1_000):
        question = world.conversation(number, 0)[0]
        if question.asked.kind == "ask":
            answer, refusal = (world.answer(question, how).text[:200] for how in (good, bad))
            found.append((question.prompt[:120], answer, refusal))
    return tuple(found)
