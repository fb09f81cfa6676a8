"""The door on Kafka: what the HTTP door says, by counts and dead letters; poison harms nobody but itself."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.records import Interaction, Release
from detectors.records.codec import encode
from detectors.records.ids import partition_of
from detectors.redaction import Redactor
from detectors.stages import Delivery, Output
from detectors.stages.contract import ForeignStateError, StageState
from streams.door import Admission, AdmissionContext, judge_payloads
from streams.kafka.admit import AdmitStage, AdmitState, admit_stage, place_id
from streams.kafka.dead_letters import (
    DeadLetterOutput,
    dead_letter_record,
    read_dead_letter,
    redriven,
)
from streams.kafka.envelope import RawMessage
from streams.kafka.recent_ids import SHED, RecentIds
from streams.settings import DoorSettings, Settings, SettingsError

NOW_MS = 1_795_253_400_000
KEY = b"k" * 32
SECRET = "kaninchen"
ITEM = {"deployment": "support", "release": "r1", "prompt": "hi", "response": "hello"}
POISON = [
    b"",
    b"\0",
    b"{",
    b"\xff",
    b"[]",
    b'{"deployment":"kaninchen"}',
    json.dumps({**ITEM, "event_time": 7, "prompt": SECRET}).encode(),
    json.dumps({**ITEM, "id": "x" * 200}).encode(),
]
REDACTOR = Redactor()


def stage(partitions: int = 3, recent_ids: int = 1_000, redactor: Any = REDACTOR) -> AdmitStage:
    return AdmitStage(
        door=DoorSettings(),
        redactor=redactor,
        user_key=KEY,
        partitions=partitions,
        recent_ids=recent_ids,
    )


def message(value: bytes | None, offset: int, kind: str = "", **more: Any) -> RawMessage:
    headers = ((("kind", kind.encode()),) if kind else ()) + more.pop("headers", ())
    place = {"topic": "plumbline.submissions.v1", "partition": 1, "timestamp_ms": NOW_MS, "key": b"k", **more}
    return RawMessage(offset=offset, value=value, headers=headers, **place)


def item(**fields: Any) -> bytes:
    return json.dumps({**ITEM, **fields}).encode()


def run(door: AdmitStage, state: AdmitState, messages: Sequence[RawMessage]) -> list[Any]:
    batch = [Delivery(one.partition, one.offset, one) for one in messages]  # type: ignore[arg-type]
    after, outputs = door.step(state, batch)
    assert after is state
    return outputs


def letters(outputs: Sequence[Any]) -> list[DeadLetterOutput]:
    return [one for one in outputs if isinstance(one, DeadLetterOutput)]


def records(outputs: Sequence[Any]) -> list[Any]:
    return [one.record for one in outputs if isinstance(one, Output)]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("interaction", item(id="1", user="ann@example.com", prompt="mail ann@example.com", mood=1)),
        ("feedback", b'{"deployment":"d","interaction_id":"1","kind":"thumb","value":1,"id":"f"}'),
        ("label", b'{"deployment":"d","interaction_id":"1","metric":"m","value":0,"rater":"r","id":"l"}'),
        ("release", b'{"deployment":"d","release":"2","role":"stable","started_at":7}'),
    ],
)
def test_it_says_what_the_http_door_says(kind: Any, payload: bytes) -> None:
    context = AdmissionContext(
        settings=DoorSettings(), redactor=REDACTOR, user_key=KEY, received_at_ms=NOW_MS
    )
    (verdict,) = judge_payloads([payload], kind, context)
    assert isinstance(verdict, Admission)
    door = stage()
    outputs = run(door, door.restore(1, {}), [message(payload, 0, kind)])
    assert letters(outputs) == []
    assert {(one.topic, encode(one.record)) for one in outputs} == {
        (entry.topic, encode(entry.record)) for entry in verdict.entries
    }
    assert [one.key for one in outputs if one.partition is None] == [
        entry.key for entry in verdict.entries if entry.key is not None and kind != "interaction"
    ]


def test_a_door_that_was_away_for_one_partition_makes_no_record_late() -> None:
    """Three users for 100 s; the partition of submissions of the first is admitted 60 s after the others."""
    door, partitions = stage(partitions=3), range(3)
    states = {part: door.restore(part, {}) for part in partitions}
    sent = []
    for second in range(100):
        for part in partitions:
            at_ms = NOW_MS + 1_000 * second
            value = item(id=f"{part}-{second}", user=f"u{part}", event_time=at_ms)
            admitted_s = max(second, 70) if part == 0 and second >= 10 else second
            sent.append((admitted_s, message(value, second, partition=part, timestamp_ms=at_ms)))
    came: dict[int | None, list[Interaction]] = {}
    for _, one in sorted(sent, key=lambda pair: pair[0]):
        for output in run(door, states[one.partition], [one]):
            place = partition_of(output.key, 3) if output.partition is None else output.partition
            came.setdefault(place, []).append(output.record)
    assert sorted(came) == [0, 1, 2]
    for records_there in came.values():
        times = [record.event_time_ms for record in records_there]
        assert times == sorted(times)
        assert len({record.user for record in records_there}) == 1


def test_a_release_goes_to_every_partition_beside_the_data() -> None:
    door = stage(partitions=4)
    declared = message(b'{"deployment":"d","release":"2","role":"stable","started_at":7}', 0, "release")
    outputs = run(door, door.restore(0, {}), [declared])
    assert [(one.topic, one.partition) for one in outputs] == [
        ("releases", None),
        *(("interactions", partition) for partition in range(4)),
    ]
    assert all(isinstance(one, Release) for one in records(outputs))


def test_the_broker_says_when_it_arrived_and_the_place_gives_the_id() -> None:
    door = stage()
    sent = message(item(), 41, timestamp_ms=NOW_MS + 5)
    (record,) = records(run(door, door.restore(1, {}), [sent]))
    assert isinstance(record, Interaction)
    assert (record.received_at_ms, record.event_time_ms) == (NOW_MS + 5, NOW_MS + 5)
    assert record.raw_id == place_id(sent)
    (other,) = records(run(door, door.restore(1, {}), [message(item(), 42)]))
    assert other.interaction_id != record.interaction_id


def test_equal_is_a_duplicate_and_other_content_a_dead_letter() -> None:
    door = stage()
    state = door.restore(1, {})
    first = run(door, state, [message(item(id="1"), 0), message(item(id="1"), 1), message(item(id="2"), 2)])
    assert (len(records(first)), letters(first)) == (2, [])
    later = run(door, state, [message(item(id="2"), 3), message(item(id="1", prompt=SECRET), 4)])
    (buried,) = letters(later)
    assert (records(later), buried.letter.reason, buried.letter.offset) == ([], "id_conflict", 4)
    assert state.counts == {
        "accepted": {"": 2},
        "duplicate": {"": 2},
        "dead_letter": {"": 1},
    }


def test_an_unknown_kind_and_an_empty_record_are_dead_letters() -> None:
    door = stage()
    outputs = run(door, door.restore(1, {}), [message(item(), 0, "gossip"), message(None, 1)])
    assert [one.letter.reason for one in letters(outputs)] == ["kind_unknown", "empty_body"]


def test_a_fault_of_our_own_costs_one_record() -> None:
    class Trips:
        def redact(self, text: str, field: str) -> tuple[str, tuple[Any, ...]]:
            if text == SECRET:
                raise RuntimeError(text)
            return text, ()

    door = stage(redactor=Trips())
    outputs = run(
        door, door.restore(1, {}), [message(item(), 0), message(item(prompt=SECRET), 1), message(item(), 2)]
    )
    (buried,) = letters(outputs)
    assert (len(records(outputs)), buried.letter.reason) == (2, "door_failed")
    assert "RuntimeError" in buried.letter.message
    assert SECRET not in buried.letter.message


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 12),
    bad=st.dictionaries(st.integers(0, 11), st.one_of(st.sampled_from(POISON), st.binary(max_size=20))),
    cuts=st.sets(st.integers(1, 11)),
)
def test_poison_at_any_position_costs_itself_alone_and_sent_again_counts_once(
    size: int, bad: Mapping[int, bytes], cuts: set[int]
) -> None:
    """`bad` says which positions hold poison, `cuts` where one batch ends and the next begins."""
    door = stage()
    state = door.restore(1, {})
    messages = [message(bad.get(at, item(turn=at)), at) for at in range(size)]
    poisoned = sorted(at for at in bad if at < size)
    outputs: list[Any] = []
    edges = [0, *sorted(cut for cut in cuts if cut < size), size]
    for start, end in pairwise(edges):
        outputs += run(door, state, messages[start:end])
    assert [one.letter.offset for one in letters(outputs)] == poisoned
    for buried in letters(outputs):
        original = messages[buried.letter.offset]
        assert (buried.letter.value, buried.letter.key) == (original.value, original.key)
        assert SECRET not in f"{buried!r} {buried.letter.message} {buried.letter.reason}"
    assert len(records(outputs)) == size - len(poisoned)

    # Somebody mends nothing and sends all again, twice: the dead letters come back, and nothing counts twice.
    again = []
    for turn in range(2):
        for buried in letters(outputs):
            written = dead_letter_record(buried.letter, 3)
            sent = redriven(read_dead_letter(written.headers, written.value, written.key))
            offset = size + turn * size + buried.letter.offset
            again.append(message(sent.value, offset, headers=sent.headers))
    outcome = run(door, state, again)
    assert records(outcome) == []
    assert [one.letter.redrives for one in letters(outcome)] == [1] * (2 * len(poisoned))


@pytest.mark.parametrize("has_id", [True, False])
def test_what_was_mended_meanwhile_counts_once_however_often_it_is_sent_again(has_id: bool) -> None:
    """The door refused the time of a record; with the clamp off it takes it, from any place, once."""
    old = item(event_time=7, **({"id": "1"} if has_id else {}))
    strict, mended = stage(), stage()
    mended._context = replace(mended._context, settings=DoorSettings(clamp=False))
    state = strict.restore(1, {})
    (buried,) = letters(run(strict, state, [message(old, 5)]))
    assert buried.letter.reason == "event_time_out_of_range"
    sent = redriven(buried.letter)
    twice = [
        message(sent.value, offset, headers=sent.headers, timestamp_ms=NOW_MS + offset) for offset in (8, 9)
    ]
    (record,) = records(run(mended, state, twice))
    assert record.event_time_ms == 7
    assert state.counts["duplicate"] == {"": 1}
    assert run(mended, state, [message(old, 5)]) == []


@settings(max_examples=40, deadline=None)
@given(
    ids=st.lists(st.integers(0, 60), max_size=120),
    cuts=st.sets(st.integers(1, 119)),
    deaths=st.sets(st.integers(0, 119)),
)
def test_a_restart_between_batches_forgets_nothing(ids: list[int], cuts: set[int], deaths: set[int]) -> None:
    door = stage()
    stored: dict[str, bytes] = {}
    state = door.restore(1, {})
    seen: list[str] = []
    edges = [0, *sorted(cut for cut in cuts if cut < len(ids)), len(ids)]
    for start, end in pairwise(edges):
        outputs = run(door, state, [message(item(id=str(ids[at])), at) for at in range(start, end)])
        seen += [record.raw_id for record in records(outputs)]
        for key, blob in door.changes(state).items():
            if blob is None:
                stored.pop(key, None)
            else:
                stored[key] = blob
        if start in deaths:
            state = door.restore(1, stored)
    assert seen == [str(one) for one in dict.fromkeys(ids)]


def test_the_table_of_ids_is_bounded_and_says_what_it_sheds() -> None:
    state = StageState({})
    ids = RecentIds(state, limit=160)
    written = 0
    for start in range(0, 2_000, 7):
        ids.add(range(start, start + 7), range(start, start + 7))
        written += sum(len(blob) for blob in state.take_changes().values() if blob)
        assert min(start + 7, 140) <= len(ids) <= 160
    known = ids.find(range(2_002))
    assert known == {one: one for one in known}
    assert set(known) == set(range(min(known), 2_002))
    assert state.counts[SHED][""] == 2_002 - len(known)
    assert written < 2_002 * 16 * 4  # append-only: never the whole table
    assert sum(len(state.get(key)) for key in state.keys("ids/")) == 16 * len(known)


@settings(max_examples=50, deadline=None)
@given(
    batches=st.lists(st.sets(st.integers(0, 2**64 - 1), max_size=30), max_size=12),
    limit=st.integers(1, 60),
    asked=st.lists(st.integers(0, 2**64 - 1), max_size=5),
)
def test_the_latest_ids_are_known_with_their_contents(
    batches: list[set[int]], limit: int, asked: list[int]
) -> None:
    state = StageState({})
    ids = RecentIds(state, limit=limit)
    order: dict[int, int] = {}
    for number, batch in enumerate(batches):
        fresh = sorted(batch - ids.find(list(batch)).keys())
        ids.add(fresh, [number] * len(fresh))
        for one in fresh:
            order.pop(one, None)
            order[one] = number
        ids = RecentIds(StageState(_stored(state)), limit=limit)
        state = ids._state
        assert len(ids) <= limit
    latest = dict(list(order.items())[-len(ids) :] if len(ids) else [])
    assert ids.find([*order, *asked]) == latest | {one: order[one] for one in asked if one in latest}


def _stored(state: StageState) -> dict[str, bytes]:
    everything = StageState({})
    for key in state.keys(""):
        everything.put(key, state.get(key))
    return {key: blob for key, blob in everything.take_changes().items() if blob is not None}


def test_the_state_of_another_version_is_refused() -> None:
    with pytest.raises(ForeignStateError):
        stage().restore(0, {"ids_chunk": msgspec.msgpack.encode([99, 1])})


def test_workers_must_hash_alike(tmp_path: Any) -> None:
    with pytest.raises(SettingsError, match=r"door\.user_key_file: on Kafka it must be named"):
        admit_stage(Settings())
    (tmp_path / "user.key").write_bytes(KEY)
    made = admit_stage(Settings(door=DoorSettings(user_key_file=str(tmp_path / "user.key"))))
    assert (made.name, made.source, made.raw) == ("admit", "submissions", True)
    with pytest.raises(ValueError, match="16 bytes"):
        AdmitStage(door=DoorSettings(), redactor=REDACTOR, user_key=b"short", partitions=1, recent_ids=1)
