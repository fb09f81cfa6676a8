"""Whatever a record holds, it lands in the real engine and reads back as it was."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.records import (
    Action,
    Annotations,
    Arm,
    Decision,
    Feedback,
    Interaction,
    Interval,
    Label,
    Redaction,
    Reference,
    Release,
    Score,
    Scorecard,
    Signal,
    Span,
    StreamKey,
    ToolCall,
    Turn,
)
from detectors.records.codec import TYPES, Record
from streams.landing_rows import rows_of
from streams.store import Reader, Store
from tests.streams import landed_rows
from tests.streams.landed_rows import land, read

store, reader = landed_rows.store, landed_rows.reader

# After the rows' retention could ever have passed, or TTL would eat what the test wants to read.
NOW = 3_786_912_000_000
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40) | st.sampled_from(
    ["<script>", "\x00\x1b[0m", "\u202eabc", "'; DROP TABLE scores; --", "\\N", "\\", "\t\n\r", "{a:String}"]
)
WORD = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
TIME = st.integers(NOW, NOW + 86_400_000)
SHARE = st.none() | st.floats(0.01, 0.99)
UNIT = st.floats(0, 1)
MAYBE = st.none() | st.floats(-1, 1)
ARM = st.none() | st.builds(Arm, WORD, SHARE, st.sampled_from(["conversation", "user"]))

SCORE = st.builds(
    Score,
    name=WORD,
    value=st.none() | UNIT,
    direction=st.sampled_from(["higher", "lower", "neutral"]),
    confidence=UNIT,
    label=TEXT,
    flags=st.lists(WORD, max_size=2).map(tuple),
    reason=TEXT,
    version=WORD,
    spans=st.lists(st.builds(Span, WORD, st.integers(0, 9), st.integers(9, 99), TEXT), max_size=2).map(tuple),
    status=st.sampled_from(["scored", "abstained", "skipped", "errored"]),
)
RECORDS: dict[str, st.SearchStrategy[Any]] = {
    "Interaction": st.builds(
        Interaction,
        deployment=WORD,
        interaction_id=WORD,
        raw_id=TEXT,
        release=WORD,
        event_time_ms=TIME,
        received_at_ms=TIME,
        prompt=TEXT,
        response=TEXT,
        system=TEXT,
        context=st.lists(TEXT, max_size=2).map(tuple),
        history=st.lists(st.builds(Turn, st.just("user"), TEXT), max_size=2).map(tuple),
        user=TEXT,
        tools=st.lists(st.builds(ToolCall, WORD, TEXT, TEXT), max_size=1).map(tuple),
        final=st.booleans(),
        arm=ARM,
        input_tokens=st.none() | st.integers(0, 2**70),
        latency_s=st.none() | st.floats(0, 1e6),
        model=TEXT,
        attributes=st.dictionaries(WORD, TEXT, max_size=2),
        extra=st.dictionaries(WORD, TEXT, max_size=2),
        annotations=st.builds(Annotations, unsafe_request=st.none() | st.booleans(), reference_answer=TEXT),
        redactions=st.lists(st.builds(Redaction, WORD, WORD, st.just(0), st.just(3)), max_size=2).map(tuple),
    ),
    "Scorecard": st.builds(
        Scorecard,
        deployment=WORD,
        interaction_id=WORD,
        release=WORD,
        event_time_ms=TIME,
        received_at_ms=TIME,
        unit=TEXT,
        scores=st.lists(SCORE, max_size=3, unique_by=lambda score: (score.name, score.version)).map(tuple),
        verdict=st.sampled_from(["pass", "review", "reject"]),
        deciding=st.lists(WORD, max_size=2).map(tuple),
        arm=ARM,
        segments=st.dictionaries(WORD, TEXT, max_size=2),
        policy_version=TEXT,
        source_offset=st.integers(0, 2**40),
    ),
    "Signal": st.builds(
        Signal,
        signal_id=WORD,
        kind=st.sampled_from(["change", "cleared", "status"]),
        at_ms=TIME,
        stream=st.builds(StreamKey, WORD, WORD, TEXT, WORD, st.sampled_from(["reference", "arm", "share"])),
        n=st.integers(0, 10**9),
        mean=st.none() | UNIT,
        baseline=st.none() | UNIT,
        effect=MAYBE,
        interval=st.none() | st.builds(Interval, UNIT, UNIT, st.just(0.95)),
        evidence=st.floats(-9, 400),
        worse=st.booleans(),
        began_at_ms=st.none() | TIME,
        bad=st.lists(TEXT, max_size=2).map(tuple),
        reason=TEXT,
    ),
    "Decision": st.builds(
        Decision,
        decision_id=WORD,
        deployment=WORD,
        release=WORD,
        cause=st.sampled_from(["release", "common"]),
        verbs=st.lists(st.sampled_from(["page", "rollback"]), unique=True).map(tuple),
        reason=TEXT,
        rule=WORD,
        at_ms=TIME,
        summary=TEXT,
        metric=WORD,
        segment=TEXT,
        effect=MAYBE,
        began_at_ms=st.none() | TIME,
    ),
    "Action": st.builds(
        Action,
        action_id=WORD,
        seq=st.integers(0, 99),
        deployment=WORD,
        release=WORD,
        decision_id=WORD,
        kind=st.sampled_from(["page", "rollback"]),
        target=TEXT,
        at_ms=TIME,
        reason=TEXT,
        dry_run=st.booleans(),
        state=st.sampled_from(["DECIDED", "EXECUTING", "VERIFYING", "ROLLED_BACK", "FAILED"]),
        detail=st.dictionaries(WORD, TEXT | UNIT, max_size=2),
    ),
    "Release": st.builds(
        Release,
        deployment=WORD,
        release=WORD,
        role=st.sampled_from(["stable", "candidate", "retired"]),
        started_at_ms=TIME,
        digest=TEXT,
        share=SHARE,
        notes=TEXT,
    ),
    "Feedback": st.builds(
        Feedback,
        deployment=WORD,
        feedback_id=WORD,
        interaction_id=WORD,
        value=UNIT,
        event_time_ms=TIME,
        kind=st.sampled_from(["thumb", "rating", "ticket", "outcome"]),
        received_at_ms=TIME,
        comment=TEXT,
    ),
    "Label": st.builds(
        Label,
        deployment=WORD,
        label_id=WORD,
        interaction_id=WORD,
        metric=WORD,
        value=UNIT,
        rater=TEXT,
        event_time_ms=TIME,
        received_at_ms=TIME,
        comment=TEXT,
    ),
    "Reference": st.builds(
        Reference,
        reference_id=WORD,
        deployment=WORD,
        release=WORD,
        segment=TEXT,
        metric=WORD,
        scorer_version=WORD,
        n=st.integers(0, 10**9),
        mean=UNIT,
        variance=UNIT,
        first_ms=TIME,
        last_ms=TIME,
    ),
}
TABLES = (
    "actions",
    "comments",
    "decisions",
    "feedback",
    "interaction_text",
    "interactions",
    "labels",
    "reference_points",
    "releases",
    "scorecards",
    "scores",
    "signals",
)


_OFFSET = iter(range(10**6))


LANDS_IN = {
    "Interaction": {"interactions", "interaction_text"},
    "Scorecard": {"scorecards", "scores"},
    "Signal": {"signals"},
    "Decision": {"decisions"},
    "Action": {"actions"},
    "Release": {"releases"},
    "Feedback": {"feedback", "comments"},
    "Label": {"labels", "comments"},
    "Reference": {"reference_points"},
}


def test_every_flowing_record_has_a_strategy_here() -> None:
    assert set(RECORDS) | {"Tick"} == set(TYPES)


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_record_reads_back_as_it_was(name: str, store: Store, reader: Reader) -> None:
    landed: set[str] = set()

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @given(record=RECORDS[name])
    def check(record: Record) -> None:
        offset = next(_OFFSET)
        batch = [(3, offset, record)]
        land(store, batch, f"t{offset}")
        land(store, batch, f"t{offset}")
        land(store, batch, f"again{offset}")
        landed.update(rows_of(batch))
        for table, columns in rows_of(batch).items():
            wanted = [
                dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
            ]
            key = "metric" if table == "scores" else "deployment"
            found = sorted(read(reader, table, offset), key=lambda row: (row[key], row.get("version", "")))
            wanted.sort(key=lambda row: (row[key], row.get("version", "")))
            assert found == wanted
            if table != "scores":
                (row,) = found
                agree(record, row)

    check()
    assert landed == LANDS_IN[name]


def agree(record: Record, row: dict[str, Any]) -> None:
    """Compare the plain fields of a record with the columns of the same name; times lose their suffix."""
    compared = 0
    for field in record.__struct_fields__:
        value = getattr(record, field)
        column = field.removesuffix("_ms")
        column = column if column in row else f"{column}_at"
        if column in row and (isinstance(value, (str, bool, float)) or (field.endswith("_ms") and value)):
            assert row[column] == value, field
            compared += 1
    assert compared >= 3


def test_every_table_gets_something() -> None:
    assert set(TABLES) == set().union(*LANDS_IN.values())
