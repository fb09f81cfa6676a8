"""The webhook notifier's message and its configuration."""

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.records import Action
from detectors.registry import PartError
from streams.checks.notifier_checks import HOSTILE, sample_notice
from streams.checks.standard_webhooks import StandardWebhooks
from streams.notifiers import NOTIFIERS, Notice, Permanent
from streams.notifiers.webhook import body_of


@pytest.fixture
def fake(tmp_path):
    server = StandardWebhooks(directory=str(tmp_path))
    yield server
    server.stop()


def build(fake, **more):
    values = {"url": fake.url, "secret_file": fake.secret_file, "allow_networks": ["127.0.0.0/8"]}
    return NOTIFIERS.build("webhook", {**values, **more}, path="notifier[0]")


def action():
    return Action(
        action_id="a" * 64,
        seq=3,
        deployment="support",
        release="2.4",
        decision_id="decision-1",
        kind="rollback",
        target="webhook",
        state="FAILED",
        at_ms=1_700_000_100_000,
        reason="not_converged",
        from_release="2.4",
        to_release="2.3",
        detail={"share": 0.2},
    )


def test_the_message_says_what_happened(fake):
    base = sample_notice("worse")
    notice = Notice(
        notice_id="n-1",
        decision=base.decision,
        transition="FAILED",
        summary="It failed.",
        action=action(),
        links={"page": "https://plumbline.example/"},
    )
    asyncio.run(build(fake).notify(notice))
    message = msgspec.json.decode(fake.bodies[0])
    assert set(message) == {"type", "timestamp", "data"}
    assert (message["type"], message["timestamp"]) == ("plumbline.failed", "2023-11-14T22:15:00+00:00")
    assert message["data"]["summary"] == "It failed."
    assert message["data"]["action"]["reason"] == "not_converged"
    assert message["data"]["links"] == {"page": "https://plumbline.example/"}
    assert len(message["data"]["exemplars"]) == 5
    assert fake.received == ["n-1"]
    assert body_of(notice) == body_of(notice)


@given(st.text(max_size=3000) | st.just(HOSTILE) | st.just("\U0001f600" * 5000))
def test_the_message_stays_below_its_bound(text):
    base = sample_notice(text)
    links = {f"{number}{text}": text for number in range(9)}
    changed = {"reason": text, "from_release": text, "to_release": text}
    notice = Notice(
        notice_id="n",
        decision=base.decision,
        transition="FAILED",
        summary=text,
        links=links,
        action=msgspec.structs.replace(action(), **changed),
    )
    body = body_of(notice)
    assert len(body) < 20_000
    assert msgspec.json.decode(body)["data"]["notice_id"] == "n"


def test_after_410_nothing_more_is_sent(fake):
    part = build(fake)
    fake.fail(410)
    for number in range(3):
        with pytest.raises(Permanent, match="410"):
            asyncio.run(part.notify(sample_notice(notice_id=f"n-{number}")))
    assert fake.received == ["n-0"]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"secret_file": ""}, "expected whsec_"),
        ({"secret_env": "PLUMBLINE_TEST_ABSENT"}, "not both"),
        ({"secret_file": "", "secret_env": "PLUMBLINE_TEST_ABSENT"}, "is not set"),
        ({"url": "ftp://h/"}, "expected https"),
        ({"url": "http://h/", "allow_networks": []}, "use https"),
        ({"allow_networks": ["127.0.0.1/8"]}, "host bits"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"colour": "red"}, "unknown field `colour`"),
    ],
)
def test_what_cannot_work_is_refused_at_load_with_its_path(fake, changed, text):
    with pytest.raises(PartError, match=r"^notifier\[0\]: ") as caught:
        build(fake, **changed)
    assert text in str(caught.value)
    assert fake.secret not in str(caught.value)
