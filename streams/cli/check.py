"""``plumbline check``, ``schema`` and ``components``: what is right, what flows, what there is."""

import inspect
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from detectors.records.codec import json_schemas
from detectors.registry import Registry
from detectors.rules import RULES
from detectors.scorers import SCORERS
from streams.assembly import assemble
from streams.cli.failure import told_in_one_line
from streams.door.http import require_token
from streams.door.submission import SUBMISSIONS
from streams.embedded.errors import StorageError
from streams.embedded.user_key import load_user_key
from streams.kafka.layout import check_foreign
from streams.kafka.vitals import require_worker_token
from streams.notifiers import NOTIFIERS
from streams.notifiers.webhook import Webhook
from streams.rollbacks import ROLLBACKS
from streams.settings import Settings, SettingsError, load_settings, read_secret


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--defaults", is_flag=True, help="Print every setting with its default, as JSON, and stop.")
@told_in_one_line
def check(file: Path | None, *, defaults: bool) -> None:
    """Check the configuration FILE: every key, part, secret name and number.

    Nothing is opened, started or written. Exit code 0: it can be used, though a warning may tell of what is
    missing; 2: it cannot, and the line says why.

    \b
      plumbline check plumbline.toml
      plumbline check --defaults
    """  # noqa: D301 - click wants the character itself
    if defaults:
        click.echo(msgspec.json.format(msgspec.json.encode(Settings()), indent=2))
        return
    if file is None:
        raise click.UsageError("name a configuration FILE, or ask for --defaults")
    settings = load_settings(file)
    parts = assemble(settings)
    require_token(settings.door)
    require_worker_token(settings.worker)
    read_secret(env=settings.land.password_env, what="land: store password")
    if settings.door.user_key_file:
        try:
            load_user_key(Path(settings.data_dir), settings.door.user_key_file)
        except StorageError as error:
            raise SettingsError(f"door.user_key_file: {error}") from error
    _check_kafka(settings)
    targets = ", ".join(sorted(parts.targets)) or "none: decisions page, nothing is rolled back"
    click.echo(f"{file}: ok")
    click.echo(f"  notifiers: {', '.join(parts.notifiers)}")
    if not settings.act.page_url and any(isinstance(one, Webhook) for one in parts.notifiers.values()):
        click.echo(
            "  warning: act.page_url is empty: pages sent by webhook will not link to what they tell of; "
            "set it to where people reach the page",
            err=True,
        )
    click.echo(f"  rollback targets for deployments: {targets}{' (dry run)' if settings.act.dry_run else ''}")


def _check_kafka(settings: Settings) -> None:
    """Refuse what no Kafka client and no reader of foreign topics could use; raises SettingsError."""
    check_foreign(settings.kafka, settings.foreign)
    for at, foreign in enumerate(settings.foreign):
        known = {field.encode_name for field in msgspec.structs.fields(SUBMISSIONS[foreign.kind])}
        for part in ("mapping", "constants"):
            for name in sorted(getattr(foreign, part).keys() - known):
                click.echo(
                    f"  warning: foreign[{at}].{part}: {name} is no field of a submission of kind "
                    f"{foreign.kind}: it is kept as an extra field; is it misspelt?",
                    err=True,
                )
    try:
        from streams.kafka.connection import client_options  # noqa: PLC0415 - an optional part
    except ModuleNotFoundError:
        return  # without Kafka's clients its settings are nobody's
    client_options(settings.kafka)


@click.command()
@click.option("--openapi", is_flag=True, help="Print the door's OpenAPI 3.1 document instead.")
def schema(*, openapi: bool) -> None:
    """Print the JSON Schemas of all records that flow.

    \b
      plumbline schema > records.schema.json
      plumbline schema --openapi > door.openapi.json
    """  # noqa: D301 - click wants the character itself
    if openapi:
        from streams.door.openapi import describe_door  # noqa: PLC0415 - half a second that others need not wait

        document: Any = describe_door(Settings().door)
    else:
        document = json_schemas()
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def components(*, as_json: bool) -> None:
    """List every scorer, rule, notifier and rollback target, with its settings.

    What stands here under a name can stand in a configuration as [[scorer]], [[rule]], [[notifier]] or
    [[rollback]] with `name`.

    \b
      plumbline components
      plumbline components --json
    """  # noqa: D301 - click wants the character itself
    registries: tuple[Registry[Any], ...] = (SCORERS, RULES, NOTIFIERS, ROLLBACKS)
    found = {
        registry.kind: [_describe(registry, name) for name in registry.names()] for registry in registries
    }
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    for kind, parts in found.items():
        click.echo(f"{kind}s")
        for part in parts:
            click.echo(f"  {part['name']}: {part['summary']}")
            for setting, default in part["settings"].items():
                click.echo(f"      {setting} = {default}")


def _describe(registry: Registry[Any], name: str) -> dict[str, Any]:
    part = registry.get(name)
    settings = {
        parameter.name: "(required)" if parameter.default is parameter.empty else repr(parameter.default)
        for parameter in list(inspect.signature(part.__init__).parameters.values())[1:]
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return {"name": name, "summary": (inspect.getdoc(part) or "").partition("\n")[0], "settings": settings}
