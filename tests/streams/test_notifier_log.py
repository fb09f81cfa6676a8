"""The log notifier writes one plain line per notice."""

import asyncio
import logging

import pytest

from streams.checks.notifier_checks import HOSTILE, sample_notice
from streams.notifiers import NOTIFIERS


@pytest.mark.parametrize(
    ("transition", "level"),
    [("DECIDED", logging.WARNING), ("ROLLED_BACK", logging.INFO), ("FAILED", logging.CRITICAL)],
)
def test_one_line_with_the_level_of_the_transition(caplog, transition, level):
    caplog.set_level(logging.INFO, logger="notices.test")
    notice = sample_notice("worse than stable")
    notice = type(notice)(
        notice_id="n-1", decision=notice.decision, transition=transition, summary="It got worse."
    )
    asyncio.run(NOTIFIERS.build("log", {"logger": "notices.test"}).notify(notice))
    assert [record.levelno for record in caplog.records] == [level]
    assert caplog.records[0].getMessage().endswith("It got worse. [n-1]")


def test_hostile_text_stays_one_line(caplog):
    asyncio.run(NOTIFIERS.build("log", {}).notify(sample_notice(HOSTILE)))
    assert caplog.records[0].getMessage().isprintable()
    assert len(caplog.records[0].getMessage()) < 1_000
