"""Every stage port keeps every check; an adapter joins by a bench in BENCHES."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from detectors.records.codec import Record
from detectors.stages import Output
from streams.checks.port_checks import PORT_CHECKS, sample_records
from streams.embedded.journal import Journal
from streams.embedded.port import JournalPort


class JournalBench:
    source, target = "feedback", "labels"

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "journal.db", partitions=2)

    def open_port(self, stage: str) -> JournalPort:
        return JournalPort(self.journal, stage, self.source)

    def append(self, partition: int, records: Sequence[Record]) -> None:
        with self.journal.transaction() as db:
            self.journal.append(db, [(self.source, partition, record) for record in records])

    def visible(self, partition: int) -> list[Record]:
        other = Journal(self.journal.path, partitions=2)  # a reader with connections of its own
        try:
            return [row.record for row in other.read(self.target, partition, 0, 100)]
        finally:
            other.close()

    def fail_next_checkpoint(self, port: JournalPort) -> None:
        """The last statement of the transaction is the one that fails."""
        self.journal.connection().execute(
            "CREATE TEMP TRIGGER refuse BEFORE INSERT ON main.positions "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
        original = port.checkpoint

        def once(*arguments: object) -> None:
            try:
                original(*arguments)  # type: ignore[arg-type]
            finally:
                self.journal.connection().execute("DROP TRIGGER refuse")

        port.checkpoint = once  # type: ignore[method-assign]


BENCHES = (JournalBench,)


@pytest.mark.parametrize("check", PORT_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("bench", BENCHES)
def test_conformance(bench, check, tmp_path):
    check(bench(tmp_path))


class EagerPort(JournalPort):
    """Writes outputs when they are emitted: visible too early, and twice after a crash."""

    def emit(self, outputs: Sequence[Output]) -> None:
        with self._journal.transaction() as db:
            self._journal.append(db, [(one.topic, one.partition or 0, one.record) for one in outputs])


class ForgetfulPort(JournalPort):
    """Keeps its position in memory alone."""

    def checkpoint(self, partition, next_offset, changes):
        before = self._positions[partition]
        super().checkpoint(partition, before, changes)
        self._positions[partition] = next_offset


class HoardingPort(JournalPort):
    """Never forgets a key."""

    def checkpoint(self, partition, next_offset, changes):
        super().checkpoint(partition, next_offset, {k: v for k, v in changes.items() if v is not None})


class SkippingPort(JournalPort):
    """Takes a batch for done when it was read."""

    def read_batch(self, partition, limit):
        batch = super().read_batch(partition, limit)
        if batch:
            self._positions[partition] = batch[-1].offset + 1
        return batch


@pytest.mark.parametrize("port", [EagerPort, ForgetfulPort, HoardingPort, SkippingPort])
def test_broken_ports_are_found(port, tmp_path):
    found = 0
    for number, check in enumerate(PORT_CHECKS):
        folder = tmp_path / str(number)
        folder.mkdir()
        bench = JournalBench(folder)
        bench.open_port = lambda stage, bench=bench: port(bench.journal, stage, bench.source)
        try:
            check(bench)
        except AssertionError:
            found += 1
    assert found


def test_an_output_with_a_key_goes_to_its_partition(tmp_path):
    bench = JournalBench(tmp_path)
    bench.append(0, sample_records(1))
    port = bench.open_port("s")
    port.read_batch(0, 1)
    port.emit([Output(topic="labels", key=key, record=sample_records(1)[0]) for key in ("a", "b", "c", "d")])
    port.checkpoint(0, 1, {})
    # murmur2 as Kafka's Java client: a, b, c, d over two partitions
    assert len(bench.visible(0)) + len(bench.visible(1)) == 4
    assert bench.visible(0)
