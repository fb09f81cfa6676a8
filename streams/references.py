"""The references of an embedded installation: which are in force, and what was normal in a span of time."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec

from detectors.records import Reference, Scorecard
from detectors.redaction import Redactor
from detectors.stages import StageState
from detectors.stages.reference_range import references_of
from detectors.stages.units import SegmentTable
from streams.door.admission import AdmissionContext, Refusal, admit_payloads
from streams.embedded.errors import StorageError
from streams.embedded.journal import Journal
from streams.embedded.lock import lock_directory
from streams.embedded.port import JournalPort
from streams.embedded.user_key import load_user_key
from streams.inbox import Entry
from streams.settings import Settings, SettingsError

_ROWS = 2_000


class References:
    """Reads references from a journal, which a monitor may be writing to, and approves them in a stopped one.

    Use it as a context manager.

    Parameters
    ----------
    settings
        Of the installation.

    Raises
    ------
    StorageError
        If its data directory holds no journal, or the journal cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._directory = Path(settings.data_dir)
        path = self._directory / "journal.db"
        if not path.is_file():
            raise StorageError(
                f"{path}: there is no journal: name the data directory of a monitor; on Kafka, send "
                "references by `plumbline produce --kind reference`"
            )
        self._journal = Journal(path, partitions=settings.journal.partitions)
        port = JournalPort(self._journal, "detect", "scorecards")
        partitions = range(settings.journal.partitions)
        try:
            self._states = [StageState(port.stored_state(partition)) for partition in partitions]
        except ValueError as error:
            self._journal.close()
            raise StorageError(f"{path}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def in_force(self, deployment: str | None = None) -> list[Reference]:
        """Return the anchors (of `deployment`), by deployment, metric and segment."""
        found = [
            msgspec.convert(state.get(key), Reference)
            for state in self._states
            for key in state.keys("anchor[")
        ]
        chosen = [one for one in found if deployment in (None, one.deployment)]
        return sorted(chosen, key=lambda one: (one.deployment, one.metric, one.segment, one.scorer_version))

    def find(self, reference_id: str) -> Reference:
        """Return the one anchor whose id begins with `reference_id`.

        Raises
        ------
        SettingsError
            If there is none, or several.
        """
        found = [one for one in self.in_force() if one.reference_id.startswith(reference_id)]
        if len(found) != 1:
            raise SettingsError(f"{len(found)} references in force have an id that begins so: see the list")
        return found[0]

    def measure(
        self, deployment: str, release: str, *, from_ms: int | None = None, to_ms: int | None = None
    ) -> list[Reference]:
        """Return what was normal for `release` between two event times (the end excluded).

        Raises
        ------
        SettingsError
            If the journal holds too few of its scorecards there.
        """
        first, last = from_ms or 0, 2**63 if to_ms is None else to_ms
        cards = (
            card
            for card in self._cards(deployment)
            if card.release == release and first <= card.event_time_ms < last
        )
        unit_ms = round(self._settings.detect.unit_s * 1000)
        found = references_of(cards, self._table(deployment), unit_ms=unit_ms)
        if not found:
            raise SettingsError(
                f"too few scored interactions of {deployment} {release} in that span to tell what is normal"
            )
        return found

    def reached_ms(self, deployment: str) -> int:
        """Return the latest event time of `deployment`; 0 without scorecards."""
        return max((card.event_time_ms for card in self._cards(deployment)), default=0)

    def approve(self, submissions: list[dict[str, Any]]) -> int:
        """Write approvals into the journal of a stopped monitor, in the form of POST /v1/references.

        Returns how many were new. A monitor or a replay takes them in when it goes on.

        Raises
        ------
        SettingsError
            If the door would refuse one; then none is written.
        StorageError
            If another process holds the data directory.
        """
        lock = lock_directory(self._directory)
        try:
            judged = admit_payloads(
                [msgspec.json.encode(one) for one in submissions], "reference", self._context()
            )
            refused = next((one for one in judged if isinstance(one, Refusal)), None)
            if refused is not None:
                raise SettingsError(f"a reference was refused: {refused.message}")
            entries = [one for one in judged if isinstance(one, Entry)]
            outcomes = self._journal.admit(entries)
        finally:
            lock.close()
        told = zip(entries, outcomes, strict=True)
        return sum(entry.topic == "references" and outcome == "accepted" for entry, outcome in told)

    def _context(self) -> AdmissionContext:
        return AdmissionContext(
            settings=msgspec.structs.replace(self._settings.door, clamp=False),
            redactor=Redactor(),
            user_key=load_user_key(self._directory, self._settings.door.user_key_file),
            received_at_ms=time.time_ns() // 1_000_000,
        )

    def _cards(self, deployment: str) -> Iterator[Scorecard]:
        after = 0
        while rows := self._journal.read_topic("scorecards", after, _ROWS):
            after = rows[-1].row_id
            for row in rows:
                if isinstance(row.record, Scorecard) and row.record.deployment == deployment:
                    yield row.record

    def _table(self, deployment: str) -> SegmentTable:
        """Return which values detection keeps apart, so that a slice means the same to both."""
        key = f"segments{msgspec.json.encode([deployment]).decode()}"
        kept: dict[str, list[str]] = next(
            (state.get(key) for state in self._states if state.get(key) is not None), {}
        )
        return SegmentTable({name: len(values) for name, values in kept.items()}, dict(kept))


def submission_of(reference: Reference, *, approved_at_ms: int) -> dict[str, Any]:
    """Return `reference` in the form of POST /v1/references, approved from `approved_at_ms` on."""
    return {
        "deployment": reference.deployment,
        "release": reference.release,
        "metric": reference.metric,
        "segment": reference.segment,
        "scorer_version": reference.scorer_version,
        "n": reference.n,
        "mean": reference.mean,
        "variance": reference.variance,
        "first_at": reference.first_ms,
        "last_at": reference.last_ms,
        "approved_at": approved_at_ms,
        "cells": {name: [cell.n, cell.total, cell.squares] for name, cell in reference.cells.items()},
    }
