"""The spool: what it took is there after any end of the process, in order, until it was acknowledged."""

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.spool import Spool, SpoolError, SpoolFullError, Waiting, take_spools

BOUND = 1_000_000


def record(number: int, size: int = 10) -> Waiting:
    return Waiting("interaction", b"k", f"{number}:".encode() + b"x" * size)


def numbers(records: list[Waiting]) -> list[int]:
    return [int(one.value.partition(b":")[0]) for one in records]


def everything(spool: Spool) -> list[int]:
    return numbers(spool.peek(records=10_000, max_bytes=BOUND))


def test_what_was_appended_is_there_for_the_next_process(tmp_path: Path) -> None:
    with Spool(tmp_path / "q", max_bytes=BOUND) as spool:
        spool.append([record(1), record(2)])
        spool.append([record(3)])
    with Spool(tmp_path / "q", max_bytes=BOUND) as spool:
        assert (len(spool), everything(spool)) == (3, [1, 2, 3])


def test_what_was_acknowledged_does_not_come_again(tmp_path: Path) -> None:
    with Spool(tmp_path / "q", max_bytes=BOUND) as spool:
        spool.append([record(number) for number in range(5)])
        assert numbers(spool.peek(records=3, max_bytes=BOUND)) == [0, 1, 2]
        spool.acknowledge(2)
    with Spool(tmp_path / "q", max_bytes=BOUND) as spool:
        assert everything(spool) == [2, 3, 4]
        spool.acknowledge(3)
        assert len(spool) == 0
        assert list((tmp_path / "q").glob("*.segment")) == []
        spool.append([record(9)])
    with Spool(tmp_path / "q", max_bytes=BOUND) as spool:
        assert everything(spool) == [9]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.one_of(st.integers(1, 4), st.integers(-4, -1), st.just(0)), max_size=25),
    segment=st.integers(1, 120),
)
def test_it_is_a_queue_whatever_happens_between(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], segment: int
) -> None:
    """A step above 0 appends so many, below 0 acknowledges so many, and 0 ends the process."""
    directory = tmp_path_factory.mktemp("spool") / "q"
    spool = Spool(directory, max_bytes=BOUND, segment_bytes=segment)
    expected: list[int] = []
    made = 0
    for step in steps:
        if step > 0:
            fresh = list(range(made, made + step))
            made += step
            spool.append([record(number, number % 7) for number in fresh])
            expected += fresh
        elif step < 0:
            found = spool.peek(records=-step, max_bytes=BOUND)
            assert numbers(found) == expected[:-step]
            spool.acknowledge(len(found))
            expected = expected[len(found) :]
        else:
            spool.close()
            spool = Spool(directory, max_bytes=BOUND, segment_bytes=segment)
        assert len(spool) == len(expected)
    assert everything(spool) == expected
    spool.close()


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_record_that_was_half_written_was_never_taken(tmp_path: Path, cut: int) -> None:
    with Spool(tmp_path / "q", max_bytes=BOUND) as spool:
        spool.append([record(1), record(2, size=40)])
    (segment,) = (tmp_path / "q").glob("*.segment")
    os.truncate(segment, segment.stat().st_size - cut)
    with Spool(tmp_path / "q", max_bytes=BOUND) as spool:
        assert everything(spool) == [1]
        spool.append([record(3)])
    with Spool(tmp_path / "q", max_bytes=BOUND) as spool:
        assert everything(spool) == [1, 3]


def test_damage_before_the_end_is_said_and_nothing_is_removed(tmp_path: Path) -> None:
    with Spool(tmp_path / "q", max_bytes=BOUND, segment_bytes=1) as spool:
        for number in range(3):
            spool.append([record(number)])
    damage(min((tmp_path / "q").glob("*.segment")), -1)
    with pytest.raises(SpoolError, match=r"segment: damaged at byte 0: check the disk"):
        Spool(tmp_path / "q", max_bytes=BOUND)
    assert len(list((tmp_path / "q").glob("*.segment"))) == 3


def damage(segment: Path, at: int) -> None:
    content = bytearray(segment.read_bytes())
    content[at] ^= 1
    segment.write_bytes(content)


