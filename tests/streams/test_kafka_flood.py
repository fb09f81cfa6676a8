"""Floods of bad records: when it is one, that a restart does not forget, and what the page says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.records.codec import decode, encode
from streams.kafka.flood import FloodGauge, flood_error, flood_page, parse_accepted
from streams.response.eligibility import plan
from streams.settings import SettingsError

ROWS = st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 20), st.integers(0, 20)), max_size=60)


def gauge(share: float = 0.5, records: int = 100) -> FloodGauge:
    return FloodGauge(share=share, records=records)


def test_a_bad_share_of_few_records_is_no_flood():
    assert not gauge().add(0, good=0, bad=99)
    assert gauge().add(0, good=0, bad=100)


def test_many_bad_records_among_more_good_ones_are_no_flood():
    assert not gauge().add(0, good=100, bad=100)
    assert gauge().add(0, good=100, bad=101)


def test_a_minute_of_record_time_is_looked_at():
    slow = gauge()
    assert not any(slow.add(second * 1000, good=0, bad=1) for second in range(1_000))
    fast = gauge()
    assert [fast.add(second * 1000, good=0, bad=2) for second in range(60)].index(True) == 49


def test_the_whole_share_can_be_allowed():
    assert not gauge(share=1.0).add(0, good=0, bad=10_000)


@given(ROWS)
def test_time_that_goes_back_hides_no_bad_record(rows):
    """In any order within one minute of the newest record, the counts are those of all records."""
    one = gauge()
    newest = max((at for at, _, _ in rows), default=0)
    near = [(max(at, newest - 59_000), good, bad) for at, good, bad in rows]
    for row in near:
        one.add(row[0], good=row[1], bad=row[2])
    assert one.counts() == (sum(row[1] for row in near), sum(row[2] for row in near))


@given(ROWS, st.integers(0, 60))
def test_a_restart_anywhere_forgets_nothing(rows, cut):
    straight, restarted = gauge(records=20), gauge(records=20)
    for number, (at_ms, good, bad) in enumerate(sorted(rows)):
        if number == cut:
            restarted = FloodGauge.from_state(restarted.to_state(), share=0.5, records=20)
        assert straight.add(at_ms, good, bad) == restarted.add(at_ms, good, bad)
    assert len(straight.to_state()) <= 60


def test_one_record_from_the_future_does_not_turn_the_rule_off():
    one = gauge(records=20)
    assert not one.add(10**15, good=1, bad=0)
    assert not any(one.add(second * 1000, good=100, bad=0) for second in range(100))
    assert one.counts()[0] <= 6_001
    assert any(one.add((200 + second) * 1000, good=0, bad=10) for second in range(5))


def test_bad_records_under_a_stray_time_count_on():
    one = gauge(records=20)
    assert not one.add(10**12, good=0, bad=19)
    assert one.add(0, good=0, bad=1)
    assert not one.add(61_000, good=0, bad=1)


def test_who_has_looked_may_go_on():
    one = gauge()
    assert one.add(0, good=0, bad=500)
    one.clear()
    assert not one.add(1_000, good=1, bad=1)


@pytest.mark.parametrize("state", [[[1, 2]], [1], [[None, 1, 1]], 5])
def test_a_foreign_state_is_refused(state):
    with pytest.raises(ValueError, match=r"."):
        FloodGauge.from_state(state, share=0.5, records=1)


def test_the_page_is_one_per_stop_and_only_pages():
    first = flood_page("p.submissions.v1", 3, 70_000, at_ms=5, good=10, bad=190)
    again = flood_page("p.submissions.v1", 3, 70_000, at_ms=9, good=11, bad=192)
    later = flood_page("p.submissions.v1", 3, 70_001, at_ms=5, good=10, bad=190)
    assert first.decision_id == again.decision_id != later.decision_id
    assert plan(first, {}, has_target=True).outcome == "page"
    assert (first.deployment, first.reason, first.cause) == ("plumbline", "dead_letter_flood", "common")
    assert decode("Decision", encode(first)) == first


def test_the_error_says_how_to_go_on():
    text = str(flood_error("p.submissions.v1", 3, good=0, bad=190))
    assert "\n" not in text
    assert "--accept-flood p.submissions.v1/3" in text
    assert parse_accepted(("p.submissions.v1/3",)) == {("p.submissions.v1", 3)}


@pytest.mark.parametrize("text", ["", "topic", "topic/", "/3", "topic/x", "topic/-1", "topic/²"])
def test_what_is_accepted_must_be_named(text):
    with pytest.raises(SettingsError, match="TOPIC/PARTITION"):
        parse_accepted((text,))
