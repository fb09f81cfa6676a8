"""Writes each notice as one line of the log."""

import logging
from typing import ClassVar

from detectors.records.wording import plain_segment
from streams.notifiers import Notice, notifier
from streams.outgoing import clean

LEVELS = {"DECIDED": logging.WARNING, "FAILED": logging.CRITICAL}


@notifier("log")
class Log:
    """One plain line per notice, at WARNING for a page, CRITICAL for a failed rollback, INFO otherwise.

    Parameters
    ----------
    logger
        The name of the standard library's logger that is written to.
    """

    name: ClassVar[str] = "log"
    contract: ClassVar[str] = "local"

    def __init__(self, *, logger: str = "plumbline.notices") -> None:
        self._log = logging.getLogger(logger)

    @classmethod
    def example(cls, *, url: str, secret_file: str) -> "Log":  # noqa: ARG003 - it calls nobody
        """Return one for the conformance checks."""
        return cls()

    async def notify(self, notice: Notice) -> None:
        """Write `notice`; control characters are replaced, so that one notice is one line."""
        decision = notice.decision
        words = (notice.transition, decision.deployment, decision.release, decision.metric)
        line = " ".join(clean(word, 80) for word in (*words, plain_segment(decision.segment)))
        level = LEVELS.get(notice.transition, logging.INFO)
        where = f" {clean(notice.links['page'], 512)}" if "page" in notice.links else ""
        self._log.log(
            level, "%s: %s%s [%s]", line, clean(notice.summary, 400), where, clean(notice.notice_id)
        )
