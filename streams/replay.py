"""Replay: a file of recorded interactions through the same stages, as fast as the machine allows."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from detectors.comparison import ReleaseSample
from detectors.records import Interaction, Role, Scorecard, Signal, Tick
from detectors.redaction import Redactor
from detectors.stages.units import bucket_of
from streams.assembly import assemble
from streams.door.admission import AdmissionContext, Refusal, admit_payloads
from streams.embedded.errors import StorageError
from streams.embedded.journal import Journal
from streams.embedded.landing import Lander
from streams.embedded.ledger_file import open_ledger
from streams.embedded.lock import lock_directory
from streams.embedded.pipeline import Pipeline
from streams.embedded.user_key import load_user_key
from streams.inbox import Entry
from streams.mapping import MappingError, apply_mapping
from streams.settings import Settings, SettingsError, read_secret
from streams.store import open_store

_CHUNK: Final = 500
_MAX_LINE_BYTES: Final = 8 * 1_048_576


class ReplayResult(Struct, frozen=True):
    """What became of the lines of one file: counts of outcomes, and the first refusals by line."""

    outcomes: dict[str, int]
    refusals: tuple[tuple[int, str], ...]


class LineFields(Struct, frozen=True):
    """What is put into a line: ``constants`` where it has no such field, ``forced`` whatever it has."""

    constants: Mapping[str, Any] = {}
    forced: Mapping[str, Any] = {}


class Replayer:
    """Feeds files into a data directory: the door's checks (clamp off), the journal, the stages, the store.

    Use it as a context manager; leaving it drains the stages and lands what is left.

    Parameters
    ----------
    settings
        As for a live monitor; the event-time clamp is off, nothing is acted on.
    """

    def __init__(self, settings: Settings) -> None:
        door = msgspec.structs.replace(settings.door, clamp=False)
        self._settings = msgspec.structs.replace(settings, door=door)
        self._stages = assemble(self._settings).stages

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._open(opened)
            self._opened = opened.pop_all()
        return self

    def _open(self, opened: ExitStack) -> None:
        directory = Path(self._settings.data_dir)
        opened.callback(lock_directory(directory).close)
        self._key = load_user_key(directory, self._settings.door.user_key_file)
        self._journal = Journal(directory / "journal.db", partitions=self._settings.journal.partitions)
        opened.callback(self._journal.close)
        self._ledger = open_ledger(directory / "ledger.db")
        opened.callback(self._ledger.close)
        self._refuse_pending_decisions(directory)
        land = self._settings.land
        password = read_secret(env=land.password_env, what="store password")
        self._store = open_store(
            path=directory / "store", dsn=land.dsn, password=password, database=land.database
        )
        opened.callback(self._store.close)
        self._store.migrate()
        self._lander = Lander(self._journal, self._store, batch=land.batch)
        self._pipeline = Pipeline(self._journal, self._stages, batch=self._settings.journal.batch)
        self._counts_before = self._pipeline.counts()
        self._signals_before = self._last_signal()
        self._last_event_ms = -1

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _refuse_pending_decisions(self, directory: Path) -> None:
        """Make sure that what replay marks as not to be acted on is replay's own."""
        with self._ledger.begin() as transaction:
            for partition, end in self._journal.ends("decisions").items():
                if self._ledger.position(transaction, partition) < end:
                    raise StorageError(
                        f"{directory}: holds decisions that were not acted on yet: "
                        "let `plumbline run` finish them first, or replay into another data directory"
                    )

    def _leave_unacted(self) -> None:
        """Move the act side past the decisions of this replay: history is not acted on, now or later."""
        with self._ledger.begin() as transaction:
            for partition, end in self._journal.ends("decisions").items():
                self._ledger.move_position(transaction, partition, end)

    def declare(self, deployment: str, release: str, role: Role, started_at_ms: int) -> None:
        """Declare a release before its interactions.

        Raises
        ------
        SettingsError
            If the door refuses it.
        """
        body = {"deployment": deployment, "release": release, "role": role, "started_at": started_at_ms}
        judged = admit_payloads([msgspec.json.encode(body)], "release", self._context())
        refused = next((one for one in judged if isinstance(one, Refusal)), None)
        if refused is not None:
            raise SettingsError(f"the declaration of the release was refused: {refused.message}")
        self._journal.admit([one for one in judged if isinstance(one, Entry)])

    def feed(
        self,
        lines: Iterator[tuple[int, bytes]],
        *,
        mapping: Mapping[str, str],
        fields: Callable[[int], LineFields],
        advance: Callable[[int], None],
    ) -> ReplayResult:
        """Feed numbered lines and run the stages behind them.

        `fields` gives what a line number is filled with; `advance` is told of every line's bytes.
        """
        outcomes: Counter[str] = Counter()
        refusals: list[tuple[int, str]] = []
        chunk: list[tuple[int, bytes]] = []
        for number, line in lines:
            advance(len(line))
            if not line.strip():
                continue
            try:
                put = fields(number)
                chunk.append((number, apply_mapping(line, mapping, put.constants, put.forced)))
            except MappingError as error:
                outcomes["refused"] += 1
                refusals.append((number, str(error)))
            if len(chunk) >= _CHUNK:
                self._admit(chunk, outcomes, refusals)
                chunk = []
        self._admit(chunk, outcomes, refusals)
        return ReplayResult(dict(outcomes), tuple(sorted(refusals)[:20]))

    def _admit(
        self, chunk: list[tuple[int, bytes]], outcomes: Counter[str], refusals: list[tuple[int, str]]
    ) -> None:
        judged = admit_payloads([payload for _, payload in chunk], "interaction", self._context())
        entries: list[Entry] = []
        numbers: list[int] = []
        for (number, _), verdict in zip(chunk, judged, strict=True):
            if isinstance(verdict, Refusal):
                outcomes["refused"] += 1
                refusals.append((number, f"{verdict.code}: {verdict.message}"))
            else:
                entries.append(verdict)
                numbers.append(number)
                if isinstance(verdict.record, Interaction):
                    self._last_event_ms = max(self._last_event_ms, verdict.record.event_time_ms)
        for number, outcome in zip(numbers, self._journal.admit(entries), strict=True):
            outcomes["refused" if outcome == "conflict" else outcome] += 1
            if outcome == "conflict":
                refusals.append((number, "id_conflict: another record is stored under this id"))
        self._pipeline.run_once()
        self._lander.land_once()

    def _context(self) -> AdmissionContext:
        return AdmissionContext(
            settings=self._settings.door,
            redactor=Redactor(),
            user_key=self._key,
            received_at_ms=time.time_ns() // 1_000_000,
        )

    def finish(self) -> None:
        """Close the buckets of this replay, run every stage to its end and land what is left.

        A last tick says that event time has reached the end of the last record's bucket plus the allowed
        lateness, and no more: a file that goes on in the next bucket is not late. What comes later for the
        last bucket itself is.
        """
        self._pipeline.drain()
        self._close_last_bucket()
        self._pipeline.drain()
        self._leave_unacted()
        while self._lander.land_once():
            pass

    def _close_last_bucket(self) -> None:
        if self._last_event_ms < 0:
            return
        detect = self._settings.detect
        unit_ms, lateness_ms = round(detect.unit_s * 1000), round(detect.lateness_s * 1000)
        past_ms = bucket_of(self._last_event_ms, unit_ms) + unit_ms + lateness_ms
        reached = self._pipeline.watermarks()
        ticks = [
            ("interactions", part, Tick(part, past_ms))
            for part in range(self._journal.partitions)
            if reached.get(part, -1) < past_ms
        ]
        with self._journal.transaction() as db:
            self._journal.append(db, ticks)

    def counts(self) -> dict[tuple[str, str], int]:
        """Return what the stages set aside in this replay (late records among it), by kind and deployment."""
        grown = {
            key: count - self._counts_before.get(key, 0) for key, count in self._pipeline.counts().items()
        }
        return {key: count for key, count in grown.items() if count > 0}

    def late(self) -> int:
        """Return how many records of this replay came too late to be detected."""
        return sum(count for (kind, _), count in self.counts().items() if kind == "late")

    def samples(self, deployment: str) -> dict[str, ReleaseSample]:
        """Return what every release of `deployment` scored, from the journal."""
        found: dict[str, ReleaseSample] = {}
        after = 0
        while rows := self._journal.read_topic("scorecards", after, 2_000):
            after = rows[-1].row_id
            for row in rows:
                if isinstance(row.record, Scorecard) and row.record.deployment == deployment:
                    found.setdefault(row.record.release, ReleaseSample()).add(row.record)
        return found

    def changes(self, deployment: str, release: str | None = None) -> list[Signal]:
        """Return the change signals of `deployment` (of `release`) that this replay brought, oldest first."""
        rows = self._journal.read_topic("signals", self._signals_before, 2**31)
        signals = [row.record for row in rows if isinstance(row.record, Signal)]
        return [
            one
            for one in signals
            if one.kind == "change"
            and one.stream.deployment == deployment
            and release in (None, one.stream.release)
        ]

    def _last_signal(self) -> int:
        """Return the row id of the newest signal in the journal, 0 if there is none."""
        return int(
            self._journal.select("SELECT coalesce(max(id), 0) FROM records WHERE topic = 'signals'")[0][0]
        )


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the numbered lines of `path`; an overlong line is cut, so that the door refuses it."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_MAX_LINE_BYTES):
            number += 1
            if not line.endswith(b"\n") and len(line) == _MAX_LINE_BYTES:
                while rest := file.readline(_MAX_LINE_BYTES):
                    if rest.endswith(b"\n"):
                        break
            yield number, line
