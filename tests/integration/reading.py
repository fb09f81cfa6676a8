"""What stands in a topic, for tests."""

from typing import Any

from kafka import KafkaConsumer, TopicPartition

from streams.kafka.connection import client_options
from streams.settings import KafkaSettings


def read_topic(settings: KafkaSettings, topic: str) -> list[Any]:
    """Return every committed Kafka record of `topic`, by partition and offset."""
    with KafkaConsumer(
        **client_options(settings), isolation_level="read_committed", enable_auto_commit=False
    ) as consumer:
        places = [TopicPartition(topic, part) for part in sorted(consumer.partitions_for_topic(topic))]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends, found = consumer.end_offsets(places), []
        while any(consumer.position(where) < end for where, end in ends.items()):
            for rows in consumer.poll(100).values():
                found += rows
    return sorted(found, key=lambda row: (row.partition, row.offset))
