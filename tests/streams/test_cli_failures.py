"""Whatever is wrong, a command ends with one line that names the remedy, and with another code than 0."""

import contextlib
import fcntl
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from streams.cli import plumbline as command_line
from streams.embedded.journal import Journal

PROGRAM = [sys.executable, "-c", "from streams.cli import main; main()"]
LINE = msgspec.json.encode({"deployment": "d", "release": "1", "prompt": "Hi", "response": "Hello"})


def plumbline(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def in_process(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    with contextlib.chdir(folder):
        done = CliRunner().invoke(command_line, arguments)
    assert isinstance(done.exception, SystemExit), done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the only line that was said; the log may have begun before it."""
    assert done.returncode in {1, 2}, (done.returncode, done.stdout, done.stderr)
    log = re.compile(r"\d{4}-\d\d-\d\d \d\d:.* (INFO|WARNING|ERROR) |  ")
    lines = [line for line in done.stderr.strip().splitlines() if not log.match(line)]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("plumbline: ")
    assert "Traceback" not in done.stdout
    return lines[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lines.jsonl").write_bytes(LINE + b"\n")
    (tmp_path / "data").mkdir()
    return tmp_path


@contextlib.contextmanager
def nothing(_data: Path) -> Iterator[None]:
    yield


@contextlib.contextmanager
def held_lock(data: Path) -> Iterator[None]:
    with (data / "lock").open("w") as file:
        file.write("4711")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def journal_in(data: Path) -> Journal:
    return Journal(data / "journal.db", partitions=4)


@contextlib.contextmanager
def other_partitions(data: Path) -> Iterator[None]:
    Journal(data / "journal.db", partitions=7).close()
    yield


@contextlib.contextmanager
def no_database(data: Path) -> Iterator[None]:
    (data / "journal.db").write_bytes(b"This is not a database.\n" * 400)
    yield


@contextlib.contextmanager
def foreign_state(data: Path) -> Iterator[None]:
    journal = journal_in(data)
    with journal.transaction() as db:
        blob = msgspec.msgpack.encode([999, {"x": 1}])
        db.execute("INSERT INTO states VALUES ('detect', 0, 'watermarks', ?)", (blob,))
    journal.close()
    yield


@contextlib.contextmanager
def damaged_state(data: Path) -> Iterator[None]:
    journal = journal_in(data)
    with journal.transaction() as db:
        blob = msgspec.msgpack.encode([1, {"key": "nonsense"}])
        db.execute("INSERT INTO states VALUES ('detect', 0, 'stream[1]', ?)", (blob,))
        db.execute("INSERT INTO states VALUES ('score', 0, 'watermark', x'c1')")
    journal.close()
    yield


@contextlib.contextmanager
def damaged_record(data: Path) -> Iterator[None]:
    journal = journal_in(data)
    with journal.transaction() as db:
        db.execute("INSERT INTO records VALUES (1, 'interactions', 0, 0, 'Interaction', '{', 0)")
        db.execute("INSERT INTO heads VALUES ('interactions', 0, 1)")
    journal.close()
    yield


@contextlib.contextmanager
def lost_table(data: Path) -> Iterator[None]:
    """A journal whose middle is gone in such a way that opening does not see it."""
    journal = journal_in(data)
    with journal.transaction() as db:
        db.executescript("BEGIN; DROP TABLE states; CREATE TABLE states (a); COMMIT; BEGIN;")
    journal.close()
    yield


@contextlib.contextmanager
def no_ledger(data: Path) -> Iterator[None]:
    (data / "ledger.db").write_bytes(b"neither is this\n" * 400)
    yield


@contextlib.contextmanager
def short_key(data: Path) -> Iterator[None]:
    (data / "user.key").write_bytes(b"short")
    yield


@contextlib.contextmanager
def file_in_place_of_store(data: Path) -> Iterator[None]:
    (data / "store").write_text("a file")
    yield


@contextlib.contextmanager
def file_in_place_of_data(data: Path) -> Iterator[None]:
    data.rmdir()
    data.write_text("a file")
    yield


RUN, REPLAY = ("run", "--port", "0"), ("replay", "lines.jsonl")
CASES: list[tuple[tuple[str, ...], Callable[..., contextlib.AbstractContextManager[None]], str]] = [
    (RUN, held_lock, r"in use by another plumbline process \(pid 4711\): stop it"),
    (("compare", "d", "1", "2"), held_lock, r"in use by another plumbline process"),
    (RUN, other_partitions, r"partitions = 7, but 4 is asked for: set it back to 7"),
    (RUN, no_database, r"journal.db: .*restore it from a backup"),
    (REPLAY, no_database, r"journal.db: .*restore it from a backup"),
    (RUN, foreign_state, r"version 999.*run the version that wrote it"),
    (REPLAY, damaged_state, r"state of stage score, partition 0, cannot be used"),
    (RUN, damaged_record, r"interactions/0 offset 0 cannot be read"),
    (REPLAY, damaged_record, r"interactions/0 offset 0 cannot be read"),
    (REPLAY, lost_table, r"restore it from a backup"),
    (RUN, no_ledger, r"ledger.db: .*restore it from a backup"),
    (RUN, short_key, r"user.key: .*at least 16 bytes"),
    (RUN, file_in_place_of_store, r"store: .*make it writable or set data_dir"),
    (RUN, file_in_place_of_data, r"set data_dir elsewhere"),
    (REPLAY, file_in_place_of_data, r"set data_dir elsewhere"),
    (("run", "-c", "absent.toml"), nothing, r"absent.toml: cannot be read"),
]


IN_A_PROCESS = (other_partitions, foreign_state, damaged_state, damaged_record, no_ledger)
"""What is tried in a process of its own, which takes a second; the rest runs the same command in this one."""


@pytest.mark.parametrize(
    ("command", "wrong", "remedy"), CASES, ids=lambda one: getattr(one, "__name__", None)
)
def test_one_line_with_the_remedy(folder, command, wrong, remedy):
    with wrong(folder / "data"):
        runner = plumbline if wrong in IN_A_PROCESS else in_process
        done = runner(*command, "--data-dir", "data", folder=folder)
    assert re.search(remedy, one_line(done)), done.stderr


@pytest.mark.parametrize("command", [("run",), ("demo", "--data-dir", "demo")])
def test_a_busy_port_is_one_line(folder, command):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        done = plumbline(*command, "--port", port, folder=folder)
    assert re.search(rf"cannot listen on 127.0.0.1:{port} .*stop what holds it", one_line(done))


def test_the_demo_leaves_a_strangers_folder_and_a_running_demo_alone(folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("years of work")
    done = plumbline("demo", "--data-dir", "mine", folder=folder)
    assert "not made by the demonstration" in one_line(done)
    assert (folder / "mine" / "thesis.txt").read_text() == "years of work"
    running = folder / "demo" / "monitor"
    running.mkdir(parents=True)
    (folder / "demo" / "made-by-plumbline-demo").touch()
    with held_lock(running):
        done = plumbline("demo", "--data-dir", "demo", folder=folder)
        assert "in use by another plumbline process" in one_line(done)
        assert (running / "lock").exists()


def test_a_bad_port_and_host_are_one_line(folder):
    (folder / "c.toml").write_text('[door]\nhost = "no.such.host.invalid"\ntoken_env = "TOK"\n')
    done = subprocess.run(
        [*PROGRAM, "run", "-c", "c.toml"], cwd=folder, capture_output=True, text=True, timeout=120,
        check=False, env={**os.environ, "TOK": "x"},
    )  # fmt: skip
    assert "cannot listen on no.such.host.invalid:8321" in one_line(done)


def test_a_disk_that_fills_up_is_one_line(folder):
    """The journal cannot grow, as on a full disk: a limit of the process holds its files."""
    program = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000));"
        "from streams.cli import main; main()"
    )
    lines = [
        msgspec.json.encode({"deployment": "d", "release": "1", "prompt": f"Q{n} " * 200, "response": "A"})
        for n in range(1_000)
    ]
    (folder / "big.jsonl").write_bytes(b"\n".join(lines))
    journal_in(folder / "data").close()
    command = [sys.executable, "-c", program, "replay", "big.jsonl", "--data-dir", "data"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("plumbline: ")
    assert "Traceback" not in done.stderr
    db = sqlite3.connect(folder / "data" / "journal.db")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
