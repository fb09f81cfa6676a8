"""Drives one stage over its port: read, step, emit, checkpoint."""

from collections.abc import Iterable
from typing import Any

from detectors.stages import Stage
from streams.stage_port import StagePort


class UnusableStateError(RuntimeError):
    """Stored state that this code cannot read; the text says of what, and what to do."""


class StageLoop:
    """One stage over the partitions of its source that this process has.

    A failure between reading and checkpointing leaves the log untouched; the loop must then be thrown away,
    because its live state may be ahead of the log (the process exits and starts again from the checkpoint).

    Parameters
    ----------
    stage, port
        What thinks, and where it reads and writes.
    partitions
        Those to take at once; :meth:`take` and :meth:`release` change them.
    batch
        Most records per step.

    Attributes
    ----------
    states
        The live state of every partition taken.

    Raises
    ------
    UnusableStateError
        If the stored state of a partition was written by another version, or is damaged.
    """

    def __init__(self, stage: Stage, port: StagePort, *, partitions: Iterable[int] = (), batch: int) -> None:
        self._stage, self._port, self._batch = stage, port, batch
        self.states: dict[int, Any] = {}
        for partition in partitions:
            self.take(partition)

    def take(self, partition: int) -> None:
        """Restore the state of `partition` from its last checkpoint; from now on it can be advanced."""
        stored = self._port.stored_state(partition)
        try:
            self.states[partition] = self._stage.restore(partition, stored)
        except (ValueError, LookupError, TypeError) as error:
            raise UnusableStateError(
                f"the state of stage {self._stage.name}, partition {partition}, cannot be used ({error})"
            ) from error

    def release(self, partition: int) -> None:
        """Forget `partition`: somebody else may have it now."""
        self.states.pop(partition, None)

    def run_once(self) -> int:
        """Carry every partition one batch further; return how many records were read."""
        return sum(self.advance(partition) for partition in tuple(self.states))

    def advance(self, partition: int) -> int:
        """Carry `partition` one batch further; return how many records were read."""
        batch = self._port.read_batch(partition, self._batch)
        if not batch:
            return 0
        self.states[partition], outputs = self._stage.step(self.states[partition], batch)
        self._port.emit(outputs)
        self._port.checkpoint(partition, batch[-1].offset + 1, self._stage.changes(self.states[partition]))
        return len(batch)
