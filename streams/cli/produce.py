"""``plumbline produce``: files of records to Kafka, with nothing lost when the broker is away."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from detectors.records.ids import content_digest, derive_id
from plumbline.delivery import ClientError
from streams.cli.failure import FAILED, told_in_one_line
from streams.cli.run import CONFIG, DATA_DIR
from streams.cli.topics import BOOTSTRAP
from streams.door.submission import Kind, RefusedError, read_submission
from streams.kafka.errors import BrokerError
from streams.mapping import MappingError, apply_mapping, parse_mapping
from streams.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from plumbline.kafka_client import KafkaClient

_BATCH: Final = 500
_TOLD_LINES: Final = 20


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@CONFIG
@BOOTSTRAP
@DATA_DIR
@click.option(
    "--kind",
    type=click.Choice(["interaction", "release", "reference", "feedback", "label"]),
    default="interaction",
    show_default=True,
    help="What the lines are.",
)
@click.option(
    "--map", "pairs", multiple=True, metavar="FIELD=PATH", help="Where FIELD stands in a line; repeatable."
)
@click.option("--deployment", help="For lines that name none.")
@click.option("--release", help="For lines that name none.")
@click.option(
    "--wait-s",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="How long to wait at the end for what the broker has not taken yet.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable result.")
@told_in_one_line
def produce(  # noqa: PLR0917 - click hands options over by position
    file: Path,
    config: Path | None,
    bootstrap: str | None,
    data_dir: str | None,
    kind: Kind,
    pairs: tuple[str, ...],
    deployment: str | None,
    release: str | None,
    wait_s: float,
    as_json: bool,
) -> None:
    """Send FILE (- for standard input), one JSON object a line, to the topic of submissions.

    Lines are in the form of the HTTP door, or are read through --map. A line that the door would refuse is
    told and not sent. A line without an id gets one from its number and content, so that a file that is sent
    twice counts once. What the broker does not take waits in the data directory, and is sent by the next
    `plumbline produce`; an empty FILE sends just that.

    \b
      plumbline produce -c plumbline.toml answers.jsonl
      plumbline produce -c plumbline.toml --kind release releases.jsonl
      zcat chats.gz | plumbline produce -c plumbline.toml --deployment support --release 2.4 \\
          --map prompt=messages.0.content --map response=messages.1.content -

    Exit code 0: the broker has everything; 1: lines were refused, or some still wait.
    """  # noqa: D301 - click wants the character itself
    settings = load_settings(config)
    constants = {name: value for name, value in (("deployment", deployment), ("release", release)) if value}
    lines = _Lines(kind, parse_mapping(pairs), constants, settings)
    spool = Path(data_dir or settings.data_dir) / "spool"
    try:
        client = _client(settings, bootstrap, spool)
        try:
            accepted = _send_all(client, lines, file)
        finally:
            waiting = client.close(wait_s)
    except ClientError as error:
        raise BrokerError(str(error)) from error
    refused = sum(lines.refused.values())
    if as_json:
        click.echo(msgspec.json.encode({"accepted": accepted, "refused": lines.refused, "waiting": waiting}))
    else:
        click.echo(f"{accepted} accepted, {refused} refused, {waiting} wait for the broker")
    if waiting:
        click.echo(
            f"plumbline: {waiting} records wait in {spool}: bring the broker back and run this again",
            err=True,
        )
    if refused or waiting:
        raise SystemExit(FAILED)


class _Lines:
    """The lines of a file as submissions; those that are none are told and counted by reason."""

    def __init__(
        self, kind: Kind, mapping: Mapping[str, str], constants: Mapping[str, Any], settings: Settings
    ) -> None:
        self.kind, self._mapping, self._constants = kind, mapping, constants
        self._max_bytes = settings.door.max_record_bytes
        self.refused: dict[str, int] = {}

    def read(self, file: IO[bytes], progress: Progress, task: Any) -> Iterator[dict[str, Any]]:
        """Yield what every line of `file` holds."""
        number = 0
        while line := file.readline(self._max_bytes + 2):
            number += 1
            rest = line
            while rest and not rest.endswith(b"\n"):  # the door refuses it; its end is not another line
                rest = file.readline(self._max_bytes)
                progress.advance(task, len(rest))
            progress.advance(task, len(line))
            if line.strip():
                yield from self._convert(number, line)

    def _convert(self, number: int, line: bytes) -> Iterator[dict[str, Any]]:
        try:
            if self._mapping or self._constants:
                line = apply_mapping(line, self._mapping, self._constants)
            read_submission(line.strip(), self.kind, max_bytes=self._max_bytes)
            item: dict[str, Any] = msgspec.json.decode(line)
        except MappingError as error:
            self._refuse(number, "mapping_failed", str(error))
            return
        except RefusedError as error:
            self._refuse(number, error.code, error.message)
            return
        if self.kind not in {"release", "reference"} and not item.get("id"):
            item["id"] = derive_id("line", str(number), content_digest(line.strip()))
        yield item

    def _refuse(self, number: int, code: str, message: str) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1
        if sum(self.refused.values()) <= _TOLD_LINES:
            click.echo(f"line {number}: {message}", err=True)


def _send_all(client: "KafkaClient", lines: _Lines, file: Path) -> int:
    """Send every line and return how many the broker or the spool has taken."""
    accepted = 0
    is_stdin = str(file) == "-"
    source = cast("IO[bytes]", sys.stdin.buffer) if is_stdin else file.open("rb")
    try:
        with _progress() as progress:
            task = progress.add_task(file.name, total=None if is_stdin else file.stat().st_size)
            batch: list[dict[str, Any]] = []
            for item in lines.read(source, progress, task):
                batch.append(item)
                if len(batch) == _BATCH:
                    accepted += _send(client, lines, batch)
                    batch = []
            accepted += _send(client, lines, batch)
    finally:
        if not is_stdin:
            source.close()
    return accepted


def _send(client: "KafkaClient", lines: _Lines, batch: list[dict[str, Any]]) -> int:
    accepted = 0
    for verdict in client.submit(lines.kind, batch):
        if verdict.verdict == "accepted":
            accepted += 1
        else:
            lines.refused[verdict.code] = lines.refused.get(verdict.code, 0) + 1
    return accepted


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def _client(settings: Settings, bootstrap: str | None, spool: Path) -> "KafkaClient":
    kafka = settings.kafka
    if bootstrap:
        kafka = msgspec.structs.replace(kafka, bootstrap=bootstrap)
    try:
        from plumbline.kafka_client import KafkaClient  # noqa: PLC0415 - an optional part
        from streams.kafka.connection import client_options  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError('Kafka needs its clients: pip install "plumbline[kafka]"') from error
    options = client_options(kafka)
    return KafkaClient(
        ",".join(options["bootstrap_servers"]),
        spool_dir=spool,
        prefix=kafka.topic_prefix,
        max_record_bytes=settings.door.max_record_bytes,
        tls=options.get("ssl_context"),
        sasl_mechanism=kafka.sasl_mechanism,
        username=options.get("sasl_plain_username", ""),
        password=options.get("sasl_plain_password", ""),
    )
