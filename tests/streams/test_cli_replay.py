"""``replay`` and ``compare``: files in, what moved out, and nothing of a file acts on the terminal."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from detectors.records import Signal, StreamKey
from streams.cli import plumbline
from streams.cli.compare import print_changes
from streams.embedded.journal import Journal

HOSTILE = "\x1b[31m[bold red]x[/]\x07\r\n\u202e<b>"


def call(folder: Path, *arguments: str) -> Result:
    done = CliRunner().invoke(plumbline, [*arguments, "--data-dir", str(folder / "data")])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def line(number: int, **fields: Any) -> bytes:
    body = {"deployment": "d", "release": "1", "id": str(number), "event_time": 1_700_000_000_000 + number,
            "prompt": f"Question {number}?", "response": "An answer.", **fields}  # fmt: skip
    return msgspec.json.encode(body)


def write(folder: Path, *lines: bytes) -> str:
    path = folder / "lines.jsonl"
    path.write_bytes(b"\n".join(lines))
    return str(path)


def test_bad_lines_are_numbered_and_their_neighbours_kept(tmp_path):
    file = write(
        tmp_path, line(1), b"{not json", line(2), b"", b"[1]", b"\xff\xfe", line(3, prompt=5),
        line(4, release="a b"), line(2, prompt="secret text"), b"null", line(5) + b"\r",
    )  # fmt: skip
    done = call(tmp_path, "replay", file)
    assert done.exit_code == 1
    assert done.stdout.strip() == "lines: 3 accepted, 7 refused"
    told = [text.strip().partition(":")[0] for text in done.stderr.splitlines()]
    assert told == ["line 2", "line 5", "line 6", "line 7", "line 8", "line 9", "line 10"]
    assert "secret text" not in done.output
    journal = Journal(tmp_path / "data" / "journal.db", partitions=4)
    assert sorted(row.record.raw_id for row in journal.read_topic("interactions", 0, 100)
                  if hasattr(row.record, "raw_id")) == ["1", "2", "5"]  # fmt: skip
    assert len([row for row in journal.read_topic("scorecards", 0, 100)
                if hasattr(row.record, "scores")]) == 3  # fmt: skip
    journal.close()


def test_a_file_twice_is_all_duplicates_and_changes_nothing(tmp_path):
    file = write(tmp_path, *(line(number) for number in range(30)))
    arguments = ("replay", file, "--deployment", "d", "--release", "1", "--role", "stable")
    first = call(tmp_path, *arguments)
    assert (first.exit_code, first.stdout.strip()) == (0, "lines: 30 accepted")
    cards = scorecards(tmp_path)
    second = call(tmp_path, *arguments)
    assert (second.exit_code, second.stdout.strip()) == (0, "lines: 30 duplicate")
    assert scorecards(tmp_path) == cards
    assert len(cards) == 30


START_MS = 1_700_000_040_000  # a whole minute


def minutes(folder: Path, first: int, *, name: str, release: str = "1", count: int = 4) -> Result:
    """Replay `count` minutes from minute `first` on, a line each second."""
    lines = [
        line(
            second, id=f"{name}-{second}", release=release, event_time=START_MS + (60 * first + second) * 1000
        )
        for second in range(60 * count)
    ]
    return call(folder, "replay", write(folder, *lines), "--deployment", "d", "--release", release)


def test_a_file_that_goes_on_in_the_next_minute_is_not_late(tmp_path):
    for first in (0, 4, 8):
        done = minutes(tmp_path, first, name=f"f{first}")
        assert (done.exit_code, done.output.strip()) == (0, "lines: 240 accepted")
        again = minutes(tmp_path, first, name=f"f{first}")
        assert (again.exit_code, again.output.strip()) == (0, "lines: 240 duplicate")


def test_the_end_of_a_file_closes_its_last_bucket(tmp_path):
    minutes(tmp_path, 0, name="a")
    journal = Journal(tmp_path / "data" / "journal.db", partitions=4)
    ends = {row.record.at_ms for row in journal.read_topic("signals", 0, 10_000)
            if isinstance(row.record, Signal)}  # fmt: skip
    journal.close()
    assert max(ends) == START_MS + 4 * 60_000


def test_late_records_are_told_and_fail(tmp_path):
    assert minutes(tmp_path, 10, name="new").exit_code == 0
    old = minutes(tmp_path, 0, name="old", count=1)
    assert old.exit_code == 1
    assert "lines: 60 accepted" in old.stdout
    assert "d: 60 late: older than what was replayed before" in old.stderr
    assert minutes(tmp_path, 14, name="newer").exit_code == 0  # what was late before is not told again


def test_a_step_decides_the_times_that_lines_name_themselves(tmp_path):
    file = write(tmp_path, *(line(number) for number in range(3)))
    done = call(tmp_path, "replay", file, "--step-s", "60", "--start", "2025-03-01")
    assert done.exit_code == 0, done.output
    journal = Journal(tmp_path / "data" / "journal.db", partitions=4)
    times = sorted(row.record.event_time_ms for row in journal.read_topic("interactions", 0, 100)
                   if hasattr(row.record, "raw_id"))  # fmt: skip
    journal.close()
    assert times == [1_740_787_200_000 + minute * 60_000 for minute in range(3)]


REFUSAL = "I'm sorry, but I can't help with that."
SMALL = """
[detect]
reference_units = 100
units_per_week = 1000
[[scorer]]
name = "helpful"
"""


def test_only_what_this_replay_changed_is_told_and_only_of_its_release(tmp_path):
    (tmp_path / "c.toml").write_text(SMALL, encoding="utf-8")

    def replayed(first: int, releases: str, response: str, role: str) -> str:
        lines = [
            line(n, id=f"{first}-{n}", release=releases[n % len(releases)], conversation=f"{first}-{n}",
                 prompt="How do I reset my password?", response=response,
                 event_time=START_MS + 60_000 * first + n * 2_000)
            for n in range(300)
        ]  # fmt: skip
        done = call(
            tmp_path, "replay", write(tmp_path, *lines), "--config", str(tmp_path / "c.toml"), "--deployment",
            "d", "--release", releases[0], "--role", role, "--start", "2023-11-14",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        return done.stdout

    good = "Open the settings page, choose Security and then Reset password."
    assert "change: " not in replayed(0, "1", good, "stable")
    worse = replayed(10, "23", REFUSAL, "candidate")
    assert "change: 2 helpful (all), reference test" in worse
    assert "change: 3 " not in worse
    assert "change: " not in replayed(20, "21", good, "candidate")


def scorecards(folder: Path) -> list[bytes]:
    journal = Journal(folder / "data" / "journal.db", partitions=4)
    rows = [row.record for row in journal.read_topic("scorecards", 0, 10_000)]
    journal.close()
    return [msgspec.json.encode(record) for record in rows if hasattr(record, "scores")]


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (("prompt",), "write field=path"),
        (("=x",), "write field=path"),
        (("prompt=a", "prompt=b"), "given twice"),
        (("a\x1b[31m",), "write field=path"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_one_line(tmp_path, pairs, told):
    options = [part for pair in pairs for part in ("--map", pair)]
    done = call(tmp_path, "replay", write(tmp_path, line(1)), *options)
    assert done.exit_code == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr


def test_a_mapping_reads_other_files_and_names_the_lines_it_does_not_fit(tmp_path):
    other = {"uid": "u1", "messages": [{"content": "Hi?"}, {"content": {"answer": "Hello."}}]}
    file = write(tmp_path, msgspec.json.encode(other), msgspec.json.encode({**other, "messages": []}))
    done = call(
        tmp_path, "replay", file, "--deployment", "d", "--release", "1", "--step-s", "60",
        "--map", "conversation=uid", "--map", "prompt=messages.0.content",
        "--map", "response=messages.1.content.answer",
    )  # fmt: skip
    assert done.exit_code == 1
    assert "lines: 1 accepted, 1 refused" in done.stdout
    assert "line 2: prompt: the path 'messages.0.content' leads nowhere at '0'" in done.stderr


@pytest.mark.parametrize("name", ["a b", HOSTILE, "erika@example.org", "x" * 65, "\udcff"])
def test_a_declaration_goes_through_the_door(tmp_path, name):
    file = write(tmp_path, line(1))
    done = call(tmp_path, "replay", file, "--deployment", "d", "--release", name, "--role", "stable")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert name not in done.output
    assert not (tmp_path / "data" / "journal.db").exists() or not scorecards(tmp_path)


def test_a_role_needs_a_name(tmp_path):
    assert call(tmp_path, "replay", write(tmp_path, line(1)), "--role", "stable").exit_code == 2


def two_releases(folder: Path) -> None:
    """Write 40 conversations that both releases answered: the new one refuses them all."""
    refusal = "I'm sorry, but I can't help with that."
    old = [line(n, conversation=f"c{n}", response="Open the settings page.") for n in range(40)]
    new = [line(100 + n, conversation=f"c{n}", release="2", response=refusal) for n in range(40)]
    done = call(folder, "replay", write(folder, *old, *new), "--deployment", "d", "--release", "2",
                "--compare-with", "1")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "refusal" in done.stdout


def test_two_releases_are_compared_pair_by_pair(tmp_path):
    two_releases(tmp_path)
    table = call(tmp_path, "compare", "d", "1", "2")
    assert table.exit_code == 0
    assert "moved: " in table.stdout
    assert "40 paired" in table.stdout
    rows = {
        row["metric"]: row
        for row in msgspec.json.decode(call(tmp_path, "compare", "d", "1", "2", "--json").stdout)
    }
    refusal = rows["refusal"]
    assert (refusal["n_old"], refusal["n_new"], refusal["paired"], refusal["moved"]) == (40, 40, True, True)
    assert refusal["difference"] > 0.5
    low, high, level = refusal["interval"]
    assert low <= refusal["difference"] <= high
    assert level == 0.95
    assert "refusal up" in table.stdout


@pytest.mark.parametrize("release", ["3", HOSTILE])
def test_a_release_without_scores_is_one_line(tmp_path, release):
    call(tmp_path, "replay", write(tmp_path, line(1)))
    done = call(tmp_path, "compare", "d", "1", release)
    assert done.exit_code == 2
    assert "has no scored interactions here; known: 1" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not {"\x1b", "\x07", "\u202e"} & set(done.output)


def test_segments_of_hostile_text_do_nothing_to_the_terminal(capsys):
    key = StreamKey("d", "1", f"plan={HOSTILE}", "refusal", "reference")
    print_changes([Signal(signal_id="s", kind="change", stream=key, at_ms=0, n=1)])
    text = capsys.readouterr().out
    assert len(text.splitlines()) == 1
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(text)
    assert "refusal" in text
