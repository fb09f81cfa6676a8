"""What every notifier must do, whoever it talks to."""

import asyncio
import logging
import traceback
import unicodedata
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from detectors.records import Decision
from streams.checks import FakeReceiver, require, require_silence
from streams.notifiers import Notice, Notifier, Permanent, Retryable

HOSTILE: Final = "a\x00b\x1b[31m\r\n\u202ec<script>\U0001f600" + "x" * 100_000
BOUND_S: Final = 20.0

NotifierCheck = Callable[[type[Any], FakeReceiver], Awaitable[None]]


def sample_notice(text: str = "worse than stable", *, notice_id: str = "notice-1") -> Notice:
    """Return a notice whose every free text is `text`."""
    decision = Decision(
        decision_id="decision-1",
        deployment=text,
        release=text,
        cause="release",
        verbs=("page",),
        reason=text,
        rule=text,
        at_ms=1_700_000_000_000,
        summary=text,
        metric=text,
        segment=text,
        exemplars=(text,) * 20,
    )
    return Notice(notice_id=notice_id, decision=decision, transition="DECIDED", summary=text)


async def outcome_of(foreign: Awaitable[object], secret: str, *reprs: str) -> str:
    """Return ``accepted``, ``retryable`` or ``permanent``; any other end, or a secret told, is a failure."""
    try:
        async with asyncio.timeout(BOUND_S):
            await foreign
    except (Retryable, Permanent) as verdict:
        require_silence(
            secret, *reprs, str(verdict), repr(verdict), "".join(traceback.format_exception(verdict))
        )
        return "retryable" if isinstance(verdict, Retryable) else "permanent"
    require_silence(secret, *reprs)
    return "accepted"


async def check_status_table(part: type[Any], fake: FakeReceiver) -> None:
    """Every status of the contract ends in its verdict after one request; no redirect is followed."""
    for number, (status, verdict) in enumerate(fake.verdicts.items()):
        notifier: Notifier = part.example(url=fake.url, secret_file=fake.secret_file)
        before = len(fake.received)
        fake.fail(status, {"location": f"{fake.url}/elsewhere"} if 300 <= status < 400 else None)
        notice = sample_notice(notice_id=f"notice-{number}")
        found = await outcome_of(notifier.notify(notice), fake.secret, repr(notifier), str(notifier))
        require(found == verdict, f"status {status}: {found}, not {verdict}")
        require(len(fake.received) == before + 1, f"status {status}: not exactly one request")


async def check_retry_after(part: type[Any], fake: FakeReceiver) -> None:
    """The receiver's own wish is handed on."""
    for status in (429, 503):
        notifier: Notifier = part.example(url=fake.url, secret_file=fake.secret_file)
        fake.fail(status, {"retry-after": "7"})
        try:
            await notifier.notify(sample_notice())
        except Retryable as verdict:
            require(verdict.after_s == 7.0, f"status {status}: after_s is {verdict.after_s}")
        else:
            require(False, f"status {status}: accepted")


async def check_same_id_twice(part: type[Any], fake: FakeReceiver) -> None:
    """The same notice again is the same message: one effect at a receiver that drops known ids."""
    notifier: Notifier = part.example(url=fake.url, secret_file=fake.secret_file)
    fake.fail(500, applied=True)
    first = await outcome_of(notifier.notify(sample_notice()), fake.secret)
    second = await outcome_of(notifier.notify(sample_notice()), fake.secret)
    require((first, second) == ("retryable", "accepted"), f"verdicts: {first}, {second}")
    require(len(fake.effects) == 1, f"{len(fake.effects)} effects of one notice")


async def check_timeout(part: type[Any], fake: FakeReceiver) -> None:
    """A receiver that never answers is retryable, not a hang."""
    notifier: Notifier = part.example(url=fake.url, secret_file=fake.secret_file)
    fake.hang(True)
    try:
        found = await outcome_of(notifier.notify(sample_notice()), fake.secret)
    finally:
        fake.hang(False)
    require(found == "retryable", f"silence: {found}")


async def check_unreachable(part: type[Any], fake: FakeReceiver) -> None:
    """A receiver that is away is retryable."""
    fake.stop()
    notifier: Notifier = part.example(url=fake.url, secret_file=fake.secret_file)
    found = await outcome_of(notifier.notify(sample_notice()), fake.secret, repr(notifier))
    require(found == "retryable", f"nobody there: {found}")


async def check_hostile_text(part: type[Any], fake: FakeReceiver) -> None:
    """Text of any kind goes out bounded and without control characters, in messages and in log lines."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        notifier: Notifier = part.example(url=fake.url, secret_file=fake.secret_file)
        found = await outcome_of(notifier.notify(sample_notice(HOSTILE)), fake.secret)
    finally:
        logging.getLogger().removeHandler(handler)
    require(found == "accepted", f"hostile text: {found}")
    require(bool(lines or fake.bodies), "nothing was told")
    require_silence(fake.secret, *lines)
    texts = [*lines, *(text for body in fake.bodies for text in _strings(msgspec.json.decode(body)))]
    for text in texts:
        odd = [one for one in text if unicodedata.category(one)[0] == "C"]
        require(not odd, f"control characters went out: {odd[:3]!r}")
        require(len(text) < 4_000, "a text went out without a bound")


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in _strings(one)]
    return [text for one in value for text in _strings(one)] if isinstance(value, list) else []


LOCAL_CHECKS: Final[tuple[NotifierCheck, ...]] = (check_hostile_text,)
"""For parts that call nobody."""
NETWORK_CHECKS: Final[tuple[NotifierCheck, ...]] = (
    check_status_table,
    check_retry_after,
    check_same_id_twice,
    check_timeout,
    check_unreachable,
    check_hostile_text,
)
