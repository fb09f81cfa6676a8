"""Makes and checks Plumbline's topics; the one door to kafka-python's admin client."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import ConfigFilterType, ConfigResource, ConfigResourceType
from kafka.net.compat import KafkaNetClient
from msgspec import Struct

from streams.kafka.connection import client_options, reach_broker
from streams.kafka.errors import BrokerError
from streams.kafka.layout import TopicSpec, plan_topics
from streams.settings import ForeignSettings, KafkaSettings

# kafka-python reports at warning level what is raised here anyway; without a handler it would go to stderr.
logging.getLogger("kafka").addHandler(logging.NullHandler())

_TIMEOUT_MS = 15_000
# Where a refusal and the end of the connection arrive together, kafka-python sees the end alone and tries
# again; often enough within the time, it hears the refusal.
_RETRY_MS = 250
_UNKNOWN_TOPIC = kafka_errors.UnknownTopicOrPartitionError.errno
_EXISTS = kafka_errors.TopicAlreadyExistsError.errno
_NOT_ALLOWED = kafka_errors.TopicAuthorizationFailedError.errno
_LOGIN_ERRORS = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
    kafka_errors.AuthorizationError,
)


class Difference(Struct, frozen=True, kw_only=True):
    """One respect in which a topic is not as the settings ask."""

    topic: str
    what: str
    wanted: str
    found: str

    def __str__(self) -> str:
        """Return it as a clause."""
        return f"{self.topic} has {self.what} {self.found}, wanted {self.wanted}"


class Comparison(Struct, frozen=True, kw_only=True):
    """What a broker has, against what the settings ask for."""

    missing: tuple[TopicSpec, ...]
    present: tuple[TopicSpec, ...]
    differences: tuple[Difference, ...]


class TopicAdmin:
    """Plumbline's topics on one cluster; a context manager.

    Parameters
    ----------
    settings
        Where the brokers are, how to get in, and what the topics should be.
    foreign
        Topics that are not ours, whose dead letters are.

    Raises
    ------
    SettingsError
        If an address, file or secret is missing or wrong.
    BrokerError
        If no broker answers or it refuses the user; the text names the remedy.
    """

    def __init__(self, settings: KafkaSettings, foreign: Sequence[ForeignSettings] = ()) -> None:
        self._settings = settings
        self._plan = plan_topics(settings, foreign)
        options = client_options(settings)
        reach_broker(settings)
        self._client = _connect(settings, options)

    def __enter__(self) -> "TopicAdmin":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def compare(self) -> Comparison:
        """Return which topics are missing, which are there, and how those differ from the settings.

        Raises
        ------
        BrokerError
            If the broker cannot be asked, or this user may not look.
        """
        with told_by_broker(self._settings):
            described = {
                topic["name"]: topic
                for topic in self._client.describe_topics([spec.name for spec in self._plan])
            }
        missing, present = [], []
        for spec in self._plan:
            code = described[spec.name]["error_code"]
            if code == _UNKNOWN_TOPIC:
                missing.append(spec)
            elif code:
                raise _refused(code, spec.name, self._settings)
            else:
                present.append(spec)
        differences = [found for spec in present for found in _count_differences(spec, described[spec.name])]
        differences += self._config_differences(present)
        return Comparison(missing=tuple(missing), present=tuple(present), differences=tuple(differences))

    def ids(self) -> dict[str, str]:
        """Return the id that the cluster gave to each topic when it was made, by name; no two are alike.

        Raises
        ------
        BrokerError
            If the broker cannot be asked, or this user may not look.
        """
        with told_by_broker(self._settings):
            described = self._client.describe_topics([spec.name for spec in self._plan])
        return {topic["name"]: str(topic["topic_id"]) for topic in described if not topic["error_code"]}

    def check(self) -> Comparison:
        """Return the comparison if nothing is missing and nothing differs.

        Raises
        ------
        BrokerError
            If something does; the text says what, and the remedy.
        """
        compared = self.compare()
        if compared.missing:
            raise BrokerError(
                f"kafka: {len(compared.missing)} of {len(self._plan)} topics are missing, "
                f"{compared.missing[0].name} first: run `plumbline topics create`"
            )
        _require_equal(compared)
        return compared

    def create(self) -> tuple[str, ...]:
        """Make what is missing and return the names of what was made; made twice is made once.

        Nothing is made while a topic that is there differs from the settings, and nothing is ever changed.

        Raises
        ------
        BrokerError
            If a topic differs, or the broker refuses.
        """
        compared = self.compare()
        _require_equal(compared)
        if not compared.missing:
            return ()
        wanted = {
            spec.name: {
                "num_partitions": spec.partitions,
                "replication_factor": spec.replication,
                "configs": dict(spec.configs),
            }
            for spec in compared.missing
        }
        with told_by_broker(self._settings):
            answer = self._client.create_topics(wanted, timeout_ms=_TIMEOUT_MS, raise_errors=False)
            made = []
            for topic in answer["topics"]:
                if not topic["error_code"]:
                    made.append(topic["name"])
                elif topic["error_code"] != _EXISTS:
                    raise _refused(topic["error_code"], topic["name"], self._settings)
            self._client.wait_for_topics(list(wanted), timeout_ms=_TIMEOUT_MS)
        # Somebody else may have made one meanwhile, in another form.
        self.check()
        return tuple(made)

    def _config_differences(self, present: Sequence[TopicSpec]) -> Iterator[Difference]:
        if not present:
            return
        asked = [ConfigResource(ConfigResourceType.TOPIC, spec.name, list(spec.configs)) for spec in present]
        with told_by_broker(self._settings):
            answer = self._client.describe_configs(asked, config_filter=ConfigFilterType.ALL)
        for spec in present:
            found = answer["topic"].get(spec.name, {})
            for name, wanted in spec.configs.items():
                if name not in found:  # kafka-python drops the broker's refusal and gives an empty answer
                    raise _refused(_NOT_ALLOWED, f"the configuration of {spec.name}", self._settings)
                if (value := found[name]["value"]) != wanted:
                    yield Difference(topic=spec.name, what=name, wanted=wanted, found=value)


def _connect(settings: KafkaSettings, options: dict[str, Any]) -> KafkaAdminClient:
    made: list[KafkaNetClient] = []

    def connect(**configuration: Any) -> KafkaNetClient:
        made.append(KafkaNetClient(**configuration))
        _raise_refusals(made[0])
        return made[0]

    try:
        with told_by_broker(settings):
            return KafkaAdminClient(
                **options,
                kafka_client=connect,
                bootstrap_timeout_ms=_TIMEOUT_MS,
                request_timeout_ms=_TIMEOUT_MS,
                reconnect_backoff_max_ms=_RETRY_MS,
            )
    except BrokerError:
        # The client connects while it is made; when that fails nobody else can end its thread.
        for client in made:
            client._net.stop()  # noqa: SLF001 - there is no other way
            client.close()
        raise


def _raise_refusals(client: KafkaNetClient) -> None:
    """Let `client` raise a refused login instead of trying it until its time is up.

    kafka-python 3.0.12 means to do so itself, and forgets each refusal when its connection has ended.
    """
    manager = client._manager  # noqa: SLF001 - there is no other way
    get_connection = manager.get_connection
    refusals: list[Exception] = []

    def remember(error: Exception) -> None:
        if isinstance(error, _LOGIN_ERRORS):
            refusals.append(error)

    def remembering(node_id: Any, **how: Any) -> Any:
        if refusals:
            raise refusals[0]
        connection = get_connection(node_id, **how)
        connection.close_future.add_errback(remember)
        return connection

    manager.get_connection = remembering


def _count_differences(spec: TopicSpec, described: dict[str, Any]) -> Iterator[Difference]:
    partitions = described["partitions"]
    if len(partitions) != spec.partitions:
        yield Difference(
            topic=spec.name,
            what="partition count",
            wanted=str(spec.partitions),
            found=str(len(partitions)),
        )
    replicas = sorted({len(partition["replica_nodes"]) for partition in partitions})
    if replicas != [spec.replication]:
        yield Difference(
            topic=spec.name,
            what="replication factor",
            wanted=str(spec.replication),
            found=" and ".join(map(str, replicas)),
        )


_REMEDIES = {
    "partition count": "set kafka.partitions to what is there: a key's partition is for ever",
    "replication factor": "set kafka.replication to what is there, or reassign the topic's replicas",
}


def _require_equal(compared: Comparison) -> None:
    if not compared.differences:
        return
    first = compared.differences[0]
    more = f" (and {len(compared.differences) - 1} more differences)" if len(compared.differences) > 1 else ""
    remedy = _REMEDIES.get(
        first.what, "change the [kafka] setting, or alter the topic with Kafka's own tools"
    )
    raise BrokerError(f"kafka: {first}{more}: {remedy}")


@contextlib.contextmanager
def told_by_broker(settings: KafkaSettings) -> Iterator[None]:
    """Turn the errors of kafka-python into one line with the remedy."""
    try:
        yield
    except kafka_errors.SaslAuthenticationFailedError as error:
        raise BrokerError(
            f"kafka: {settings.bootstrap} refuses user {settings.sasl_username!r}: check the user name, "
            "the password, and that the user exists for this mechanism"
        ) from error
    except (kafka_errors.UnsupportedSaslMechanismError, kafka_errors.IllegalSaslStateError) as error:
        raise BrokerError(
            f"kafka: {settings.bootstrap} does not offer {settings.sasl_mechanism}: set kafka.sasl_mechanism"
        ) from error
    except kafka_errors.AuthorizationError as error:
        raise _refused(error.errno, "the cluster", settings) from error
    except kafka_errors.KafkaError as error:
        raise BrokerError(
            f"kafka: {settings.bootstrap} accepts connections and gives no answer ({type(error).__name__}): "
            "check that it is a broker's client port and that kafka.tls and kafka.sasl_mechanism fit it"
        ) from error


def _refused(code: int, name: str, settings: KafkaSettings) -> BrokerError:
    kind = kafka_errors.for_code(code)
    if issubclass(kind, kafka_errors.AuthorizationError):
        who = repr(settings.sasl_username) if settings.sasl_username else "this client"
        return BrokerError(
            f"kafka: {who} is not allowed to see or make {name}: allow it Create, Describe and "
            f"DescribeConfigs on topics with the prefix {settings.topic_prefix}."
        )
    if kind is kafka_errors.InvalidReplicationFactorError:
        return BrokerError(
            f"kafka: {name} cannot have {settings.replication} replicas, there are fewer brokers: "
            "start more, or set kafka.replication (1 for a single broker)"
        )
    return BrokerError(f"kafka: the broker refuses {name} ({kind.__name__}): read its log")
