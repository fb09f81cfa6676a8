"""``plumbline deadletters``: what could not be used, and sending it again."""

import base64
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from streams.cli.failure import FAILED, one_line, told_in_one_line
from streams.cli.run import CONFIG
from streams.cli.topics import BOOTSTRAP
from streams.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from streams.kafka.dead_letter_log import DeadLetterLog, Found

F = TypeVar("F", bound=Callable[..., Any])
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


class Since(click.ParamType):
    """A time as Unix milliseconds: ``90s``, ``30m``, ``2h`` or ``1d`` ago, or RFC 3339."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return `value` in Unix milliseconds."""
        if isinstance(value, int):
            return value
        if ago := re.fullmatch(r"([0-9]{1,9})([smhd])", value):
            return time.time_ns() // 1_000_000 - int(ago[1]) * _UNITS_S[ago[2]] * 1000
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                "write 90s, 30m, 2h or 1d for so long ago, or a time such as 2026-11-21T09:30Z", param, ctx
            )
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _filters(command: F) -> F:
    """Give `command` the options that choose dead letters."""
    for option in (
        click.option("--limit", type=click.IntRange(1), help="At most so many."),
        click.option("--since", type=Since(), help="Written since then: 2h, 1d, or RFC 3339."),
        click.option("--reason", help="Of this reason alone, such as id_conflict."),
        click.option("--origin", help="From this topic alone: submissions, or its name on Kafka."),
        BOOTSTRAP,
        CONFIG,
    ):
        command = option(command)
    return command


@click.group()
def deadletters() -> None:
    """Records that no stage could use, with their original bytes: seen, and sent again.

    \b
      plumbline deadletters list --since 2h
      plumbline deadletters show plumbline.submissions.v1.dlq/3/17 --original
      plumbline deadletters redrive --reason mapping_failed --dry-run
      plumbline deadletters redrive --reason mapping_failed

    Exit code 0: done; 1: the broker refused, or some of those chosen cannot be sent; 2: asked for wrongly.
    """  # noqa: D301 - click wants the character itself


