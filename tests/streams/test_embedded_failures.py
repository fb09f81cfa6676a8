"""What fails leaves a trace: where, in our own code, and none of the text that was being handled."""

import logging

import pytest

from streams.embedded.errors import StorageError, log_failure, told
from streams.embedded.threads import Loop
from streams.store import StoreError

SECRET = "what a user wrote"


class Failing(Loop):
    """A loop whose work fails as asked."""

    def __init__(self, error: BaseException, failures: list) -> None:
        super().__init__("think", lambda part, failure: failures.append((part, failure)))
        self.error = error

    def work(self) -> float:
        text = SECRET
        raise self.error from ValueError(text)


@pytest.mark.parametrize(
    "error", [ValueError(SECRET), KeyError(SECRET), UnicodeEncodeError("utf-8", SECRET, 0, 1, "x")]
)
def test_a_thread_that_dies_says_where_and_not_what(error, caplog):
    failures: list = []
    thread = Failing(error, failures)
    thread.start()
    thread.join(10)
    assert failures == [("think", error)]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith(f"think failed: {type(error).__name__}\n")
    assert "threads.py:" in record.getMessage()
    assert "test_embedded_failures.py:" in record.getMessage()
    assert "caused by ValueError" in record.getMessage()
    assert SECRET not in caplog.text


def test_our_own_errors_keep_their_remedy(caplog):
    assert (
        told(StoreError("cannot insert: the disk is full")) == "StoreError: cannot insert: the disk is full"
    )
    caplog.set_level("INFO")
    log_failure(logging.getLogger("plumbline"), "land", StorageError("journal.db: free space on its disk"))
    assert caplog.records[0].getMessage() == "land failed: StorageError: journal.db: free space on its disk"


def test_a_round_is_young_when_it_ends(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr("streams.embedded.threads.time.monotonic", lambda: now_s)

    class Once(Loop):
        def work(self) -> float:
            self._stopping.set()
            return 0.0

    loop = Once("think", lambda *_: None)
    now_s = 150.0
    assert loop.round_age_s() == 50.0
    loop.run()
    assert loop.round_age_s() == 0.0
