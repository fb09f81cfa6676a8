"""Lets a topic take less than the settings say, as ``kafka-configs --alter`` does."""

import os
import time

from kafka import KafkaAdminClient, KafkaProducer
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

_WITHIN_S = 60.0


def shrink(bootstrap: str, topic: str, limit: int) -> None:
    """Return when `topic` refuses batches of more than `limit` bytes.

    A broker answers before it acts on what it was told. So it is tried out, in a transaction that is given
    up: of what is accepted until then no reader sees anything.
    """
    with KafkaAdminClient(bootstrap_servers=bootstrap) as client:
        small = {"max.message.bytes": str(limit)}
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, small)])
    too_large, deadline = os.urandom(limit + 1), time.monotonic() + _WITHIN_S
    with KafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"try-{topic}") as producer:
        producer.init_transactions()
        while time.monotonic() < deadline:
            producer.begin_transaction()
            sent = producer.send(topic, too_large, partition=0)
            try:
                sent.get(_WITHIN_S)
            except kafka_errors.MessageSizeTooLargeError:
                return
            finally:
                producer.abort_transaction()
            time.sleep(0.02)
    raise AssertionError(f"{topic} still takes more than {limit} bytes after {_WITHIN_S:.0f} s")
