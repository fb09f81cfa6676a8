"""The Kafka client without a broker: what is taken is sent or on disk, in order, and said."""

import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import errors as kafka_errors

import plumbline
from detectors.records.ids import interaction_id, partition_of
from plumbline.client import Client
from plumbline.delivery import ClientError, Refused
from plumbline.kafka_client import KafkaClient
from plumbline.kafka_delivery import Outcome, SpooledDelivery
from plumbline.keys import submission_key
from plumbline.recorder import Recorder
from plumbline.spool import SpoolFullError, Waiting, take_spools

ITEM = {"deployment": "support", "release": "r", "prompt": "p", "response": "a"}


class Broker:
    """A broker that keeps what it takes, and is away while `away` is set."""

    def __init__(self) -> None:
        self.taken: list[Waiting] = []
        self.away = threading.Event()
        self.largest = 10_000
        self.lies = 0  # so many batches are taken and not acknowledged

    def post(self, records: Sequence[Waiting]) -> list[Outcome]:
        if self.away.is_set():
            return ["kept"] * len(records)
        fits = [len(record.value) <= self.largest for record in records]
        self.taken += [record for record, is_fit in zip(records, fits, strict=True) if is_fit]
        if self.lies:
            self.lies -= 1
            return ["kept"] * len(records)
        return ["sent" if is_fit else "never" for is_fit in fits]

    @property
    def ids(self) -> list[str]:
        return [msgspec.json.decode(record.value)["id"] for record in self.taken]


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def delivery(broker: Broker, tmp_path: Path) -> Iterator[SpooledDelivery]:
    made = deliver(broker, tmp_path)
    yield made
    made.close(0)


def deliver(broker: Broker, spool_dir: Path, **options: Any) -> SpooledDelivery:
    spools = take_spools(spool_dir, max_bytes=options.pop("max_bytes", 1_000_000))
    return SpooledDelivery(
        broker.post, spools, **{"strict": False, "max_record_bytes": 1_000, "pause_s": 0.001, **options}
    )


def items(*ids: int) -> list[dict[str, str]]:
    return [{**ITEM, "id": str(one)} for one in ids]


def test_with_a_broker_nothing_touches_the_disk(broker: Broker, delivery: SpooledDelivery) -> None:
    verdicts = delivery.send("/v1/interactions", items(1, 2))
    assert [(one.line, one.status, one.verdict, one.id, one.code) for one in verdicts] == [
        (1, 202, "accepted", "1", ""),
        (2, 202, "accepted", "2", ""),
    ]
    assert (broker.ids, delivery.spooled) == (["1", "2"], 0)


def test_while_it_is_away_all_waits_and_then_goes_in_order(broker: Broker, delivery: SpooledDelivery) -> None:
    broker.away.set()
    verdicts = [delivery.send("/v1/interactions", items(number))[0] for number in range(20)]
    assert {(one.status, one.verdict, one.code) for one in verdicts} == {(202, "accepted", "spooled")}
    assert delivery.spooled == 20
    broker.away.clear()
    assert delivery.close(10) == 0
    assert broker.ids == [str(number) for number in range(20)]


def test_what_comes_new_does_not_overtake_what_waits(broker: Broker, tmp_path: Path) -> None:
    broker.away.set()
    first = deliver(broker, tmp_path)
    first.send("/v1/interactions", items(1, 2))
    assert first.close(0) == 2
    second = deliver(broker, tmp_path)
    second.send("/v1/interactions", items(3))
    broker.away.clear()
    assert second.close(10) == 0
    assert broker.ids == ["1", "2", "3"]


def test_what_is_in_doubt_is_sent_twice_and_never_lost(broker: Broker, delivery: SpooledDelivery) -> None:
    broker.lies = 2
    delivery.send("/v1/interactions", items(1, 2))
    assert delivery.close(10) == 0
    assert broker.ids == ["1", "2"] * 3


