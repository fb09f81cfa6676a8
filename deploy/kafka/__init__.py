"""A real broker for tests and trials, from Maven's artefacts: Java 17 and Maven, no container."""

from deploy.kafka.broker import Access, LocalBroker
from deploy.kafka.jars import LocalBrokerError, missing_tools, resolve_jars

__all__ = ["Access", "LocalBroker", "LocalBrokerError", "missing_tools", "resolve_jars"]
