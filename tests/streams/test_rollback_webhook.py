"""The webhook target: what it sends, and which states of a gateway it believes."""

import asyncio

import msgspec
import pytest

from streams.checks.rollback_checks import sample_move
from streams.checks.standard_webhooks import StandardWebhooks
from streams.outgoing import Answer
from streams.rollbacks import ROLLBACKS, Permanent, Retryable


@pytest.fixture
def fake(tmp_path):
    server = StandardWebhooks(directory=str(tmp_path))
    server.shares["support"] = {"2.3": 0.8, "2.4": 0.2}
    yield server
    server.stop()


@pytest.fixture
def target(fake):
    return ROLLBACKS.get("webhook").example(url=fake.url, secret_file=fake.secret_file)


def test_the_message_names_both_releases(fake, target):
    receipt = asyncio.run(target.rollback(sample_move()))
    message = msgspec.json.decode(fake.bodies[0])
    assert message["type"] == "plumbline.rollback"
    assert message["data"] == {
        "action_id": "action-1",
        "deployment": "support",
        "from_release": "2.4",
        "to_release": "2.3",
        "reason": "worse",
    }
    assert receipt.accepted
    assert fake.received == ["action-1"]
    assert asyncio.run(target.current("support")).generation == "1"


def test_a_wrong_secret_moves_nothing(fake, tmp_path):
    other = tmp_path / "other"
    other.write_text("whsec_" + "A" * 32)
    target = ROLLBACKS.get("webhook").example(url=fake.url, secret_file=str(other))
    for call in (target.rollback(sample_move()), target.current("support")):
        with pytest.raises(Permanent, match="401"):
            asyncio.run(call)
    assert fake.effects == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"shares": {}}',
        b'{"shares": {"2.3": 0.5}}',
        b'{"shares": {"2.3": 1.5}}',
        b'{"shares": {"2.3": -0.5, "2.4": 1.0}}',
        b'{"shares": {"2.3": "1"}}',
        b'{"shares": {"2.3": NaN}}',
        b'{"shares": {"2.3": 1.0}, "generation": 7}',
        b'{"shares": {"2.3": 1.0}, "generation": "\xff"}',
        b"[" * 60_000,
    ],
)
def test_a_state_that_is_not_the_contracts_is_not_believed(target, monkeypatch, body):
    async def call(*args, **more):
        return Answer(status=200, headers={}, body=body)

    monkeypatch.setattr(target._state, "call", call)
    with pytest.raises(Retryable, match="state"):
        asyncio.run(target.current("support"))
