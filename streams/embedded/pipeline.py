"""Drives the stages over their ports: read, step, emit, checkpoint."""

from collections import Counter
from collections.abc import Sequence

from detectors.stages import Stage
from detectors.stages.score import WATERMARK
from streams.embedded.errors import StorageError
from streams.embedded.journal import Journal
from streams.embedded.port import JournalPort
from streams.stage_loop import StageLoop, UnusableStateError


class Pipeline:
    """The thinking path of the embedded runner: every stage in turn, over one journal."""

    def __init__(self, journal: Journal, stages: Sequence[Stage], *, batch: int) -> None:
        try:
            self._loops = {
                stage.name: StageLoop(
                    stage,
                    JournalPort(journal, stage.name, stage.source),
                    partitions=range(journal.partitions),
                    batch=batch,
                )
                for stage in stages
            }
        except UnusableStateError as error:
            raise StorageError(
                f"{error}: run the version that wrote it, or move the data directory aside to start afresh"
            ) from error

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
