"""The port through which a stage meets its log, whatever the log is: read a batch, emit, checkpoint."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from detectors.stages import Delivery, Output


class StagePort(Protocol):
    """How every runner serves a stage; one conformance suite holds all adapters to it.

    Between two checkpoints nothing that was emitted is visible to anybody; a checkpoint makes outputs, state
    and position visible together, or not at all. A batch that was read and not checkpointed is read again.
    """

    def stored_state(self, partition: int) -> Mapping[str, bytes]:
        """Return the blobs of the last checkpoint of `partition`."""
        ...

    def read_batch(self, partition: int, limit: int) -> Sequence[Delivery]:
        """Return up to `limit` records from the position of `partition`, in order; empty at the end.

        What was emitted and not checkpointed is forgotten: its batch is read again.
        """
        ...

    def emit(self, outputs: Sequence[Output]) -> None:
        """Hand over what a step brought forth; it is written by the next checkpoint."""
        ...

    def checkpoint(self, partition: int, next_offset: int, changes: Mapping[str, bytes | None]) -> None:
        """Commit what was emitted, the state's changes and the position, atomically."""
        ...
