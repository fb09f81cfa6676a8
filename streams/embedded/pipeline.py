"""Drives the stages over their ports: read, step, emit, checkpoint."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from detectors.stages import Stage
from detectors.stages.score import WATERMARK
from streams.embedded.errors import StorageError
from streams.embedded.journal import Journal
from streams.embedded.port import JournalPort, StagePort


class StageLoop:
    """One stage over all partitions of its source.

    A failure between reading and checkpointing leaves the log untouched; the loop must then be thrown away,
    because its live state may be ahead of the log (the process exits and starts again from the checkpoint).
    """

    def __init__(self, stage: Stage, port: StagePort, *, partitions: int, batch: int) -> None:
        self._stage, self._port, self._batch = stage, port, batch
        self.states: dict[int, Any] = {partition: self._restore(partition) for partition in range(partitions)}

    def _restore(self, partition: int) -> Any:
        stored = self._port.stored_state(partition)
        try:
            return self._stage.restore(partition, stored)
        except (ValueError, LookupError, TypeError) as error:
            raise StorageError(
                f"the state of stage {self._stage.name}, partition {partition}, cannot be used ({error}): "
                "run the version that wrote it, or move the data directory aside to start afresh"
            ) from error

    def run_once(self) -> int:
        """Carry every partition one batch further; return how many records were read."""
        return sum(self._advance(partition) for partition in self.states)

    def _advance(self, partition: int) -> int:
        batch = self._port.read_batch(partition, self._batch)
        if not batch:
            return 0
        self.states[partition], outputs = self._stage.step(self.states[partition], batch)
        self._port.emit(outputs)
        self._port.checkpoint(partition, batch[-1].offset + 1, self._stage.changes(self.states[partition]))
        return len(batch)


class Pipeline:
    """The thinking path of the embedded runner: every stage in turn, over one journal."""

    def __init__(self, journal: Journal, stages: Sequence[Stage], *, batch: int) -> None:
        self._loops = {
            stage.name: StageLoop(
                stage,
                JournalPort(journal, stage.name, stage.source),
                partitions=journal.partitions,
                batch=batch,
            )
            for stage in stages
        }

    def run_once(self) -> int:
        """Let every stage take one batch per partition; return how many records were read in all."""
        return sum(loop.run_once() for loop in self._loops.values())

    def drain(self) -> int:
        """Run until no stage finds anything to read; return how many records were read in all."""
        total = 0
        while moved := self.run_once():
            total += moved
        return total

    def counts(self) -> dict[tuple[str, str], int]:
        """Return what the stages counted instead of carrying on, by kind and deployment."""
        found: Counter[tuple[str, str]] = Counter()
        for loop in self._loops.values():
            for state in loop.states.values():
                for kind, by_deployment in state.counts.items():
                    for deployment, count in by_deployment.items():
                        found[kind, deployment] += count
        return dict(found)

    def watermarks(self) -> dict[int, int]:
        """Return the event time that scoring has reached, by partition that has seen any."""
        found = {}
        for partition, state in self._loops["score"].states.items():
            if (watermark := state.get(WATERMARK)) is not None:
                found[partition] = watermark
        return found
