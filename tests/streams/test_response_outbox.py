"""The outbox's rows: written once, claimed by one, settled by the one who claimed."""

import pytest

from streams.checks.notifier_checks import sample_notice
from streams.response import Ledger, outbox


@pytest.fixture
def transaction(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    with ledger.begin() as transaction:
        yield transaction
    ledger.close()


def post(transaction, channel="pager", transition="DECIDED", at_ms=100):
    outbox.post(
        transaction,
        channel=channel,
        decision=sample_notice().decision,
        transition=transition,
        summary="worse",
        at_ms=at_ms,
        action=None,
        links={},
    )


def test_one_row_per_decision_transition_and_channel(transaction):
    for at_ms in (100, 200):
        for channel in ("pager", "log"):
            for transition in ("DECIDED", "FAILED"):
                post(transaction, channel, transition, at_ms)
    rows = outbox.every(transaction)
    assert [(one.channel, one.notice.transition, one.next_at_ms) for one in rows] == [
        ("pager", "DECIDED", 100),
        ("pager", "FAILED", 100),
        ("log", "DECIDED", 100),
        ("log", "FAILED", 100),
    ]
    assert len({one.notice.notice_id for one in rows}) == 4


def test_of_two_that_saw_a_row_due_one_gets_it(transaction):
    post(transaction)
    assert outbox.due(transaction, "pager", 99, limit=9) == []
    first, second = (outbox.due(transaction, "pager", 100, limit=9)[0] for _ in range(2))
    assert outbox.claim(transaction, first, until_ms=500, now_ms=100)
    assert not outbox.claim(transaction, second, until_ms=500, now_ms=100)
    assert outbox.due(transaction, "pager", 499, limit=9) == []


def test_a_late_answer_does_not_overwrite_a_later_attempt(transaction):
    post(transaction)
    first = outbox.due(transaction, "pager", 100, limit=9)[0]
    assert outbox.claim(transaction, first, until_ms=500, now_ms=100)
    again = outbox.due(transaction, "pager", 500, limit=9)[0]
    assert outbox.claim(transaction, again, until_ms=900, now_ms=500)
    assert not outbox.settle(transaction, first, "dead", now_ms=501, next_at_ms=0, reason="late")
    assert outbox.settle(transaction, again, "sent", now_ms=502, next_at_ms=0, reason="x" * 999)
    row = outbox.every(transaction)[0]
    assert (row.state, row.attempts, len(row.reason)) == ("sent", 2, outbox.REASON_CHARS)
