"""Shared pieces of the tests: where the labelled data is, and a small traffic to feed stages with."""

import os
import random
from pathlib import Path

import msgspec
import pytest

from detectors.redaction import Redactor
from detectors.worlds import Question, Serving, SupportWorld
from detectors.worlds.support_answers import HEALTHY, Behaviour
from streams.door.admission import AdmissionContext, admit_payloads
from streams.inbox import Entry
from streams.settings import DoorSettings


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of labelled data; tests that need it are skipped, with the reason, where it is absent."""
    named = os.environ.get("PLUMBLINE_DATA", "")
    if not named:
        pytest.skip("PLUMBLINE_DATA does not name the folder of labelled data")
    path = Path(named)
    if not path.is_dir():
        pytest.skip(f"PLUMBLINE_DATA names {path}, which is not there")
    return path


def support_payloads(
    count: int, *, seed: int, canary_from: int, share: float = 0.2
) -> list[tuple[str, bytes]]:
    """Return (kind, payload) pairs in the door's wire form: traffic of which 2.4 takes a share, and is bad.

    The canary refuses half of what it is asked, so that a few hundred interactions show it.
    """
    bad = Behaviour(over_refusal=0.5, wrong_language=0.3, overcertainty=0.5)
    sent = 0

    def serve(question: Question) -> Serving:
        canary = sent >= canary_from and random.Random(f"{seed}/{question.conversation}").random() < share
        if sent < canary_from:
            return Serving(release="2.3", behaviour=HEALTHY)
        if canary:
            return Serving(release="2.4", behaviour=bad, arm="canary", share=share)
        return Serving(release="2.3", behaviour=HEALTHY, arm="stable", share=1.0 - share)

    world = SupportWorld(seed=seed, start_ms=1_760_000_000_000, rate_per_s=4.0)
    stable = {"deployment": "support", "release": "2.3", "role": "stable", "started_at": 1_760_000_000_000}
    payloads = [("release", msgspec.json.encode(stable))]
    for submission in world.submissions(serve):
        if sent == canary_from:
            role = {
                "release": "2.4",
                "role": "candidate",
                "share": share,
                "started_at": submission["event_time"],
            }
            canary = {**stable, **role}
            payloads.append(("release", msgspec.json.encode(canary)))
        payloads.append(("interaction", msgspec.json.encode(submission)))
        sent += 1
        if sent == count:
            return payloads
    return payloads


def admitted(payloads: list[tuple[str, bytes]]) -> list[Entry]:
    """Return what the door makes of `payloads`, in order; none may be refused."""
    context = AdmissionContext(
        settings=DoorSettings(clamp=False),
        redactor=Redactor(),
        user_key=b"0123456789abcdef",
        received_at_ms=1_770_000_000_000,
    )
    entries: list[Entry] = []
    for kind, payload in payloads:
        for verdict in admit_payloads([payload], kind, context):
            assert isinstance(verdict, Entry), verdict
            entries.append(verdict)
    return entries
