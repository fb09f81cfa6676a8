"""How every Kafka client gets in: addresses, TLS and SASL from the settings; a first look at the broker."""

import socket
import ssl
from typing import Any

from streams.kafka.errors import BrokerError
from streams.kafka.header_names_sync import teach_header_names
from streams.kafka.snappy import teach_snappy
from streams.settings import KafkaSettings, SettingsError, read_secret

_DEFAULT_PORT = 9092
_CONNECT_TIMEOUT_S = 5.0


class _Masked(str):
    """A password that a client may log by accident: it does so at debug level."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def bootstrap_addresses(settings: KafkaSettings) -> list[tuple[str, int]]:
    """Return host and port of each broker that ``kafka.bootstrap`` names.

    Raises
    ------
    SettingsError
        If it names none, or a port is not a number from 1 to 65535.

    Examples
    --------
    >>> bootstrap_addresses(KafkaSettings(bootstrap="a:1, [::1]:2,b"))
    [('a', 1), ('::1', 2), ('b', 9092)]
    """
    found = [_address(part.strip()) for part in settings.bootstrap.split(",") if part.strip()]
    if not found:
        raise SettingsError("kafka.bootstrap: names no broker; write host:port, several with commas between")
    return found


def _address(text: str) -> tuple[str, int]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if not port:
        port = str(_DEFAULT_PORT)
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise SettingsError(f"kafka.bootstrap: {text!r} is not host:port")
    return host, int(port)


def tls_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    """Return the TLS context that `settings` ask for, or None without TLS.

    The broker's name is checked against its certificate. ``tls_ca_file`` empty: the system's authorities.

    Raises
    ------
    SettingsError
        If a file is missing or is not what it should be, or files are named while ``tls`` is off.
    """
    files = (settings.tls_ca_file, settings.tls_cert_file, settings.tls_key_file)
    if not settings.tls:
        if any(files):
            raise SettingsError(
                "kafka: tls files are named and tls is off: set tls = true, or drop the files"
            )
        return None
    if settings.tls_key_file and not settings.tls_cert_file:
        raise SettingsError("kafka.tls_key_file: a key without its certificate: set tls_cert_file")
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca_file or None)
    except OSError as error:
        raise SettingsError(f"kafka.tls_ca_file: {settings.tls_ca_file}: {_reason(error)}") from error
    if settings.tls_cert_file:
        try:
            context.load_cert_chain(
                settings.tls_cert_file, settings.tls_key_file or None, password=_no_password
            )
        except OSError as error:
            raise SettingsError(f"kafka.tls_cert_file: {settings.tls_cert_file}: {_reason(error)}") from error
    return context


def _no_password() -> str:
    raise OSError(0, "the key is encrypted: store it in plain form with mode 0600")


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "is not a PEM file, or key and certificate do not belong together"
    return f"cannot be read ({error.strerror})"


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the keyword arguments of every kafka-python client: where to connect, and as whom.

    Raises
    ------
    SettingsError
        If an address, file or secret is missing or wrong, or a password would go out in plain text.
    """
    teach_snappy()
    teach_header_names()
    context = tls_context(settings)
    addresses = bootstrap_addresses(settings)
    options: dict[str, Any] = {
        "bootstrap_servers": [
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses
        ],
        "client_id": "plumbline",
        "security_protocol": ("SASL_" if settings.sasl_mechanism else "")
        + ("SSL" if context else "PLAINTEXT"),
    }
    if context is not None:
        options["ssl_context"] = context
    if settings.sasl_mechanism:
        options |= _sasl_options(settings)
    elif settings.sasl_username or settings.sasl_password_env or settings.sasl_password_file:
        raise SettingsError("kafka: a user is named and sasl_mechanism is empty: set it, or drop the user")
    return options


def _sasl_options(settings: KafkaSettings) -> dict[str, Any]:
    if settings.sasl_mechanism == "PLAIN" and not settings.tls:
        raise SettingsError("kafka.sasl_mechanism: PLAIN without TLS shows the password: set tls = true")
    password = read_secret(
        env=settings.sasl_password_env, file=settings.sasl_password_file, what="kafka: sasl password"
    )
    if not settings.sasl_username or not password:
        raise SettingsError(
            f"kafka.sasl_mechanism: {settings.sasl_mechanism} needs sasl_username and sasl_password_env "
            "(or sasl_password_file)"
        )
    return {
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": _Masked(password),
    }


def reach_broker(settings: KafkaSettings) -> None:
    """Return if a broker of ``kafka.bootstrap`` accepts a connection, TLS included.

    Kafka's clients try again until their time is up and then no longer know why; this look knows at once.

    Raises
    ------
    BrokerError
        If none does; the text says why of the last one.
    SettingsError
        If the settings cannot be used.
    """
    context = tls_context(settings)
    failure = ""
    for host, port in bootstrap_addresses(settings):
        try:
            with socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S) as plain:
                if context is not None:
                    context.wrap_socket(plain, server_hostname=host).close()
            return
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message
            failure = f"the certificate of {host}:{port} is not trusted ({why}): set kafka.tls_ca_file"
        except ssl.SSLError:
            failure = f"{host}:{port} does not speak TLS as asked: check kafka.tls and the port"
        except OSError as error:
            reason = error.strerror or "no answer in time"
            failure = f"no broker at {host}:{port} ({reason}): start it, or set kafka.bootstrap"
    raise BrokerError(f"kafka: {failure}")