@deadletters.command(name="list")
@_filters
@_JSON
@told_in_one_line
def list_letters(  # noqa: PLR0917 - click hands options over by position
    config: Path | None,
    bootstrap: str | None,
    origin: str | None,
    reason: str | None,
    since: int | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """List dead letters: where they are, where they came from, and why; nothing of their content."""
    with _open(config, bootstrap) as log:
        count = 0
        for found in _choose(log, origin, reason, since):
            count += 1
            click.echo(msgspec.json.encode(_describe(found)).decode() if as_json else _line(found))
            if count == limit:
                break
    if not as_json:
        click.echo(f"{count} dead letters" if count else "no dead letters")


@deadletters.command()
@click.argument("place", metavar="TOPIC/PARTITION/OFFSET")
@CONFIG
@BOOTSTRAP
@click.option("--original", is_flag=True, help="Print the record itself: it may hold what a user wrote.")
@_JSON
@told_in_one_line
def show(place: str, config: Path | None, bootstrap: str | None, *, original: bool, as_json: bool) -> None:
    """Show the dead letter that stands at TOPIC/PARTITION/OFFSET, as `list` names it.

    Its key, headers and value are masked unless --original is given; nothing in them can act on a terminal.
    """
    topic, partition, offset = _parse_place(place)
    with _open(config, bootstrap) as log:
        if topic not in log.topics:
            raise SettingsError(
                f"{topic}: not one of our dead letter topics: see `plumbline deadletters list`"
            )
        letters = (one for one in log.read([topic]) if not one.sent)
        same = (one for one in letters if (one.partition, one.offset) == (partition, offset))
        found = next(same, None)
    if found is None:
        raise SettingsError(f"{place}: nothing is there (any more): see `plumbline deadletters list`")
    shown = _describe(found) | _content(found, original=original, as_json=as_json)
    if as_json:
        click.echo(msgspec.json.encode(shown))
        return
    for name, value in shown.items():
        click.echo(f"{name}: {value}")


@deadletters.command()
@_filters
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@click.option("--again", is_flag=True, help="Also what a redrive has sent before.")
@_JSON
@told_in_one_line
def redrive(  # noqa: PLR0917 - click hands options over by position
    config: Path | None,
    bootstrap: str | None,
    origin: str | None,
    reason: str | None,
    since: int | None,
    limit: int | None,
    dry_run: bool,
    again: bool,
    as_json: bool,
) -> None:
    """Send dead letters to the topics they came from, once more.

    A record that came several times is sent once, and a letter that was sent is not sent again, unless with
    --again. Then the door knows the record by its id, as long as it remembers that (worker.recent_ids);
    after that it would count twice. Exit code 1 if some of those chosen cannot be sent.
    """
    filters = (origin, reason, since)
    with _open(config, bootstrap) as log:
        if dry_run:
            plan = _sendable(log, filters, limit, again=again)
            _tell_redrive(plan, 0, dry_run=True, as_json=as_json)
        else:
            with log.redriving() as redriving:
                plan = _sendable(log, filters, limit, again=again)
                sent: list[str] = []
                letters = (found for found in _choose(log, *filters) if found.place in plan.chosen)
                try:
                    redriving.send(letters, lambda found: sent.append(found.place))
                finally:
                    _tell_redrive(plan, len(sent), dry_run=False, as_json=as_json)
    if plan.kept:
        raise SystemExit(FAILED)


def _open(config: Path | None, bootstrap: str | None) -> "DeadLetterLog":
    settings: Settings = load_settings(config)
    if bootstrap:
        kafka = msgspec.structs.replace(settings.kafka, bootstrap=bootstrap)
        settings = msgspec.structs.replace(settings, kafka=kafka)
    try:
        from streams.kafka.dead_letter_log import DeadLetterLog  # noqa: PLC0415 - an optional part
    except ModuleNotFoundError as error:
        raise SettingsError('Kafka needs its clients: pip install "plumbline[kafka]"') from error
    return DeadLetterLog(settings)


_Filters = tuple[str | None, str | None, int | None]


def _choose(
    log: "DeadLetterLog",
    origin: str | None,
    reason: str | None,
    since: int | None,
    sent: set[str] | None = None,
) -> "Iterator[Found]":
    """Yield the letters that are asked for; put into `sent` where those stand that were sent before."""
    topics = [log.topic_of(origin)] if origin else log.topics
    for found in log.read(topics, since_ms=since or 0):
        if found.sent:
            if sent is not None:
                sent.update(f"{found.topic}/{found.partition}/{offset}" for offset in found.sent)
        elif reason is None or (found.letter is not None and found.letter.reason == reason):
            yield found


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where the letters stand that are to be sent, how many were sent before, and cannot be sent, by why."""

    chosen: frozenset[str]
    sent_before: int
    kept: dict[str, int]


def _sendable(log: "DeadLetterLog", filters: _Filters, limit: int | None, *, again: bool) -> _Plan:
    """Return which letters are to be sent: of each record the latest, unless it was sent before."""
    latest: dict[str, tuple[int, str]] = {}
    kept: dict[str, int] = {}
    sent: set[str] = set()
    for found in _choose(log, *filters, sent):
        if why := _unsendable(log, found):
            kept[why] = kept.get(why, 0) + 1
        elif found.letter is not None:
            first, redrives = found.letter.first_place, found.letter.redrives
            latest[first] = max(latest.get(first, (-1, "")), (redrives, found.place))
    places = [place for _, place in latest.values()]
    fresh = places if again else [place for place in places if place not in sent]
    return _Plan(chosen=frozenset(fresh[:limit]), sent_before=len(places) - len(fresh), kept=kept)


def _unsendable(log: "DeadLetterLog", found: "Found") -> str:
    """Return why a dead letter cannot be sent again; empty if it can."""
    letter = found.letter
    if letter is None:
        return "they do not say where they came from"
    if letter.topic not in log.origins:
        return f"only stages write to {one_line(letter.topic)}: a record of it means nothing alone"
    return "they have no value" if letter.value is None else ""


def _tell_redrive(plan: _Plan, sent: int, *, dry_run: bool, as_json: bool) -> None:
    chosen, before, kept = len(plan.chosen), plan.sent_before, plan.kept
    if as_json:
        told = {"chosen": chosen, "sent": sent, "sent_before": before, "dry_run": dry_run, "kept": kept}
        click.echo(msgspec.json.encode(told))
        return
    click.echo(f"{chosen} would be sent" if dry_run else f"{sent} of {chosen} sent")
    if before:
        click.echo(f"{before} not sent: a redrive has sent them before: add --again", err=True)
    for why, count in kept.items():
        click.echo(f"{count} not sent: {why}", err=True)


def _describe(found: "Found") -> dict[str, Any]:
    """Return what can be said of a dead letter without showing any of it."""
    shown: dict[str, Any] = {"place": found.place, "written_at": _time(found.timestamp_ms)}
    letter = found.letter
    if letter is None:
        return shown | {"reason": "unknown", "message": "no header says where it came from"}
    return shown | {
        "origin": one_line(f"{letter.topic}/{letter.partition}/{letter.offset}"),
        "stage": one_line(letter.stage),
        "reason": one_line(letter.reason),
        "message": one_line(letter.message) if letter.is_ours else "(of another program: see --original)",
        "bytes": len(letter.value or b""),
        "redrives": letter.redrives,
    }


def _line(found: "Found") -> str:
    shown = _describe(found)
    redrives = f", sent again {shown['redrives']} times" if shown.get("redrives") else ""
    came = f" from {shown['origin']} at {shown['stage'] or '?'}" if "origin" in shown else ""
    return (
        f"{shown['place']}  {shown['written_at']}{came}: {shown['reason']} ({shown['message']}), "
        f"{shown.get('bytes', 0)} bytes{redrives}"
    )


def _content(found: "Found", *, original: bool, as_json: bool) -> dict[str, Any]:
    letter = found.letter
    if letter is None:
        return {}
    shown: Callable[[bytes | None], str] = _masked
    if original:
        shown = _base64 if as_json else _harmless
    headers = {one_line(name): shown(value) for name, value in letter.headers}
    content: dict[str, Any] = {"message": one_line(letter.message)} if original else {}
    content |= {"key": shown(letter.key), "headers": headers, "value": shown(letter.value)}
    if not as_json:
        content["headers"] = ", ".join(f"{name}={value}" for name, value in headers.items()) or "none"
    return content


def _masked(content: bytes | None) -> str:
    return "none" if content is None else f"({len(content)} bytes)"


def _base64(content: bytes | None) -> str:
    return base64.b64encode(content or b"").decode()


def _harmless(content: bytes | None) -> str:
    r"""Return `content` as text in which nothing moves a cursor, hides, or turns the line around.

    Examples
    --------
    >>> print(_harmless("\x1b[2Jä\u202e".encode() + b"\xff"))
    \x1b[2Jä\u202e\xff
    """
    text = (content or b"").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _parse_place(place: str) -> tuple[str, int, int]:
    topic, partition, offset = [*place.rsplit("/", 2), "", ""][:3]
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        raise SettingsError(
            f"{place!r}: write topic/partition/offset, as `plumbline deadletters list` names it"
        )
    return topic, int(partition), int(offset)


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(max(0, at_ms) / 1000, UTC).isoformat(timespec="seconds")
