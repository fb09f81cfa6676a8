"""What a transactional writer makes of a client whose transaction has ended under it, without a broker."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors as kafka_errors

from streams.kafka.errors import BrokerError
from streams.kafka.transactions import FencedError, Outgoing, TransactionalWriter
from streams.settings import KafkaSettings


class EndedProducer:
    """A client whose sender found out between two calls what ended the transaction."""

    def __init__(self, then: Exception, cause: Exception | None) -> None:
        self._then = then
        ended = asyncio.get_running_loop().create_future()
        if cause is not None:
            ended.set_exception(cause)
        self._txn_manager = SimpleNamespace(wait_for_transaction_end=lambda: ended)

    async def begin_transaction(self) -> None:
        pass

    async def send(self, *_: Any, **__: Any) -> None:
        raise self._then

    async def abort_transaction(self) -> None:
        raise self._then


def write(then: Exception, cause: Exception | None) -> None:
    async def run() -> None:
        writer = TransactionalWriter(KafkaSettings(), "w")
        writer._producer = EndedProducer(then, cause)
        await writer.write([Outgoing("t", 0, b"v")])

    asyncio.run(run())


@pytest.mark.parametrize("then", [kafka_errors.IllegalOperation("not in transaction"), AssertionError()])
def test_a_writer_that_was_replaced_says_so_whatever_its_client_says_then(then: Exception) -> None:
    with pytest.raises(FencedError, match="w was taken over by another worker"):
        write(then, kafka_errors.ProducerFenced())


def test_a_transaction_that_ended_for_no_known_cause_is_one_line() -> None:
    with pytest.raises(BrokerError, match=r"w cannot go on \(IllegalOperation\)") as caught:
        write(kafka_errors.IllegalOperation("not in transaction"), None)
    assert len(str(caught.value).splitlines()) == 1


def test_an_assertion_of_our_own_stays_what_it_is() -> None:
    with pytest.raises(AssertionError, match="ours"):
        write(AssertionError("ours"), None)
