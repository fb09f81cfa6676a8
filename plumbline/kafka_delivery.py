"""Records to a broker or, while it takes none, to disk and from there: in order, twice only when in doubt.

No Kafka library is imported here.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from plumbline.delivery import ClientError, Refused, Verdict, encode_item
from plumbline.keys import Kind, submission_key
from plumbline.spool import Spool, SpoolError, Waiting

_log = logging.getLogger("plumbline.kafka")

Outcome = Literal["sent", "kept", "never"]
"""What became of a record: the broker has it; it may not have it; it will never take it."""

_KINDS: Final[Mapping[str, Kind]] = {
    "/v1/interactions": "interaction",
    "/v1/releases": "release",
    "/v1/references": "reference",
    "/v1/feedback": "feedback",
    "/v1/labels": "label",
}
_BATCH_RECORDS: Final = 1_000
_BATCH_BYTES: Final = 4_194_304
_LONGEST_PAUSE_S: Final = 4.0


class SpooledDelivery:
    """Takes records to a broker, and keeps what it does not take.

    While anything waits, what comes new waits behind it. A thread sends the oldest again and again; what is
    in doubt is sent twice rather than not at all.

    Parameters
    ----------
    post
        Sends records and returns what became of each, in order; called from several threads.
    spools
        The first is written to; all are emptied.
    strict
        Raise :class:`Refused` for a record that is too large.
    max_record_bytes
        Of one record.
    pause_s
        The first pause after a failure; it doubles up to four seconds.
    """

    def __init__(
        self,
        post: Callable[[Sequence[Waiting]], Sequence[Outcome]],
        spools: Sequence[Spool],
        *,
        strict: bool,
        max_record_bytes: int,
        pause_s: float = 0.25,
    ) -> None:
        self._post = post
        self._pause_s = pause_s
        self._spools = tuple(spools)
        self._strict = strict
        self._max_record_bytes = max_record_bytes
        self._process = os.getpid()
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._failure = ""
        self._resender = threading.Thread(target=self._resend, name="plumbline-spool", daemon=True)
        self._resender.start()

    @property
    def spooled(self) -> int:
        """How many records wait on disk."""
        return sum(map(len, self._spools))

    def send(self, path: str, items: Iterable[Mapping[str, Any]]) -> list[Verdict]:
        """Take `items` to the broker or to disk, and return the verdict on each, in order."""
        if self._process != os.getpid():
            raise ClientError("this client was made before the process forked: make one in each process")
        if self._closing.is_set():
            raise ClientError("this client is closed")
        kind = _KINDS[path]
        verdicts: list[Verdict] = []
        for batch in _batches(_Sent(kind, item) for item in items):
            verdicts += self._deliver(batch, len(verdicts))
        if self._strict and any(verdict.verdict == "refused" for verdict in verdicts):
            raise Refused(verdicts)
        return verdicts

    def _deliver(self, batch: "Sequence[_Sent]", before: int) -> list[Verdict]:
        fitting = [sent for sent in batch if len(sent.record.value) <= self._max_record_bytes]
        records = [sent.record for sent in fitting]
        # What is on disk goes first: the turns of a conversation stay in order.
        outcomes = ["kept"] * len(records) if self.spooled or not records else self._post(records)
        kept = [record for record, outcome in zip(records, outcomes, strict=True) if outcome == "kept"]
        if kept:
            self._spools[0].append(kept)
            self._wake.set()
        became = dict(zip(map(id, fitting), outcomes, strict=True))
        return [
            _verdict(before + at, sent, became.get(id(sent), "never"), self._max_record_bytes)
            for at, sent in enumerate(batch, start=1)
        ]

    def _resend(self) -> None:
        pause_s = self._pause_s
        while not self._closing.is_set():
            if not self.spooled:
                self._wake.wait()
                self._wake.clear()
            elif self._resend_once():
                pause_s = self._pause_s
            else:
                self._closing.wait(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)

    def _resend_once(self) -> bool:
        """Send the oldest batch again; return whether anything of it is done with."""
        spool = next((one for one in self._spools if len(one)), None)
        if spool is None:
            return True
        try:
            records = spool.peek(records=_BATCH_RECORDS, max_bytes=_BATCH_BYTES)
            outcomes = self._post(records)
            done = next((at for at, outcome in enumerate(outcomes) if outcome == "kept"), len(outcomes))
            for record, outcome in zip(records[:done], outcomes, strict=False):
                if outcome == "never":
                    spool.set_aside(record)
                    _log.error("a record that the broker never takes was set aside in %s", spool.directory)
            spool.acknowledge(done)
        except SpoolError as error:
            self._say_once(str(error))
            return False
        except OSError as error:
            name = type(error).__name__
            self._say_once(f"the spool {spool.directory} cannot be worked on ({name}): check its disk")
            return False
        self._failure = ""
        return done > 0

    def _say_once(self, failure: str) -> None:
        if failure != self._failure:
            _log.error("%s", failure)
        self._failure = failure

    def close(self, timeout_s: float) -> int:
        """Wait up to `timeout_s` for what is on disk to be sent, stop, and return how many records wait."""
        until = time.monotonic() + timeout_s
        self._wake.set()
        while self.spooled and time.monotonic() < until and self._resender.is_alive():
            time.sleep(0.02)
        self._closing.set()
        self._wake.set()
        self._resender.join()
        left = self.spooled
        for spool in self._spools:
            spool.close()
        return left


class _Sent:
    """One item on its way: what is sent, and the id it has."""

    __slots__ = ("id", "record")

    def __init__(self, kind: Kind, item: Mapping[str, Any]) -> None:
        key = submission_key(kind, item).encode("utf-8", "replace")
        self.id = str(item.get("id") or "")
        self.record = Waiting(kind, key, encode_item(item))


def _batches(sent: Iterable[_Sent]) -> Iterator[list[_Sent]]:
    batch: list[_Sent] = []
    size = 0
    for one in sent:
        if batch and (len(batch) >= _BATCH_RECORDS or size + len(one.record.value) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += len(one.record.value)
    if batch:
        yield batch


def _verdict(line: int, sent: _Sent, outcome: str, max_bytes: int) -> Verdict:
    if outcome == "never":
        message = f"the record is over {max_bytes} bytes, or more than the broker takes; shorten its texts"
        return Verdict(
            line=line, status=413, verdict="refused", id=sent.id, code="record_too_large", message=message
        )
    code = "spooled" if outcome == "kept" else ""
    return Verdict(line=line, status=202, verdict="accepted", id=sent.id, code=code)
