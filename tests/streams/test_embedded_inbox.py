"""The inbox: requests that wait together share a sync, and each gets its own answer."""

import asyncio
import contextlib
import threading

import pytest

from detectors.records import Tick
from streams.embedded.errors import StorageError
from streams.embedded.inbox import JournalInbox
from streams.embedded.journal import Journal
from streams.inbox import Entry


def entry(identity: str, digest: str = "d") -> Entry:
    return Entry(topic="interactions", key=identity, record=Tick(0, 1), identity=identity, digest=digest)


class SlowJournal(Journal):
    """Counts transactions; the first waits until it is let go."""

    def __init__(self, path) -> None:
        super().__init__(path, partitions=1)
        self.groups: list[int] = []
        self.go = threading.Event()
        self.error: Exception | None = None

    def admit(self, entries):
        self.groups.append(len(entries))
        assert self.go.wait(10)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return super().admit(entries)


@contextlib.asynccontextmanager
async def opened(tmp_path):
    journal = SlowJournal(tmp_path / "journal.db")
    inbox = JournalInbox(journal)
    yield journal, inbox
    journal.go.set()
    await inbox.close()
    journal.close()


async def until(fact) -> None:
    async with asyncio.timeout(10):
        while not fact():
            await asyncio.sleep(0.005)


def test_concurrent_requests_share_one_transaction_and_keep_their_answers(tmp_path):
    async def story():
        async with opened(tmp_path) as (journal, inbox):
            first = asyncio.create_task(inbox.admit([entry("first")]))
            await until(lambda: journal.groups)
            rest = [
                asyncio.create_task(inbox.admit([entry(f"{n}"), entry("shared"), entry("first", str(n))]))
                for n in range(40)
            ]
            await asyncio.sleep(0)
            journal.go.set()
            assert await first == ["accepted"]
            answers = await asyncio.gather(*rest)
            assert journal.groups == [1, 120]
            assert answers[0] == ["accepted", "accepted", "conflict"]
            assert set(map(tuple, answers[1:])) == {("accepted", "duplicate", "conflict")}
            assert len(journal.read_topic("interactions", 0, 1_000)) == 42

    asyncio.run(story())


@pytest.mark.parametrize(
    "error", [OSError("No space left on device"), UnicodeEncodeError("utf-8", "x", 0, 1, "y")]
)
def test_a_write_that_fails_refuses_its_group_alone(tmp_path, error):
    async def story():
        async with opened(tmp_path) as (journal, inbox):
            journal.error = error
            journal.go.set()
            found = await asyncio.gather(
                inbox.admit([entry("a")]), inbox.admit([entry("b")]), return_exceptions=True
            )
            assert all(isinstance(one, OSError) for one in found), found
            assert await asyncio.wait_for(inbox.admit([entry("a")]), 10) == ["accepted"]

    asyncio.run(story())


def test_an_outage_is_one_line_with_the_remedy_and_so_is_its_end(tmp_path, caplog):
    caplog.set_level("WARNING")

    async def story():
        async with opened(tmp_path) as (journal, inbox):
            journal.go.set()
            for number in range(3):
                journal.error = StorageError("journal.db: the journal cannot be used: free space on its disk")
                with pytest.raises(OSError, match="cannot be written"):
                    await inbox.admit([entry(f"a user's words {number}")])
            for number in range(3):
                await inbox.admit([entry(str(number))])

    asyncio.run(story())
    first, last = (record.getMessage() for record in caplog.records)
    assert "free space on its disk" in first
    assert "\n" not in first
    assert last == "the door writes again"
    assert "a user's words" not in caplog.text


def test_a_full_journal_is_an_oserror_and_nothing_of_the_call_is_written(tmp_path):
    async def story():
        journal = Journal(tmp_path / "journal.db", partitions=1)
        inbox = JournalInbox(journal)
        assert await inbox.admit([entry("a")]) == ["accepted"]

        def limit(pages: int) -> None:
            journal.connection().execute(f"PRAGMA max_page_count = {pages}")

        await asyncio.get_running_loop().run_in_executor(inbox._writer, limit, 1)
        with pytest.raises(OSError, match="the journal cannot be written"):
            await inbox.admit([entry(f"many/{n}") for n in range(5_000)])
        assert len(journal.read_topic("interactions", 0, 10_000)) == 1
        await asyncio.get_running_loop().run_in_executor(inbox._writer, limit, 1_000_000)
        assert await inbox.admit([entry("many/1")]) == ["accepted"]
        await inbox.close()
        journal.close()

    asyncio.run(story())


def test_a_request_that_goes_away_disturbs_nobody(tmp_path):
    async def story():
        async with opened(tmp_path) as (journal, inbox):
            gone = asyncio.create_task(inbox.admit([entry("gone")]))
            stays = asyncio.create_task(inbox.admit([entry("stays")]))
            await until(lambda: journal.groups)
            gone.cancel()
            journal.go.set()
            assert await stays == ["accepted"]
            assert await inbox.admit([entry("gone")]) == ["duplicate"]

    asyncio.run(story())


def test_closing_waits_for_what_is_being_written_and_refuses_newcomers(tmp_path):
    async def story():
        async with opened(tmp_path) as (journal, inbox):
            waiting = [asyncio.create_task(inbox.admit([entry(str(n))])) for n in range(3)]
            await until(lambda: journal.groups)
            closing = asyncio.create_task(inbox.close())
            await asyncio.sleep(0)
            with pytest.raises(OSError, match="shutting down"):
                await inbox.admit([entry("late")])
            journal.go.set()
            await closing
            assert await asyncio.gather(*waiting) == [["accepted"]] * 3

    asyncio.run(story())
