"""The watchdog: what counts as stuck, from when on, and how the process ends. Clocks are injected."""

import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.watchdog import EXIT_CODE, Judgement, Look, Watchdog, is_behind

IDLE = Look(assigned=True, behind=False, waiting=False, moved=0.0)
BEHIND = Look(assigned=True, behind=True, waiting=False, moved=0.0)
WAITING = Look(assigned=True, behind=True, waiting=True, moved=0.0)
ALONE = Look(assigned=False, behind=False, waiting=False, moved=0.0)
SPARE = Look(assigned=False, behind=False, waiting=False, moved=0.0, placed=True)


def told(*story: tuple[Look, float]) -> list[str]:
    judgement = Judgement(stuck_after_s=60.0)
    return [judgement.of(look, now_s) for look, now_s in story]


def test_it_is_armed_by_the_first_look_however_late_that_is():
    assert told((BEHIND, 10_000.0), (BEHIND, 10_060.0)) == ["", ""]
    assert told((ALONE, 10_000.0), (ALONE, 10_090.0)) == ["", ""]


def test_something_to_read_and_no_commit_is_stuck():
    assert told((BEHIND, 0.0), (BEHIND, 60.5))[-1].startswith("nothing was committed for 60 s")


@pytest.mark.parametrize("well", [IDLE, WAITING, Look(True, True, False, 1.0), ALONE])
def test_whatever_is_not_stuck_starts_the_clock_again(well):
    assert told((BEHIND, 0.0), (well, 59.0), (BEHIND, 118.9)) == ["", "", ""]


def test_nothing_to_read_is_never_stuck():
    assert not any(told(*[(IDLE, 100.0 * step) for step in range(50)]))


def test_a_store_that_is_away_is_not_ours_to_restart():
    assert not any(told(*[(WAITING, 100.0 * step) for step in range(50)]))


def test_without_the_groups_answer_it_ends_and_a_spare_worker_does_not():
    story = ((IDLE, 0.0), (ALONE, 50.0), (ALONE, 90.0), (ALONE, 91.0))
    silent = "the group has not said for 91 s which partitions it has"
    assert told(*story) == ["", "", "", silent]
    assert not any(told(*[(SPARE, 100.0 * step) for step in range(50)]))
    # The group of a spare worker moves again, and the answer never comes: that is no spare worker any more.
    assert told((SPARE, 0.0), (SPARE, 1e6), (ALONE, 1e6 + 90), (ALONE, 1e6 + 91))[2:] == ["", silent]


@given(st.lists(st.tuples(st.sampled_from([IDLE, BEHIND, WAITING]), st.floats(0, 59)), max_size=40))
def test_commits_more_often_than_the_limit_keep_it_quiet(steps):
    judgement, now_s = Judgement(stuck_after_s=60.0), 0.0
    for number, (look, pause_s) in enumerate(steps):
        now_s += pause_s
        assert judgement.of(Look(look.assigned, look.behind, look.waiting, float(number)), now_s) == ""


def test_ends_that_nobody_renews_count_as_something_to_read():
    """A consumer whose thread hangs hears of no new records: what it last heard must not calm for ever."""
    reached = {("t", 0): 7}
    story = []
    for now_s in (0.0, 60.0, 61.0, 121.0, 122.0):
        behind = is_behind({("t", 0): 7}, reached, heard_s=0.0, now_s=now_s)
        story.append((Look(assigned=True, behind=behind, waiting=False, moved=0.0), now_s))
    assert [bool(reason) for reason in told(*story)] == [False, False, False, False, True]
    assert not is_behind({}, {}, heard_s=0.0, now_s=1e6), "a spare worker waits for nothing"


def dog(look, times: list[float], ended: list[int]) -> Watchdog:
    return Watchdog(
        look, Judgement(stuck_after_s=60.0), part="score", clock=lambda: times.pop(0), end=ended.append
    )


def test_it_ends_the_process_once_with_its_own_code_and_one_line(caplog):
    ended: list[int] = []
    watchdog = dog(lambda: BEHIND, [0.0, 30.0, 61.0], ended)
    with caplog.at_level(logging.CRITICAL):
        assert [watchdog.check() for _ in range(3)] == [False, False, True]
    assert ended == [EXIT_CODE]
    (record,) = caplog.records
    assert record.getMessage() == (
        "score ends itself: nothing was committed for 61 s, and there is something to read; "
        "start it again, it goes on where it was"
    )


def test_what_cannot_be_looked_at_is_ended_and_its_text_is_not_told(caplog):
    def broken() -> Look:
        raise ValueError("what a user wrote")

    ended: list[int] = []
    assert dog(broken, [0.0], ended).check()
    assert ended == [EXIT_CODE]
    assert "what a user wrote" not in caplog.text


def test_the_thread_looks_by_itself_and_ends_with_the_process(monkeypatch):
    monkeypatch.setattr("streams.kafka.watchdog._LOOK_EVERY_S", 0.001)
    ended, over = [], threading.Event()
    clock = iter(range(0, 10_000, 40))
    watchdog = Watchdog(
        lambda: BEHIND,
        Judgement(stuck_after_s=60.0),
        part="score",
        clock=lambda: float(next(clock)),
        end=lambda code: (ended.append(code), over.set()),
    )
    watchdog.start()
    assert over.wait(15)
    watchdog.join(15)
    assert ended == [EXIT_CODE]


def test_a_stopped_one_looks_no_more(monkeypatch):
    monkeypatch.setattr("streams.kafka.watchdog._LOOK_EVERY_S", 30.0)
    ended: list[int] = []
    watchdog = dog(lambda: BEHIND, [], ended)
    watchdog.start()
    watchdog.stop()
    watchdog.join(15)
    assert not watchdog.is_alive()
    assert ended == []
