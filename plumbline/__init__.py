"""What an application imports: :mod:`plumbline.client`, or ``plumbline.KafkaClient``, and nothing heavier."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plumbline.kafka_client import KafkaClient

__all__ = ["KafkaClient", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the Kafka client when somebody asks for it: it needs ``plumbline[kafka]``."""
    if name != "KafkaClient":
        raise AttributeError(f"module 'plumbline' has no attribute {name!r}")
    from plumbline.kafka_client import KafkaClient  # noqa: PLC0415 - an optional part

    return KafkaClient
