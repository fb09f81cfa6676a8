"""The data directory: one process, and nobody else's eyes."""

import os
import stat

import pytest

from streams.embedded.errors import StorageError
from streams.embedded.journal import Journal
from streams.embedded.ledger_file import open_ledger
from streams.embedded.lock import lock_directory


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("existing", [None, 0o755, 0o775, 0o701])
def test_everything_in_it_is_private(tmp_path, existing):
    directory = tmp_path / "deep" / "data"
    if existing is not None:
        directory.mkdir(parents=True)
        directory.chmod(existing)
        (directory / "user.key").write_bytes(b"0" * 32)
        (directory / "user.key").chmod(0o644)
    lock = lock_directory(directory)
    journal = Journal(directory / "journal.db", partitions=1)
    with journal.transaction() as db:
        db.execute("INSERT INTO meta VALUES ('x', 'y')")
    open_ledger(directory / "ledger.db").close()
    assert mode(directory) == 0o700
    assert {mode(file) & 0o077 for file in directory.iterdir()} == {0}
    assert {"journal.db", "journal.db-wal", "ledger.db", "lock"} <= {
        file.name for file in directory.iterdir()
    }
    journal.close()
    lock.close()


def test_a_directory_of_another_owner_is_refused(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StorageError, match="not ours to close: set data_dir to a directory of its own"):
        lock_directory(tmp_path)
    assert mode(tmp_path) == 0o755
    tmp_path.chmod(0o700)
    lock_directory(tmp_path).close()


def test_a_directory_for_everybody_is_left_as_it_is(tmp_path):
    tmp_path.chmod(0o1777)
    with pytest.raises(StorageError, match="others may look into it"):
        lock_directory(tmp_path)
    assert mode(tmp_path) == 0o1777


def test_a_second_process_is_refused(tmp_path):
    held = lock_directory(tmp_path / "data")
    with pytest.raises(StorageError, match=f"pid {os.getpid()}"):
        lock_directory(tmp_path / "data")
    held.close()
    lock_directory(tmp_path / "data").close()