def test_a_record_that_is_too_large_is_said_and_its_neighbours_go(
    broker: Broker, delivery: SpooledDelivery
) -> None:
    large = {**ITEM, "id": "2", "prompt": "kaninchen" * 200}
    verdicts = delivery.send("/v1/interactions", [*items(1), large, *items(3)])
    assert [one.status for one in verdicts] == [202, 413, 202]
    assert (verdicts[1].id, verdicts[1].code) == ("2", "record_too_large")
    assert "kaninchen" not in verdicts[1].message
    assert broker.ids == ["1", "3"]


def test_strict_raises_with_every_verdict(broker: Broker, tmp_path: Path) -> None:
    delivery = deliver(broker, tmp_path, strict=True)
    with pytest.raises(Refused, match="1 of 2 records refused: record_too_large") as caught:
        delivery.send("/v1/interactions", [*items(1), {**ITEM, "id": "2", "prompt": "x" * 2_000}])
    assert [one.verdict for one in caught.value.verdicts] == ["accepted", "refused"]
    delivery.close(0)


def test_what_the_broker_never_takes_does_not_hold_up_the_others(broker: Broker, tmp_path: Path) -> None:
    broker.away.set()
    delivery = deliver(broker, tmp_path)
    delivery.send("/v1/interactions", [*items(1), {**ITEM, "id": "2", "prompt": "x" * 500}, *items(3)])
    broker.largest = 300
    broker.away.clear()
    assert delivery.close(10) == 0
    assert broker.ids == ["1", "3"]
    assert b"x" * 500 in (tmp_path / "queue-0000" / "refused").read_bytes()


def test_a_spool_that_rots_is_said_once_and_sends_nothing_out_of_turn(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker.away.set()
    with caplog.at_level(logging.ERROR, "plumbline.kafka"):
        delivery = deliver(broker, tmp_path)
        delivery.send("/v1/interactions", items(1, 2))
        (segment,) = tmp_path.rglob("*.segment")
        content = segment.read_bytes()
        segment.write_bytes(content[:20] + b"!" + content[21:])
        broker.away.clear()
        assert delivery.close(0.3) == 2
    assert broker.taken == []
    (line,) = [one.getMessage() for one in caplog.records]
    assert line.startswith(f"{segment}: damaged at byte 0: check the disk")


def test_at_the_bound_it_raises_and_keeps_what_it_has(broker: Broker, tmp_path: Path) -> None:
    broker.away.set()
    delivery = deliver(broker, tmp_path, max_bytes=2_000)
    taken = 10
    delivery.send("/v1/interactions", items(*range(taken)))
    with pytest.raises(SpoolFullError):
        delivery.send("/v1/interactions", items(*range(taken, 3 * taken)))
    assert delivery.spooled == taken
    broker.away.clear()
    assert delivery.close(10) == 0
    assert broker.ids == [str(number) for number in range(taken)]


@settings(max_examples=25, deadline=None)
@given(outages=st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.integers(1, 3)), max_size=12))
def test_nothing_is_lost_whatever_the_broker_does(
    tmp_path_factory: pytest.TempPathFactory, outages: list[tuple[bool, int, int]]
) -> None:
    broker, directory = Broker(), tmp_path_factory.mktemp("spools")
    delivery = deliver(broker, directory)
    sent: list[str] = []
    for is_away, lies, count in outages:
        (broker.away.set if is_away else broker.away.clear)()
        broker.lies = lies
        fresh = [str(len(sent) + at) for at in range(count)]
        delivery.send("/v1/interactions", [{**ITEM, "id": one} for one in fresh])
        sent += fresh
        if lies == 2:
            delivery.close(0)
            delivery = deliver(broker, directory)
    broker.away.clear()
    assert delivery.close(20) == 0
    assert sorted(set(broker.ids), key=int) == sent


