"""Checks that every notifier and rollback target must pass, and fake receivers that keep the real contracts.

A part joins by two class attributes of its own, with no list to edit: ``contract`` names the fake receiver it
talks to (``local``: it calls nobody), and ``example(url=..., secret_file=...)`` builds it for that receiver.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from detectors.registry import Registry

Verdict = Literal["accepted", "retryable", "permanent"]


class FakeReceiver(Protocol):
    """A server on loopback that keeps one published contract, fails on demand and remembers."""

    url: str
    secret: str
    secret_file: str
    verdicts: Mapping[int, Verdict]
    received: list[str]
    effects: list[str]
    bodies: list[bytes]
    shares: dict[str, dict[str, float]]

    def fail(self, status: int, headers: Mapping[str, str] | None = None, *, applied: bool = False) -> None:
        """Answer one more request with `status`; where `applied`, after its effect and not instead of it."""
        ...

    def hang(self, on: bool) -> None:
        """Answer nobody while `on`."""
        ...

    def stop(self) -> None:
        """Close the server."""
        ...


RECEIVERS = Registry[FakeReceiver]("fake receiver", "streams.checks")
receiver = RECEIVERS.register


def require(fact: bool, text: str) -> None:
    """Raise AssertionError with `text` unless `fact` holds."""
    if not fact:
        raise AssertionError(text)


def require_silence(secret: str, *texts: str) -> None:
    """Raise AssertionError if `secret`, or the part of it after its prefix, stands in any of `texts`."""
    words: Sequence[str] = (secret, secret.partition("_")[2])
    for text in texts:
        require(
            not any(word and word in text for word in words), "a secret stands in an error, repr or log line"
        )


def contract_of(part: type[Any]) -> str:
    """Return the contract `part` declares; raises AssertionError if it cannot be checked."""
    require(hasattr(part, "example"), f"{part.__name__}: no classmethod example(*, url, secret_file)")
    contract = str(getattr(part, "contract", ""))
    known = [*RECEIVERS.names(), "local"]
    require(contract in known, f"{part.__name__}: contract {contract!r} is none of {known}")
    return contract
