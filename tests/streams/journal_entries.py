"""Small records and entries for the tests of the journal."""

from detectors.records import Feedback
from streams.embedded.journal import Journal
from streams.inbox import Entry


def feedback(number: int, comment: str = "") -> Feedback:
    return Feedback(
        deployment="d",
        feedback_id=str(number),
        interaction_id="i",
        kind="thumb",
        event_time_ms=number,
        received_at_ms=number,
        value=0.5,
        comment=comment,
    )


def entry(
    number: int, *, identity: str = "", digest: str = "", key: str | None = "k", topic="feedback"
) -> Entry:
    return Entry(
        topic=topic, key=key, record=feedback(number), identity=identity or f"f/{number}", digest=digest
    )


def landed(journal: Journal, topic: str, last_id: int, phase: str = "after") -> None:
    with journal.transaction() as db:
        db.execute("INSERT OR REPLACE INTO landings VALUES (?, 1, ?, ?)", (topic, last_id, phase))