def test_after_a_fork_and_after_the_end_it_says_so(
    delivery: SpooledDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("os.getpid", lambda: -1)
        with pytest.raises(ClientError, match="before the process forked"):
            delivery.send("/v1/interactions", items(1))
    delivery.close(0)
    with pytest.raises(ClientError, match="closed"):
        delivery.send("/v1/interactions", items(1))


def test_both_clients_have_the_same_calls() -> None:
    assert issubclass(Client, Recorder)
    assert issubclass(KafkaClient, Recorder)
    assert plumbline.KafkaClient is KafkaClient
    with pytest.raises(AttributeError, match="no attribute 'Kafka'"):
        plumbline.Kafka  # noqa: B018 - the access is the test


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bootstrap": " , "}, "names no broker"),
        ({"sasl_mechanism": "PLAIN", "username": "u", "password": "p"}, "PLAIN without TLS"),
        ({"sasl_mechanism": "SCRAM-SHA-512", "username": "u"}, "needs username and password"),
        ({"username": "u"}, "sasl_mechanism is empty"),
    ],
)
def test_options_that_cannot_work_are_said_at_once(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        KafkaClient(**{"bootstrap": "h:1", "spool_dir": tmp_path, **options})
    assert list(tmp_path.iterdir()) == []


class Producer:
    """What kafka-python's producer is asked for; fails or refuses as told."""

    made: list[dict[str, Any]]

    def __init__(self, failure: Exception | None, **options: Any) -> None:
        options.pop("kafka_client")
        self.options, self._failure = options, failure
        logging.getLogger("kafka.producer").debug("starting with %r", options)

    def send(self, topic: str, value: bytes, **how: Any) -> Any:
        logging.getLogger("kafka.producer").debug("sending %r to %s", value, topic)
        if self._failure is not None:
            raise self._failure
        return self

    def get(self, timeout: float) -> None:
        assert timeout > 0

    def close(self, timeout: float) -> None:
        assert timeout >= 0


@pytest.mark.parametrize(
    ("failure", "verdict", "code"),
    [
        (None, "accepted", ""),
        (kafka_errors.KafkaTimeoutError("no metadata"), "accepted", "spooled"),
        (kafka_errors.TopicAuthorizationFailedError(), "accepted", "spooled"),
        (kafka_errors.MessageSizeTooLargeError(), "refused", "record_too_large"),
    ],
)
def test_debug_logs_hold_neither_password_nor_text(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    failure: Exception | None,
    verdict: str,
    code: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("kafka.producer").setLevel(logging.DEBUG)
    client = KafkaClient(
        "127.0.0.1:1",
        spool_dir=tmp_path,
        sasl_mechanism="SCRAM-SHA-512",
        username="u",
        password="correct horse",
        producer=lambda **options: Producer(failure, **options),  # type: ignore[arg-type,return-value]
    )
    found = client.record(deployment="d", release="r", prompt="kaninchen", response="a")
    assert (found.verdict, found.code) == (verdict, code)
    assert client.close(0) == (code == "spooled")
    assert "correct horse" not in caplog.text
    assert "kaninchen" not in caplog.text


@given(
    user=st.text(max_size=5),
    conversation=st.text(max_size=5),
    ids=st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=2),
)
def test_the_same_id_meets_the_same_partition(user: str, conversation: str, ids: list[str]) -> None:
    made = [{"deployment": "d", "user": user, "conversation": conversation, "id": one} for one in ids]
    keys = [submission_key("interaction", fields) for fields in made]
    assert submission_key("interaction", dict(made[0])) == keys[0]
    assert (keys[0] == keys[1]) == bool(user or conversation or ids[0] == ids[1])
    if not user and not conversation:
        assert keys[0] == f"d/{interaction_id('d', ids[0])}"
    assert all(0 <= partition_of(key, 7) < 7 for key in keys)
    assert submission_key("label", made[0]) == "d"


@pytest.mark.parametrize("strange", [None, 7, [], {"a": 1}])
def test_a_key_can_be_made_of_anything(strange: Any) -> None:
    assert submission_key("interaction", dict.fromkeys(("deployment", "user", "id"), strange)).startswith("/")
