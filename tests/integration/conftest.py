"""Brokers for the tests: a named one, or our own where Java and Maven are."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from deploy.kafka import Access, LocalBroker, missing_tools, resolve_jars


def need_tools(*, secured: bool = False) -> None:
    """Skip, with the reason, where no broker can run; fail instead where PLUMBLINE_REQUIRE_KAFKA is set."""
    missing = missing_tools(secured=secured)
    if not missing:
        return
    reason = f"no broker: {', '.join(missing)} not on the path"
    if os.environ.get("PLUMBLINE_REQUIRE_KAFKA"):
        pytest.fail(f"{reason}, and PLUMBLINE_REQUIRE_KAFKA is set")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real broker; tests make topics under a prefix of their own."""
    named = os.environ.get("KAFKA_BOOTSTRAP", "")
    if named:
        yield named
        return
    need_tools()
    with LocalBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def jars() -> Path:
    """The jars of a broker of our own."""
    need_tools()
    return resolve_jars()


@pytest.fixture
def topic_prefix() -> Iterator[str]:
    """A prefix that nobody else uses; a broker that is not ours is left as it was found."""
    prefix = f"test-{secrets.token_hex(6)}"
    yield prefix
    if named := os.environ.get("KAFKA_BOOTSTRAP", ""):
        with KafkaAdminClient(bootstrap_servers=named) as client:
            made = [name for name in client.list_topics() if name.startswith(prefix)]
            if made:
                client.delete_topics(made)


@pytest.fixture(scope="session")
def access() -> Access:
    """A superuser, and a guest who may nothing."""
    return Access(
        users={name: f"pw-{secrets.token_hex(12)}" for name in ("admin", "guest")}, superuser="admin"
    )


@pytest.fixture(scope="session")
def secured_broker(tmp_path_factory: pytest.TempPathFactory, access: Access) -> Iterator[LocalBroker]:
    """A broker with TLS, passwords and access rules."""
    need_tools(secured=True)
    with LocalBroker(tmp_path_factory.mktemp("secured"), access=access) as broker:
        yield broker


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[LocalBroker]:
    """A broker that the test may kill."""
    need_tools()
    with LocalBroker(tmp_path / "broker") as broker:
        yield broker
