"""Dead letters: nothing of the record is lost or shown; others' headers are understood; the commands."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from streams.cli import deadletters as commands
from streams.cli import plumbline
from streams.kafka.dead_letter_log import DeadLetterLog, Found
from streams.kafka.dead_letters import (
    FIRST_PLACE,
    REDRIVE_COUNT,
    DeadLetter,
    NotADeadLetterError,
    bury,
    dead_letter_record,
    read_dead_letter,
    redriven,
)
from streams.kafka.envelope import RawMessage
from streams.settings import Settings

SECRET = b"kaninchen"
SUBMISSIONS = "plumbline.submissions.v1"
header_names = st.text(max_size=12).filter(
    lambda name: not name.startswith(("plumbline-", "kafka_dlt-", "__connect.", "__streams."))
)
messages = st.builds(
    RawMessage,
    topic=st.sampled_from(["plumbline.submissions.v1", "chat.logs"]),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**62),
    timestamp_ms=st.integers(0, 2**52),
    key=st.none() | st.binary(max_size=9),
    value=st.binary(max_size=30),
    headers=st.lists(st.tuples(header_names, st.binary(max_size=9)), max_size=3).map(tuple),
)


@given(message=messages, reason=st.text(min_size=1, max_size=9), partitions=st.integers(1, 64))
def test_what_was_buried_is_read_back_whole(message: RawMessage, reason: str, partitions: int) -> None:
    letter = bury(message, stage="admit", reason=reason, text="why").letter
    written = dead_letter_record(letter, partitions)
    assert (written.topic, written.value) == (f"{message.topic}.dlq", message.value)
    assert 0 <= written.partition < partitions
    assert read_dead_letter(written.headers, written.value, written.key) == letter


@given(message=messages, times=st.integers(1, 4))
def test_sent_again_and_again_it_is_the_same_record(message: RawMessage, times: int) -> None:
    first = f"{message.topic}/{message.partition}/{message.offset}"
    at = message
    for turn in range(times):
        letter = bury(at, stage="admit", reason="r").letter
        assert (letter.redrives, letter.first_place) == (turn, first)
        sent = redriven(letter)
        assert (sent.topic, sent.partition) == (message.topic, message.partition)
        assert (sent.key, sent.value) == (message.key, message.value)
        at = msgspec.structs.replace(at, offset=turn + 7, headers=sent.headers)
    added = {FIRST_PLACE: first.encode(), REDRIVE_COUNT: str(times).encode()}
    assert at.headers == (*message.headers, *added.items())


def test_a_record_of_nothing_can_be_written_and_a_header_of_nothing_too() -> None:
    message = RawMessage("t", 0, 0, 0, None, None, (("h", None),))  # type: ignore[arg-type]
    written = dead_letter_record(bury(message, stage="admit", reason="empty").letter, 1)
    assert (written.key, written.value) == (None, b"")
    assert dict(written.headers)["h"] == b""


def test_a_lie_in_the_record_does_not_become_its_origin() -> None:
    forged = (("plumbline-dlq-topic", b"secrets"), ("plumbline-dlq-reason", b"none"))
    message = RawMessage("t", 1, 2, 0, None, b"x", forged)
    written = dead_letter_record(bury(message, stage="admit", reason="r").letter, 4)
    letter = read_dead_letter(written.headers, written.value)
    assert (letter.topic, letter.reason, letter.headers) == ("t", "r", ())


@pytest.mark.parametrize(
    "headers",
    [
        {
            "__connect.errors.topic": b"t",
            "__connect.errors.partition": b"3",
            "__connect.errors.offset": b"9",
            "__connect.errors.exception.class.name": b"org.X",
            "__connect.errors.exception.message": b"kaninchen",
        },
        {
            "kafka_dlt-original-topic": b"t",
            "kafka_dlt-original-partition": (3).to_bytes(4, "big"),
            "kafka_dlt-original-offset": (9).to_bytes(8, "big"),
            "kafka_dlt-original-timestamp": (0).to_bytes(8, "big"),
            "kafka_dlt-exception-fqcn": b"org.X",
            "kafka_dlt-exception-message": b"kaninchen",
        },
        {
            "__streams.errors.topic": b"t",
            "__streams.errors.partition": b"3",
            "__streams.errors.offset": b"9",
            "__streams.errors.exception": b"org.X",
            "__streams.errors.message": b"kaninchen",
        },
    ],
)
def test_dead_letters_of_others_are_read(headers: dict[str, bytes]) -> None:
    letter = read_dead_letter([("kind", b"label"), *headers.items()], SECRET, b"k")
    assert (letter.topic, letter.partition, letter.offset, letter.reason) == ("t", 3, 9, "org.X")
    assert (letter.key, letter.value, letter.headers) == (b"k", SECRET, (("kind", b"label"),))
    assert not letter.is_ours


@given(st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=9)), max_size=4))
def test_what_says_nothing_of_its_origin_is_none(headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises(NotADeadLetterError):
        read_dead_letter(headers, b"x")
    with pytest.raises(NotADeadLetterError):
        read_dead_letter([*headers, ("plumbline-dlq-topic", b"t")], b"x")


def test_no_repr_shows_the_record() -> None:
    message = RawMessage("t", 1, 2, 0, SECRET, SECRET, (("h", SECRET),))
    output = bury(message, stage="admit", reason="r")
    shown = f"{message!r} {output!r} {dead_letter_record(output.letter, 1)!r} {redriven(output.letter)!r}"
    assert "kaninchen" not in shown


class Log(DeadLetterLog):
    """A log without a broker: what it holds is given."""

    def __init__(self, found: list[Found]) -> None:
        self._settings = Settings()
        self._found = found
        self._marks: list[Found] = []
        self.sent: list[str] = []

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, topics: Any, *, since_ms: int = 0) -> Iterator[Found]:
        for found in [*self._found, *self._marks]:
            if found.topic in topics and found.timestamp_ms >= since_ms:
                yield found

    @contextmanager
    def redriving(self) -> Iterator["Log"]:
        yield self

    def send(self, chosen: Any, told: Any) -> None:
        for found in list(chosen):
            self.sent.append(found.place)
            mark = {"offset": 900 + len(self._marks), "timestamp_ms": 2**40, "sent": (found.offset,)}
            self._marks.append(Found(topic=found.topic, partition=found.partition, letter=None, **mark))
            told(found)


def letter(offset: int, origin: str = SUBMISSIONS, redrives: int = 0, **more: Any) -> Found:
    first = f"{origin}/0/{offset if not redrives else 0}".encode()
    headers = ((FIRST_PLACE, first), (REDRIVE_COUNT, str(redrives).encode())) if redrives else ()
    fields = {"value": SECRET + b"\x1b[2J", "reason": "malformed_json", "message": "cut", **more}
    held = DeadLetter(
        topic=origin,
        partition=0,
        offset=offset,
        timestamp_ms=0,
        key=b"k",
        headers=(*headers, ("kind", SECRET)),
        stage="admit",
        **fields,
    )
    return Found(topic=f"{origin}.dlq", partition=0, offset=offset + 100, timestamp_ms=offset, letter=held)


def call(monkeypatch: pytest.MonkeyPatch, log: Log, *arguments: str) -> Result:
    monkeypatch.setattr(commands, "_open", lambda _config, _bootstrap: log)
    return CliRunner().invoke(plumbline, ["deadletters", *arguments])


def test_the_list_shows_place_and_reason_and_nothing_of_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = letter(2, is_ours=False, message="kaninchen", reason="org.X\x1b[2J")
    nothing = Found(topic=f"{SUBMISSIONS}.dlq", partition=0, offset=9, timestamp_ms=9, letter=None)
    log = Log([letter(0), letter(1, reason="id_conflict"), foreign, nothing])
    done = call(monkeypatch, log, "list")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == (
        f"{SUBMISSIONS}.dlq/0/100  1970-01-01T00:00:00+00:00 from {SUBMISSIONS}/0/0 at admit: "
        "malformed_json (cut), 13 bytes"
    )
    assert done.stdout.splitlines()[-1] == "4 dead letters"
    as_json = call(monkeypatch, log, "list", "--json", "--reason", "id_conflict", "--origin", "submissions")
    (one,) = map(msgspec.json.decode, as_json.stdout.splitlines())
    assert (one["reason"], one["origin"], one["bytes"]) == ("id_conflict", f"{SUBMISSIONS}/0/1", 13)
    for shown in (done.output, as_json.output):
        assert "kaninchen" not in shown
        assert "\x1b" not in shown
    assert call(monkeypatch, log, "list", "--limit", "1").stdout.splitlines()[-1] == "1 dead letters"
    wrong = call(monkeypatch, log, "list", "--origin", "gossip")
    assert (wrong.exit_code, "no origin 'gossip'; there are plumbline.submissions.v1" in wrong.stderr) == (
        1,
        True,
    )


def test_show_masks_unless_asked_and_never_moves_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    log, place = Log([letter(0)]), f"{SUBMISSIONS}.dlq/0/100"
    masked = call(monkeypatch, log, "show", place).output
    assert "kaninchen" not in masked
    assert "value: (13 bytes)" in masked
    original = call(monkeypatch, log, "show", place, "--original").output
    assert "value: kaninchen\\x1b[2J" in original
    assert "\x1b" not in original
    coded = msgspec.json.decode(call(monkeypatch, log, "show", place, "--original", "--json").stdout)
    assert base64.b64decode(coded["value"]) == SECRET + b"\x1b[2J"
    assert "kaninchen" not in call(monkeypatch, log, "show", place, "--json").output
    for wrong in ("nowhere", f"{SUBMISSIONS}.dlq/0/7", "secrets/0/0"):
        done = call(monkeypatch, log, "show", wrong)
        assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)


def test_redrive_sends_each_record_once_and_says_what_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = letter(5, origin="plumbline.signals.v1")
    empty = letter(6, value=None)
    log = Log([letter(0), letter(1), letter(2, redrives=1), letter(3, redrives=2), inner, empty])
    dry = call(monkeypatch, log, "redrive", "--dry-run")
    assert (log.sent, dry.exit_code) == ([], 1)
    assert dry.stdout == "2 would be sent\n"
    done = call(monkeypatch, log, "redrive", "--json")
    # 0, 2 and 3 are one record that came three times: the latest is sent.
    assert log.sent == [f"{SUBMISSIONS}.dlq/0/101", f"{SUBMISSIONS}.dlq/0/103"]
    told = msgspec.json.decode(done.stdout)
    assert (told["chosen"], told["sent"], done.exit_code) == (2, 2, 1)
    assert sorted(told["kept"].values()) == [1, 1]
    only = call(monkeypatch, log, "redrive", "--origin", "submissions", "--since", "1970-01-01T00:00:00.001Z")
    assert only.exit_code == 1  # the empty one is among them
    assert len(log.sent) == 2  # and the others were sent before
    fine = call(monkeypatch, Log([letter(0)]), "redrive")
    assert (fine.exit_code, fine.stdout) == (0, "1 of 1 sent\n")


def test_what_was_sent_is_not_sent_again_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log([letter(at) for at in range(5)])
    assert call(monkeypatch, log, "redrive", "--limit", "2").stdout == "2 of 2 sent\n"
    rest = call(monkeypatch, log, "redrive")
    assert (rest.exit_code, rest.stdout) == (0, "3 of 3 sent\n")
    assert rest.stderr == "2 not sent: a redrive has sent them before: add --again\n"
    assert sorted(log.sent) == [f"{SUBMISSIONS}.dlq/0/{100 + at}" for at in range(5)]
    told = msgspec.json.decode(call(monkeypatch, log, "redrive", "--dry-run", "--json").stdout)
    assert (told["chosen"], told["sent_before"]) == (0, 5)
    log._found.append(letter(7, redrives=1))  # the first of them came back
    assert call(monkeypatch, log, "redrive").stdout == "1 of 1 sent\n"
    assert log.sent[5:] == [f"{SUBMISSIONS}.dlq/0/107"]
    assert call(monkeypatch, log, "redrive", "--again").stdout == "5 of 5 sent\n"
    assert call(monkeypatch, log, "list").stdout.splitlines()[-1] == "6 dead letters"
    assert call(monkeypatch, log, "show", f"{SUBMISSIONS}.dlq/0/900").exit_code == 2


@pytest.mark.parametrize("text", ["2x", "yesterday", "1", "-1h"])
def test_a_time_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    done = call(monkeypatch, Log([]), "list", "--since", text)
    assert done.exit_code == 2
