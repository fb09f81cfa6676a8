"""What the errors of a group's member, and of a writer, mean; in one line with the remedy."""

from typing import Final

from aiokafka import errors as kafka_errors

from streams.kafka.errors import BrokerError
from streams.settings import KafkaSettings

_REFUSALS: Final = (
    kafka_errors.AuthenticationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.TransactionalIdAuthorizationFailed,
    kafka_errors.UnsupportedSaslMechanismError,
)
_LOGIN: Final = (
    kafka_errors.AuthenticationFailedError,
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.UnsupportedSaslMechanismError,
)
_TOO_LARGE: Final = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)


def explain(error: BaseException, settings: KafkaSettings, group: str) -> BaseException:
    """Return `error`, or what it means where it is a library's."""
    if isinstance(error, kafka_errors.OffsetOutOfRangeError):
        return BrokerError(
            f"kafka: group {group}: records it had still to read are gone by retention: they are lost to it; "
            "raise kafka.retention_s, and go on with --accept-loss"
        )
    if isinstance(error, kafka_errors.InconsistentGroupProtocolError):
        return BrokerError(
            f"kafka: group {group} is in use by another program with another protocol: stop it, "
            "or set kafka.topic_prefix"
        )
    if isinstance(error, _REFUSALS):
        return _refused(error, settings, f"allow it Read on group {group} and its topics")
    if isinstance(error, kafka_errors.KafkaError):
        return BrokerError(
            f"kafka: group {group} cannot go on ({type(error).__name__}): see the broker's log"
        )
    return error


def explain_client(error: Exception, settings: KafkaSettings, name: str) -> BrokerError:
    """Return what `error` means for a writer, or a reader of state, called `name`."""
    prefix = settings.topic_prefix
    if isinstance(error, _TOO_LARGE):
        return BrokerError(
            f"kafka: {name}: the broker refuses a record as too large ({type(error).__name__}): its topic "
            f"takes less than kafka.max_message_bytes = {settings.max_message_bytes}: raise the topic's "
            "max.message.bytes, and see `plumbline topics check`"
        )
    if isinstance(error, _REFUSALS) and not isinstance(error, _LOGIN):
        return _refused(
            error,
            settings,
            f"{name} needs Read, Write and Describe on topics {prefix}.*, Read on groups {prefix}.*, and "
            f"Write and Describe on TransactionalId {prefix}.*",
        )
    if isinstance(error, _LOGIN):
        return _refused(error, settings, "check user name, password and kafka.sasl_mechanism")
    return BrokerError(
        f"kafka: {name} cannot go on ({type(error).__name__}): see the broker's log; a new start goes on "
        "from what was committed"
    )


def _refused(error: BaseException, settings: KafkaSettings, remedy: str) -> BrokerError:
    who = repr(settings.sasl_username) if settings.sasl_username else "this client"
    return BrokerError(f"kafka: {who} is refused ({type(error).__name__}): {remedy}")
