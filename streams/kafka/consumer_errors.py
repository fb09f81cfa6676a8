"""What the errors of a group's member mean, in one line with the remedy."""

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
        who = repr(settings.sasl_username) if settings.sasl_username else "this client"
        return BrokerError(
            f"kafka: {who} is refused ({type(error).__name__}): allow it Read on group {group} and its topics"
        )
    if isinstance(error, kafka_errors.KafkaError):
        return BrokerError(
            f"kafka: group {group} cannot go on ({type(error).__name__}): see the broker's log"
        )
    return error
