"""``reference``: the list, a new normal by release and span, a file that goes over, who may not approve."""

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from detectors.records import Interaction, Reference, Release, Signal
from streams.assembly import assemble
from streams.cli import plumbline
from streams.embedded.journal import Journal
from streams.embedded.lock import lock_directory
from streams.embedded.pipeline import Pipeline
from streams.embedded.ticker import Ticker
from streams.references import References
from streams.settings import parse_settings
from tests.conftest import admitted, support_payloads

CONFIG = """
[journal]
partitions = 2
[door]
clamp = false
[detect]
unit_s = 5
lateness_s = 2
reference_units = 150
[[segment]]
name = "language"
source = "language"
top = 2
"""
COUNT = 600


@cache
def entries() -> tuple:
    return tuple(admitted(support_payloads(COUNT, seed=5, canary_from=10**6)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "c.toml").write_text(CONFIG)
    (tmp_path / "data").mkdir()
    half = [one for one in entries() if is_early(one.record)]
    advance(tmp_path, half)
    return tmp_path


def is_early(record: Any) -> bool:
    return isinstance(record, Release) or record.event_time_ms < middle_ms()


def middle_ms() -> int:
    times = sorted(one.record.event_time_ms for one in entries() if isinstance(one.record, Interaction))
    return times[len(times) * 3 // 4]


def settings(folder: Path):
    loaded = parse_settings(CONFIG)
    return msgspec.structs.replace(loaded, data_dir=str(folder / "data"))


def advance(folder: Path, some=()) -> list:
    """Admit records, run the stages until they have nothing to do, and return what the topics hold."""
    journal = Journal(folder / "data" / "journal.db", partitions=2)
    journal.admit(list(some))
    pipeline = Pipeline(journal, assemble(settings(folder)).stages, batch=200)
    pipeline.drain()
    while Ticker(journal, pipeline.watermarks, live=False).tick():
        pipeline.drain()
    found = [row.record for topic in ("references", "signals") for row in journal.read_topic(topic, 0, 10**6)]
    journal.close()
    return found


def call(folder: Path, *arguments: str) -> Result:
    done = CliRunner().invoke(
        plumbline,
        ["reference", *arguments, "-c", str(folder / "c.toml"), "--data-dir", str(folder / "data")],
    )
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def listed(folder: Path) -> list[Reference]:
    return msgspec.json.decode(call(folder, "list", "--json").stdout, type=list[Reference])


def statuses(found: list, segment: str = "all") -> list[Signal]:
    return [
        one for one in found
        if isinstance(one, Signal) and one.kind == "status" and one.stream.test == "reference"
        and one.stream.segment == segment and one.stream.metric == "helpful"
    ]  # fmt: skip


def test_the_list_tells_what_is_in_force_while_a_monitor_runs(folder):
    held = lock_directory(folder / "data")
    found = listed(folder)
    told = call(folder, "list", "--deployment", "support").stdout
    held.close()
    assert {one.segment for one in found} >= {"all"}
    assert all(one.approved_at_ms is None and one.n >= 150 for one in found)
    assert found[0].reference_id[:12] in told
    assert "its first units" in told
    shown = msgspec.json.decode(call(folder, "show", found[0].reference_id[:8]).stdout, type=Reference)
    assert shown == found[0]


def test_pinning_a_release_makes_a_record_that_detection_follows(folder):
    before = {(one.metric, one.segment): one for one in listed(folder)}
    done = call(folder, "pin", "--deployment", "support", "--release", "2.3")
    assert (done.exit_code, "0 were there" in done.stdout) == (0, True)
    again = call(folder, "pin", "--deployment", "support", "--release", "2.3")
    assert again.stdout.startswith("0 references approved")
    assert {(one.metric, one.segment): one for one in listed(folder)} == before  # until time moves on
    later = [one for one in entries() if not is_early(one.record)]
    found = advance(folder, later)
    after = {(one.metric, one.segment): one for one in listed(folder)}
    assert after["helpful", "all"].n > before["helpful", "all"].n
    assert after["helpful", "all"].approved_at_ms is not None
    assert sum(cell.n for cell in after["helpful", "all"].cells.values()) == after["helpful", "all"].n
    assert statuses(found)[-1].reference_id == after["helpful", "all"].reference_id
    approved = [one for one in found if isinstance(one, Reference) and one.approved_at_ms is not None]
    assert {one.reference_id for one in approved} == {
        one.reference_id for one in after.values() if one.approved_at_ms is not None
    }


def test_the_first_units_measured_are_the_reference_that_detection_pinned(folder):
    """The same units, the same numbers, the same id: a slice means the same to both."""
    for pinned in [one for one in listed(folder) if one.metric == "helpful"]:
        with References(settings(folder)) as references:
            measured = references.measure("support", "2.3", from_ms=pinned.first_ms, to_ms=pinned.last_ms)
        (same,) = [one for one in measured if (one.segment, one.metric) == (pinned.segment, pinned.metric)]
        assert same == pinned


def test_an_export_goes_over_to_another_installation(folder, tmp_path_factory):
    lines = call(folder, "export", "--deployment", "support")
    assert lines.exit_code == 0
    file = folder / "references.jsonl"
    file.write_text(lines.stdout)
    other = tmp_path_factory.mktemp("other")
    (other / "c.toml").write_text(CONFIG)
    (other / "data").mkdir()
    advance(other, [one for one in entries() if is_early(one.record)][:100])
    assert listed(other) == []
    done = call(other, "pin", "--deployment", "support", "--file", str(file))
    assert done.exit_code == 0, done.output
    advance(other, [one for one in entries() if is_early(one.record)][100:])
    ids = {one.reference_id for one in listed(folder)}
    assert {one.reference_id for one in listed(other) if one.approved_at_ms is not None} == ids


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pin", "--deployment", "support"], "name a --release, or a --file"),
        (["pin", "--deployment", "support", "--release", "none"], "too few scored interactions"),
        (["pin", "--deployment", "support", "--release", "2.3", "--from", "2031-01-01"], "too few scored"),
        (["show", "zz"], "0 references in force"),
        (["show", ""], "references in force have an id"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(folder, arguments, told):
    done = call(folder, *arguments)
    assert done.exit_code == 2
    assert told in done.stderr


def test_a_file_that_is_none_is_refused_whole(folder):
    good = call(folder, "export", "--deployment", "support").stdout.splitlines()[0]
    for bad in ("{", "[1]", good.replace('"mean":0', '"mean":7'), good.replace("support", "other")):
        file = folder / "bad.jsonl"
        file.write_text(f"{good}\n{bad}\n")
        done = call(folder, "pin", "--deployment", "support", "--file", str(file))
        assert done.exit_code == 2, bad
        assert len(done.stderr.strip().splitlines()) == 1
    assert not [one for one in advance(folder) if isinstance(one, Reference) and one.approved_at_ms]


def test_a_running_monitor_is_told_over_http_and_not_behind_its_back(folder):
    held = lock_directory(folder / "data")
    done = call(folder, "pin", "--deployment", "support", "--release", "2.3")
    held.close()
    assert done.exit_code == 1
    assert "reference" not in [type(one).__name__ for one in advance(folder)]


def test_without_a_journal_nothing_is_made(tmp_path):
    (tmp_path / "c.toml").write_text(CONFIG)
    done = call(tmp_path, "list")
    assert (done.exit_code, "there is no journal" in done.stderr) == (1, True)
    assert not (tmp_path / "data").exists()
