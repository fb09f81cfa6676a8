"""One TOML file, read once, into frozen structs. An unknown key is an error with its path.

Secrets never stand in the file: it holds the *name* of an environment variable or of a file.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Positive = Annotated[float, Meta(gt=0, le=1e9)]
Seconds = Annotated[float, Meta(ge=0.001, le=1e9)]
Count = Annotated[int, Meta(ge=1)]
HostName = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?$")]
Probability = Annotated[float, Meta(gt=0, lt=1)]


class SettingsError(ValueError):
    """A configuration that cannot be used; the text names file, path and remedy."""


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file; a key that is not named here is refused."""


class DoorSettings(Section, frozen=True, kw_only=True):
    """Where the door listens and what it accepts.

    ``token_env`` or ``token_file`` name the bearer token, which is required unless ``host`` is a loopback
    address. ``allowed_hosts`` are names, beside those of this machine, under which a door on a loopback
    address may be addressed (behind a proxy); where a token is required, names are not looked at. A body must
    have arrived within ``body_s``. ``clamp`` refuses event times outside [now - ``max_past_s``,
    now + ``max_future_s``].
    ``user_key_file`` holds the key of the user hashes; empty: made on first start in the data directory.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8321
    token_env: str = ""
    token_file: str = ""
    user_key_file: str = ""
    allowed_hosts: tuple[HostName, ...] = ()
    body_s: Seconds = 60.0
    max_record_bytes: Count = 1_048_576
    max_batch_bytes: Count = 33_554_432
    clamp: bool = True
    max_past_s: Seconds = 7 * 86_400.0
    max_future_s: Seconds = 3_600.0


class JournalSettings(Section, frozen=True, kw_only=True):
    """The embedded journal: its logical partitions (for ever, once made) and how long it keeps records.

    The process is not ready (``/readyz``) while a round of scoring or acting takes longer than
    ``stuck_after_s``, or while a stage has more than ``lag_limit`` records to read.
    """

    partitions: Annotated[int, Meta(ge=1, le=1024)] = 4
    retention_s: Seconds = 7 * 86_400.0
    batch: Count = 512
    tick_s: Seconds = 0.25
    stuck_after_s: Seconds = 120.0
    lag_limit: Count = 100_000


class SegmentSettings(Section, frozen=True, kw_only=True):
    """A slice of the traffic: its name, what it is read from, and how many values are kept apart."""

    name: str
    source: str
    top: Count = 20


class DetectSettings(Section, frozen=True, kw_only=True):
    """Units, references and the promised false alarms.

    A unit is one conversation (or user) within ``unit_s`` seconds of event time; a bucket closes when every
    partition's watermark is ``lateness_s`` past its end. A reference is pinned from the first
    ``reference_units`` closed units of the stable release; its band is widened by ``tolerance``.
    ``false_pages_per_week`` is the budget of all paging streams together, spread over
    ``units_per_week`` units each; ``false_rollback_probability`` is per candidate release. ``max_streams`` is
    per deployment; ``max_deployments``, per partition, bounds those of which nobody declared a release.
    """

    unit_s: Seconds = 60.0
    lateness_s: Annotated[float, Meta(ge=0, le=1e9)] = 30.0
    status_s: Seconds = 60.0
    reference_units: Count = 2000
    tolerance: Annotated[float, Meta(ge=0, lt=0.5)] = 0.01
    false_pages_per_week: Positive = 0.5
    units_per_week: Count = 100_000
    false_rollback_probability: Probability = 0.001
    max_streams: Count = 5_000
    max_deployments: Count = 1_000


class ActSettings(Section, frozen=True, kw_only=True):
    """How the response machine acts and when it believes that it worked.

    ``clock`` is *wall*, or *event*: then act's time is the event time that scoring has reached, which suits
    replays and simulations faster than the wall clock. Times are seconds of that clock. ``converge_s``:
    the bad release's served share must be at most ``share_epsilon`` by then. ``recover_s``: the metric must
    be back by then, over at least ``recover_units`` units.
    """

    dry_run: bool = True
    clock: Literal["wall", "event"] = "wall"
    converge_s: Seconds = 900.0
    recover_s: Seconds = 7_200.0
    recover_units: Count = 200
    share_epsilon: Annotated[float, Meta(ge=0, lt=0.5)] = 0.001
    max_attempts: Count = 8
    allow_networks: tuple[str, ...] = ()
    page_url: str = ""


class LandSettings(Section, frozen=True, kw_only=True):
    """The store: ``dsn`` of a ClickHouse, or empty for the embedded engine in the data directory."""

    dsn: str = ""
    password_env: str = ""
    database: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,62}$")] = "plumbline"
    batch: Count = 2_000
    flush_s: Seconds = 1.0


class KafkaSettings(Section, frozen=True, kw_only=True):
    """The brokers, how to get in, and what the topics are made with.

    ``bootstrap`` names brokers as host:port with commas between. ``partitions`` is for ever: it says where
    every key lives. Submissions hold what producers sent, unredacted: they are kept for ``retention_s``, but
    at most ``submissions_retention_s``. ``tls_cert_file`` with ``tls_key_file`` is this client's certificate.
    SASL passwords are named, by environment variable or file.
    """

    bootstrap: str = "127.0.0.1:9092"
    topic_prefix: Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{0,62}$")] = "plumbline"
    partitions: Annotated[int, Meta(ge=1, le=1024)] = 12
    replication: Annotated[int, Meta(ge=1, le=32)] = 3
    retention_s: Seconds = 7 * 86_400.0
    submissions_retention_s: Seconds = 86_400.0
    max_message_bytes: Annotated[int, Meta(ge=65_536, le=1_073_741_824)] = 2_097_152
    tls: bool = False
    tls_ca_file: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    sasl_username: str = ""
    sasl_password_env: str = ""
    sasl_password_file: str = ""


class ForeignSettings(Section, frozen=True, kw_only=True):
    """Somebody else's topic of JSON objects, whose records become submissions.

    ``topic`` is its name on Kafka; its partitions and keys may be any. ``mapping`` names for each field of a
    submission of ``kind`` the dotted path where it stands (``messages.1.content``); empty: the record's own
    fields. ``constants`` fill what no path fills. ``framed``: every value begins with the five bytes of a
    schema registry (a zero and the schema's number), which are taken off.
    """

    topic: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]{1,245}$")]
    kind: Literal["interaction", "release", "reference", "feedback", "label"] = "interaction"
    mapping: dict[str, str] = {}
    constants: dict[str, Any] = {}
    framed: bool = False


class WorkerSettings(Section, frozen=True, kw_only=True):
    """One worker process of a stage on Kafka.

    A worker that says nothing to its group for ``session_s`` loses its partitions; one that is stopped has
    ``drain_s`` to finish. A worker that has partitions and something to read, and gets nowhere for
    ``stuck_after_s``, ends itself. ``batch`` is the most records per step and ``batch_bytes`` the most bytes
    per fetch and partition. A partition of whose records more than ``flood_share``, out of at least
    ``flood_records`` within a minute, are bad is stopped, and pages. ``tick_s``: how often event time is
    looked after; ``silence_s``: how far behind the wall clock a silent installation's watermark stays.
    ``metrics_host`` and ``metrics_port`` (0: any free port) serve ``/metrics``, ``/healthz`` and ``/readyz``;
    beyond loopback they need a token (``token_env`` or ``token_file``).
    """

    session_s: Annotated[float, Meta(ge=6, le=1800)] = 45.0
    drain_s: Annotated[float, Meta(ge=1, le=300)] = 25.0
    stuck_after_s: Seconds = 60.0
    batch: Count = 2_000
    batch_bytes: Annotated[int, Meta(ge=65_536)] = 4_194_304
    flood_share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    flood_records: Count = 100
    recent_ids: Count = 200_000
    tick_s: Seconds = 1.0
    silence_s: Seconds = 60.0
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    token_env: str = ""
    token_file: str = ""


class ClickHouseDoorSettings(Section, frozen=True, kw_only=True):
    """The ClickHouse HTTP door of the embedded store, for Grafana, curl and landing from another process.

    A reader token is required (``reader_token_env`` or ``reader_token_file``); without a writer token nobody
    writes. ``max_execution_s`` is per query, ``max_result_bytes`` per answer before compression,
    ``max_request_bytes`` per body after decompression. At most ``concurrent`` queries run at once; others
    wait for up to five seconds.
    """

    enabled: bool = False
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8123
    reader_token_env: str = ""
    reader_token_file: str = ""
    writer_token_env: str = ""
    writer_token_file: str = ""
    max_execution_s: Seconds = 30.0
    max_result_bytes: Count = 67_108_864
    max_request_bytes: Count = 67_108_864
    concurrent: Annotated[int, Meta(ge=1, le=64)] = 4


class Settings(Section, frozen=True, kw_only=True):
    """The whole file. Lists of parts (``[[scorer]]`` ...) are in the order in which they act.

    An empty list of scorers or rules means: all of them with their defaults.
    """

    data_dir: str = "plumbline-data"
    door: DoorSettings = DoorSettings()
    journal: JournalSettings = JournalSettings()
    detect: DetectSettings = DetectSettings()
    act: ActSettings = ActSettings()
    land: LandSettings = LandSettings()
    clickhouse_door: ClickHouseDoorSettings = ClickHouseDoorSettings()
    kafka: KafkaSettings = KafkaSettings()
    worker: WorkerSettings = WorkerSettings()
    foreign: tuple[ForeignSettings, ...] = ()
    segment: tuple[SegmentSettings, ...] = ()
    scorer: tuple[dict[str, Any], ...] = ()
    rule: tuple[dict[str, Any], ...] = ()
    notifier: tuple[dict[str, Any], ...] = ()
    rollback: tuple[dict[str, Any], ...] = ()


def load_settings(path: Path | None) -> Settings:
    """Return the settings of the TOML file at `path`, or the defaults if there is none.

    Raises
    ------
    SettingsError
        If the file cannot be read, is not TOML, or holds an unknown key or an impossible value.
    """
    if path is None:
        return Settings()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    return parse_settings(text, source=str(path))


def parse_settings(text: str, *, source: str = "settings") -> Settings:
    r"""Return the settings in TOML `text`; `source` names it in errors.

    Examples
    --------
    >>> parse_settings("[door]\nport = 9000").door.port
    9000
    >>> parse_settings("[door]\nprot = 9000")
    Traceback (most recent call last):
        ...
    streams.settings.SettingsError: settings: Object contains unknown field `prot` - at `$.door`
    """
    try:
        return msgspec.convert(tomllib.loads(text), Settings)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(f"{source}: {error}") from error


def read_secret(*, env: str = "", file: str = "", what: str = "secret") -> str:
    """Return the secret held by environment variable `env` or by `file`; empty if neither is named.

    Raises
    ------
    SettingsError
        If both are named, or the named one is missing or empty. The text never holds the secret.
    """
    if env and file:
        raise SettingsError(f"{what}: name an environment variable or a file, not both")
    if env:
        value = os.environ.get(env, "")
        if not value:
            raise SettingsError(f"{what}: the environment variable {env} is not set")
        return value
    if file:
        try:
            value = Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(f"{what}: {file} cannot be read: {error.strerror}") from error
        if not value:
            raise SettingsError(f"{what}: {file} is empty")
        return value
    return ""
