"""What lands in the real engine, to the letter: values, order, repetition, and what is bent to fit."""

import json

from detectors.records import (
    Arm,
    Interaction,
    Label,
    Score,
    Scorecard,
    Span,
    Tick,
    Turn,
)
from detectors.records.codec import Record
from streams.landing_rows import rows_of
from streams.store import Reader, Store
from tests.streams import landed_rows
from tests.streams.landed_rows import land, read

store, reader = landed_rows.store, landed_rows.reader

# After the rows' retention could ever have passed, or TTL would eat what the test wants to read.
NOW = 3_786_912_000_000


def test_scores_land_with_their_values(store: Store, reader: Reader) -> None:
    scores = (
        Score(
            name="refusal",
            value=0.25,
            direction="lower",
            label="partial",
            flags=("tone",),
            version="3",
            spans=(Span("response", 1, 4, "r1"),),
            confidence=0.5,
        ),
        Score(name="grounding", status="skipped", reason="budget"),
    )
    card = Scorecard(
        deployment="exact",
        interaction_id="i",
        release="r",
        event_time_ms=NOW + 1,
        received_at_ms=NOW + 2,
        unit="u",
        scores=scores,
        verdict="review",
        deciding=("refusal",),
        arm=Arm("canary", 0.1),
        policy_version="p",
    )
    land(store, [(5, 980_000, card)], "exact")
    skipped, scored = sorted(read(reader, "scores", 980_000), key=lambda row: row["metric"])
    assert (scored["value"], scored["status"], scored["label"], scored["flags"]) == (
        0.25,
        "scored",
        "partial",
        ["tone"],
    )
    assert json.loads(scored["spans"]) == [["response", 1, 4, "r1"]]
    assert (scored["arm"], scored["verdict"], scored["unit"], scored["version"]) == (
        "canary",
        "review",
        "u",
        "3",
    )
    assert (scored["event_time"], scored["received_at"], scored["src_partition"]) == (NOW + 1, NOW + 2, 5)
    assert (skipped["value"], skipped["status"], skipped["reason"]) == (None, "skipped", "budget")


def test_a_batch_lands_whole_and_in_order(store: Store, reader: Reader) -> None:
    records: list[tuple[int, int, Record]] = [
        (
            1,
            900_000 + index,
            Label(
                deployment="order",
                label_id=str(index),
                interaction_id="i",
                metric="m",
                value=0.5,
                rater="r",
                event_time_ms=NOW,
                received_at_ms=NOW,
            ),
        )
        for index in range(500)
    ]
    assert rows_of(records)["labels"]["src_offset"] == [offset for _, offset, _ in records]
    assert rows_of(records) == rows_of(records)
    land(store, records, "order")
    land(store, records[100:300], "an overlapping batch")
    rows = reader.query("SELECT count() AS n FROM labels FINAL WHERE deployment = 'order'", {})
    assert rows == [{"n": 500}]


def test_ticks_land_nowhere() -> None:
    assert rows_of([(0, 1, Tick(source_partition=0, watermark_ms=1))]) == {}


def test_times_and_numbers_out_of_range_land_bent(store: Store, reader: Reader) -> None:
    record = Interaction(
        deployment="odd",
        interaction_id="i",
        raw_id="i",
        release="r",
        event_time_ms=-5,
        received_at_ms=10**30,
        prompt="p",
        response="r",
        input_tokens=-(10**40),
    )
    land(store, [(0, 950_000, record)], "odd")
    (row,) = read(reader, "interactions", 950_000)
    assert row["event_time"] == 0
    assert row["received_at"] == 4_102_444_800_000
    assert row["input_tokens"] == -(2**63 - 1)


def test_lone_surrogates_become_replacement_characters(store: Store, reader: Reader) -> None:
    record = Interaction(
        deployment="sur",
        interaction_id="i",
        raw_id="\ud800",
        release="r",
        event_time_ms=NOW,
        received_at_ms=NOW,
        prompt="a\udfffb",
        response="\U0001f600",
        history=(Turn("user", "x\ud83d"),),
        extra={"k\ud800": "\udc00"},
    )
    land(store, [(0, 960_000, record)], "sur")
    (row,) = read(reader, "interaction_text", 960_000)
    assert (row["prompt"], row["response"]) == ("a\ufffdb", "\U0001f600")
    assert json.loads(row["history"])[0]["text"] == "x\ufffd"
    assert json.loads(row["extra"]) == {"k\ufffd": "\ufffd"}


def test_a_megabyte_of_text_lands(store: Store, reader: Reader) -> None:
    record = Interaction(
        deployment="big",
        interaction_id="i",
        raw_id="i",
        release="r",
        event_time_ms=NOW,
        received_at_ms=NOW,
        prompt="é" * 1_000_000,
        response="r",
    )
    land(store, [(0, 970_000, record)], "big")
    assert read(reader, "interaction_text", 970_000)[0]["prompt"] == record.prompt
