"""What the batch transport keeps without a broker: its versions, and its secrets."""

import asyncio
import logging

import pytest
from aiokafka import errors as kafka_errors

from streams.kafka import faust_batches, faust_transport
from streams.kafka.errors import BrokerError
from streams.kafka.faust_transport import ConsumerApp
from streams.kafka.fetching import FetchSize
from streams.settings import KafkaSettings, SettingsError


async def nothing(*_: object) -> None:
    """Serve as every callback."""


def make(settings: KafkaSettings) -> ConsumerApp:
    return ConsumerApp(
        settings,
        group="g",
        topics=["t"],
        instance_id="i",
        session_s=6.0,
        fetch=FetchSize(1 << 20, 150),
        on_batch=nothing,
        on_assigned=nothing,
        on_revoked=nothing,
    )


@pytest.mark.parametrize("name", ["faust-streaming", "aiokafka", "mode-streaming"])
def test_other_versions_are_refused(name, monkeypatch):
    real = faust_batches.version
    monkeypatch.setattr(faust_batches, "version", lambda one: "9.9.9" if one == name else real(one))
    with pytest.raises(BrokerError, match=rf"{name} is 9\.9\.9 and must be") as caught:
        make(KafkaSettings())
    assert len(str(caught.value).splitlines()) == 1


def test_a_password_does_not_show(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SECRET", "hunter2-hunter2")
    settings = KafkaSettings(
        sasl_mechanism="SCRAM-SHA-512", sasl_username="u", sasl_password_env="SECRET", bootstrap="127.0.0.1:1"
    )
    app = make(settings)
    with pytest.raises(BrokerError):
        asyncio.run(app.start())
    assert "hunter2" not in repr(vars(app)) + repr(app) + caplog.text


class Mute:
    """An app of which the group never hears, or that hears nothing: its start and its stop never return."""

    async def start(self) -> None:
        await asyncio.Event().wait()

    stop = start


def test_a_group_that_never_answers_ends_the_start(monkeypatch):
    monkeypatch.setattr(faust_transport, "reach_broker", lambda _: None)
    monkeypatch.setattr(faust_transport, "make_app", lambda *_, **__: Mute())
    monkeypatch.setattr(faust_transport, "unassigned_limit_s", lambda _: 0.05)
    monkeypatch.setattr(faust_transport, "_STOP_S", 0.05)
    with pytest.raises(BrokerError, match=r"has not said for 0 s which partitions .* start it again"):
        asyncio.run(asyncio.wait_for(make(KafkaSettings()).start(), 10))


def test_a_member_is_placed_when_the_group_has_said_so_even_with_nothing(monkeypatch):
    monkeypatch.setattr(faust_transport, "reach_broker", lambda _: None)
    monkeypatch.setattr(faust_transport, "unassigned_limit_s", lambda _: 0.05)

    async def check() -> None:
        app = make(KafkaSettings())

        class Spare(Mute):
            async def start(self) -> None:
                await app.revoke(set())
                assert not app.placed
                await app.assign(set(), 1)
                await asyncio.sleep(0.2)  # what restores may take its time

            async def stop(self) -> None:
                pass

        monkeypatch.setattr(faust_transport, "make_app", lambda *_, **__: Spare())
        await asyncio.wait_for(app.start(), 10)
        assert app.placed
        assert app.assignment() == set()
        await app.revoke(set())
        assert not app.placed
        await app.stop()

    asyncio.run(check())


def test_settings_that_cannot_be_used_are_refused_at_once():
    with pytest.raises(SettingsError):
        make(KafkaSettings(sasl_mechanism="PLAIN", sasl_username="u"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (kafka_errors.OffsetOutOfRangeError({}), "gone by retention"),
        (kafka_errors.InconsistentGroupProtocolError(), "another protocol"),
        (kafka_errors.GroupAuthorizationFailedError("g"), "allow it Read"),
        (kafka_errors.TopicAuthorizationFailedError("t"), "allow it Read"),
        (kafka_errors.KafkaTimeoutError(), "KafkaTimeoutError"),
    ],
)
def test_what_a_library_says_becomes_one_line_with_the_remedy(error, said):
    told = faust_transport.explain(error, KafkaSettings(), "g")
    assert isinstance(told, BrokerError)
    assert said in str(told)
    assert len(str(told).splitlines()) == 1


def test_errors_of_callbacks_stay_what_they_are():
    error = ValueError("x")
    assert faust_transport.explain(error, KafkaSettings(), "g") is error
