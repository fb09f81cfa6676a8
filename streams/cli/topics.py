"""``plumbline topics``: make and check what flows over Kafka."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from streams.cli.failure import told_in_one_line
from streams.cli.run import CONFIG
from streams.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from streams.kafka.topics import TopicAdmin

BOOTSTRAP = click.option("--bootstrap", help="Brokers as host:port instead of the configuration's.")


@click.group()
def topics() -> None:
    """Kafka topics: records, dead letters and state, as the [kafka] section asks.

    \b
      plumbline topics create -c plumbline.toml
      plumbline topics check -c plumbline.toml

    Exit code 0: every topic is there and as configured; 1: one is not, or the broker cannot be asked;
    2: the configuration is wrong. Nothing is ever changed or deleted.
    """  # noqa: D301 - click wants the character itself


@topics.command()
@CONFIG
@BOOTSTRAP
@told_in_one_line
def create(config: Path | None, bootstrap: str | None) -> None:
    """Make the topics that are missing; nothing that is there is changed.

    A topic that is there and differs (partitions, replicas, retention) ends it with exit code 1.
    """
    with _admin(config, bootstrap) as admin:
        made = admin.create()
    for name in made:
        click.echo(f"made {name}")
    click.echo(f"{len(made)} topics made" if made else "every topic is there")


@topics.command()
@CONFIG
@BOOTSTRAP
@told_in_one_line
def check(config: Path | None, bootstrap: str | None) -> None:
    """Say whether every topic is there and as configured; exit code 1 if not."""
    with _admin(config, bootstrap) as admin:
        compared = admin.check()
    for spec in compared.present:
        kept = (
            "compacted"
            if spec.configs["cleanup.policy"] == "compact"
            else _kept(spec.configs["retention.ms"])
        )
        click.echo(f"{spec.name}: {spec.partitions} partitions, {spec.replication} replicas, {kept}")


def _admin(config: Path | None, bootstrap: str | None) -> "TopicAdmin":
    loaded = load_settings(config)
    settings = loaded.kafka
    if bootstrap:
        settings = msgspec.structs.replace(settings, bootstrap=bootstrap)
    try:
        from streams.kafka.topics import TopicAdmin  # noqa: PLC0415 - an optional part
    except ModuleNotFoundError as error:
        raise SettingsError('Kafka needs its clients: pip install "plumbline[kafka]"') from error
    return TopicAdmin(settings, loaded.foreign)


def _kept(milliseconds: str) -> str:
    return "kept for ever" if milliseconds == "-1" else f"kept {int(milliseconds) / 86_400_000:g} days"
