"""What tests of landing do with a real log, and with what the group has committed."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.structs import OffsetAndMetadata

from detectors.records.codec import Record
from streams.kafka.envelope import Origin, seal
from streams.kafka.errors import BrokerError
from streams.kafka.land_worker import LandWorker
from streams.kafka.layout import state_name, topic_name
from streams.kafka.topics import TopicAdmin
from streams.kafka.transactions import Outgoing, PlainWriter, TransactionalWriter
from streams.settings import KafkaSettings


async def write(kafka: KafkaSettings, topic: str, partition: int, records: Sequence[Record]) -> None:
    """Write `records` as a stage does: in a transaction, one for every seven of them."""
    writer = TransactionalWriter(kafka, f"{kafka.topic_prefix}.{secrets.token_hex(4)}")
    await writer.start()
    for index in range(0, len(records), 7):
        origin = Origin("test", "t", partition, index)
        await writer.write(
            [
                Outgoing(topic_name(topic, kafka.topic_prefix), partition, one.value, headers=one.headers)
                for one in seal(records[index : index + 7], origin)
            ]
        )
    await writer.stop()


async def landed(worker: LandWorker, within_s: float = 60.0) -> None:
    """Wait until all that is in the log has landed."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        bounds = await worker.app.bounds(worker.app.assignment())
        ends = {where: end for where, (_, end) in bounds.items()}
        committed = await worker.app.committed(set(ends))
        if ends and all(
            end == 0 or (committed[where] is not None and _reaches(committed[where], end))
            for where, end in ends.items()
        ):
            return
        if worker._working is not None and worker._working.done():
            await worker.ended()
        await asyncio.sleep(0.05)
    raise AssertionError("nothing landed in time")


def _reaches(committed: Any, end: int) -> bool:
    # What ends the log is the marker of a transaction, which no consumer is given.
    return committed[0] >= end - 1 and " before " not in committed[1]


def alter(kafka: KafkaSettings, change: Callable[[KafkaAdminClient, str], dict[Any, Any]]) -> None:
    """Change what the group has committed, once the broker has seen that its members are gone."""
    until = time.monotonic() + 30
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        while any(issubclass(error, Exception) and error.errno for error in _told(admin, kafka, change)):
            assert time.monotonic() < until, "the group never became empty"
            time.sleep(0.5)


def _told(admin: KafkaAdminClient, kafka: KafkaSettings, change: Any) -> list[Any]:
    return list(change(admin, f"{kafka.topic_prefix}.land").values())


def make_again(kafka: KafkaSettings) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            with TopicAdmin(kafka) as admin:
                admin.create()
                admin.check()
        except BrokerError:  # the broker is still deleting
            assert time.monotonic() < until
            time.sleep(0.3)
        else:
            return


def set_offset(admin: KafkaAdminClient, group: str, where: TopicPartition, offset: int) -> dict[Any, Any]:
    return dict(admin.alter_group_offsets(group, {where: OffsetAndMetadata(offset, "", -1)}))


async def forget_copy(kafka: KafkaSettings, where: TopicPartition) -> None:
    """Remove what landing's copy of its ledger says of a partition."""
    async with PlainWriter(kafka) as writer:
        name = state_name("land", kafka.topic_prefix)
        await writer.write([Outgoing(name, where.partition, None, key=where.topic.encode())])