@pytest.mark.parametrize("segment_bytes", [1, 10_000])
def test_damage_while_it_is_held_is_said_and_nothing_behind_it_is_forgotten(
    tmp_path: Path, segment_bytes: int
) -> None:
    """One segment for each record, or one for all of them: the second record rots while they wait."""
    queue = tmp_path / "q"
    with Spool(queue, max_bytes=BOUND, segment_bytes=segment_bytes) as spool:
        for number in range(4):
            spool.append([record(number)])
        segments = sorted(queue.glob("*.segment"))
        size = segments[0].stat().st_size // (4 if len(segments) == 1 else 1)
        rotten, start = (segments[1], 0) if len(segments) > 1 else (segments[0], size)
        damage(rotten, start + size - 1)
        found = spool.peek(records=10, max_bytes=BOUND)
        assert numbers(found) == [0]
        spool.acknowledge(1)
        for _ in range(2):
            with pytest.raises(SpoolError, match=rf"{rotten.name}: damaged at byte {start}: check the disk"):
                spool.peek(records=10, max_bytes=BOUND)
        assert len(spool) == 3
        kept = {path: path.read_bytes() for path in queue.glob("*.segment")}
        assert b"".join(kept.values()).count(b":xxxxxxxxx") >= 3
    with pytest.raises(SpoolError, match=f"{rotten.name}: damaged at byte {start}"):
        Spool(queue, max_bytes=BOUND, segment_bytes=segment_bytes)
    assert {path: path.read_bytes() for path in queue.glob("*.segment")} == kept
    damage(rotten, start + size - 1)
    with Spool(queue, max_bytes=BOUND, segment_bytes=segment_bytes) as spool:
        assert everything(spool) == [1, 2, 3]


def test_at_its_bound_it_refuses_whole_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    with Spool(tmp_path / "q", max_bytes=4_000, segment_bytes=500) as spool:
        taken = 30
        for number in range(0, taken, 2):
            spool.append([record(number, 100), record(number + 1, 100)])
        with pytest.raises(SpoolFullError, match="the bound is 4000: bring the broker back"):
            spool.append([record(taken), record(taken + 1, 500)])
        assert everything(spool) == list(range(taken))
        found = spool.peek(records=taken - 1, max_bytes=BOUND)
        spool.acknowledge(len(found))
        spool.append([record(99, 100)])
        assert everything(spool) == [taken - 1, 99]


def test_a_disk_that_refuses_takes_nothing_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Spool(tmp_path / "q", max_bytes=BOUND) as spool:
        spool.append([record(1)])
        with monkeypatch.context() as patched:

            def full(_handle: int) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patched.setattr(os, "fsync", full)
            with pytest.raises(SpoolError, match="No space left on device"):
                spool.append([record(2)])
        assert (len(spool), everything(spool)) == (1, [1])
        spool.append([record(3)])
        assert everything(spool) == [1, 3]
    with Spool(tmp_path / "q", max_bytes=BOUND) as spool:
        assert everything(spool) == [1, 3]


def test_each_process_has_its_own_and_takes_over_what_others_left(tmp_path: Path) -> None:
    (first,) = take_spools(tmp_path, max_bytes=BOUND)
    (second,) = take_spools(tmp_path, max_bytes=BOUND)
    assert first.directory != second.directory
    second.append([record(2)])
    second.close()
    (third,) = take_spools(tmp_path, max_bytes=BOUND)
    assert (third.directory, everything(third)) == (second.directory, [2])
    first.append([record(1)])
    first.close()
    third.close()
    taken = take_spools(tmp_path, max_bytes=BOUND)
    assert [everything(spool) for spool in taken] == [[1], [2]]
    for spool in taken:
        spool.close()


def test_nobody_else_can_read_it_and_no_repr_shows_it(tmp_path: Path) -> None:
    with Spool(tmp_path / "q", max_bytes=BOUND) as spool:
        spool.append([Waiting("label", b"ann", b"kaninchen")])
        spool.set_aside(Waiting("label", b"ann", b"kaninchen"))
        assert "kaninchen" not in f"{spool.peek(records=1, max_bytes=9)}"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "q").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "q").stat().st_mode) == 0o700


def test_a_directory_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match=r"file: cannot be used as a spool \(Not a directory\)"):
        take_spools(tmp_path / "file", max_bytes=BOUND)
