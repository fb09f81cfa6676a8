"""What every stage port must keep, whatever log it stands on. A check takes a fresh bench.

A bench is made by the adapter's own test: it opens the port of a stage over one log, again and again, and
looks at that log from outside. Nothing here knows an adapter.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from detectors.records import Feedback
from detectors.records.codec import Record
from detectors.stages import Output
from streams.checks import require
from streams.stage_port import StagePort


class PortBench(Protocol):
    """A log with at least two partitions, empty, and how to open a stage's port over it."""

    source: str
    target: str

    def open_port(self, stage: str) -> StagePort:
        """Return a new port of `stage`, which reads ``source``; an earlier one of it is closed or dead."""
        ...

    def append(self, partition: int, records: Sequence[Record]) -> None:
        """Append committed records to one partition of ``source``."""
        ...

    def visible(self, partition: int) -> list[Record]:
        """Return what a reader of committed records sees in one partition of ``target``."""
        ...

    def fail_next_checkpoint(self, port: StagePort) -> None:
        """Let the log refuse the next checkpoint of `port` midway, with an exception."""
        ...


PortCheck = Callable[[PortBench], None]
_STAGE: Final = "checked"


def sample_records(count: int, *, start: int = 0) -> list[Record]:
    """Return `count` distinct records that say their number."""
    return [
        Feedback(
            deployment="d",
            feedback_id=str(number),
            interaction_id="i",
            kind="thumb",
            event_time_ms=number,
            received_at_ms=number,
            value=1.0,
        )
        for number in range(start, start + count)
    ]


def _outputs(bench: PortBench, records: Sequence[Record], partition: int) -> list[Output]:
    return [Output(topic=bench.target, record=record, partition=partition) for record in records]


def _pass_on(bench: PortBench, port: StagePort, partition: int, limit: int) -> int:
    """Read one batch, emit it unchanged and checkpoint; return its size."""
    batch = port.read_batch(partition, limit)
    if batch:
        port.emit(_outputs(bench, [delivery.record for delivery in batch], partition))
        port.checkpoint(partition, batch[-1].offset + 1, {"n": str(batch[-1].offset).encode()})
    return len(batch)


def check_emitted_is_invisible_before_the_checkpoint(bench: PortBench) -> None:
    """Nobody sees an output, nor the next opening its state, before the checkpoint."""
    bench.append(0, sample_records(3))
    port = bench.open_port(_STAGE)
    batch = port.read_batch(0, 10)
    port.emit(_outputs(bench, [delivery.record for delivery in batch], 1))
    require(bench.visible(1) == [], "an output was visible before its checkpoint")
    port.checkpoint(0, batch[-1].offset + 1, {"seen": b"3"})
    require(bench.visible(1) == sample_records(3), "the outputs of a checkpoint are not visible")


def check_outputs_state_and_position_commit_together(bench: PortBench) -> None:
    """A checkpoint that fails midway leaves none of the three; the next try leaves each once."""
    bench.append(0, sample_records(4))
    port = bench.open_port(_STAGE)
    batch = port.read_batch(0, 2)
    port.emit(_outputs(bench, [delivery.record for delivery in batch], 0))
    bench.fail_next_checkpoint(port)
    try:
        port.checkpoint(0, batch[-1].offset + 1, {"seen": b"2"})
    except Exception:  # noqa: BLE001, S110 - whatever the log raises; what it left behind is checked
        pass
    else:
        require(False, "the bench did not fail the checkpoint")
    require(bench.visible(0) == [], "a failed checkpoint left outputs")
    again = bench.open_port(_STAGE)
    require(again.stored_state(0) == {}, "a failed checkpoint left state")
    records = [one.record for one in again.read_batch(0, 2)]
    require(records == sample_records(2), "a failed checkpoint moved the position")
    require(_pass_on(bench, again, 0, 2) == 2, "the batch was not read again")
    require(bench.visible(0) == sample_records(2), "the outputs are not there once after the second try")


def check_unfinished_batch_is_read_again(bench: PortBench) -> None:
    """What was read and not checkpointed is read again, and its outputs of the first time are forgotten."""
    bench.append(0, sample_records(5))
    port = bench.open_port(_STAGE)
    first = port.read_batch(0, 3)
    port.emit(_outputs(bench, [delivery.record for delivery in first], 0))
    second = port.read_batch(0, 3)
    require(list(second) == list(first), "another batch was read than the one that was not checkpointed")
    port.emit(_outputs(bench, [delivery.record for delivery in second], 0))
    port.checkpoint(0, second[-1].offset + 1, {})
    require(bench.visible(0) == sample_records(3), "an output of a forgotten batch came through")


def check_order_within_a_partition(bench: PortBench) -> None:
    """Records come in the order of their partition, without gap, whatever the batch size; so do outputs."""
    bench.append(0, sample_records(7))
    bench.append(1, sample_records(5, start=100))
    port = bench.open_port(_STAGE)
    offsets: list[int] = []
    while batch := port.read_batch(0, 2):
        offsets += [one.offset for one in batch]
        port.emit(_outputs(bench, [one.record for one in batch], 0))
        port.checkpoint(0, batch[-1].offset + 1, {})
    require(offsets == sorted(set(offsets)), "offsets do not rise")
    while _pass_on(bench, port, 1, 2):
        pass
    require(bench.visible(0) == sample_records(7), "partition 0 is out of order")
    require(bench.visible(1) == sample_records(5, start=100), "partition 1 is out of order")


def check_reopening_continues(bench: PortBench) -> None:
    """A new port goes on where the last checkpoint ended, with its state, partition by partition."""
    bench.append(0, sample_records(6))
    bench.append(1, sample_records(2, start=100))
    require(_pass_on(bench, bench.open_port(_STAGE), 0, 4) == 4, "the first batch is short")
    port = bench.open_port(_STAGE)
    require(set(port.stored_state(0)) == {"n"}, "the state of the checkpoint is not there")
    require(port.stored_state(1) == {}, "a partition has the state of another")
    records = [one.record for one in port.read_batch(0, 10)]
    require(records == sample_records(2, start=4), "reading goes on elsewhere")
    records = [one.record for one in port.read_batch(1, 10)]
    require(records == sample_records(2, start=100), "another partition has moved")
    require(_pass_on(bench, port, 0, 10) == 2, "the rest was not read")
    require(port.read_batch(0, 10) == [], "there is something after the end")


def check_dropped_key_is_gone(bench: PortBench) -> None:
    """A key is replaced by a later value and removed by None; its neighbours stay."""
    bench.append(0, sample_records(3))
    port = bench.open_port(_STAGE)
    changes: list[Mapping[str, bytes | None]] = [
        {"kept": b"1", "replaced": b"1", "dropped": b"1"},
        {"replaced": b"\x00\xff"},
        {"dropped": None, "never": None},
    ]
    for change in changes:
        batch = port.read_batch(0, 1)
        port.checkpoint(0, batch[-1].offset + 1, change)
    stored = dict(bench.open_port(_STAGE).stored_state(0))
    require(stored == {"kept": b"1", "replaced": b"\x00\xff"}, f"stored: {sorted(stored)}")


def check_stages_do_not_share(bench: PortBench) -> None:
    """Two stages over one source have positions and state of their own."""
    bench.append(0, sample_records(2))
    _pass_on(bench, bench.open_port(_STAGE), 0, 10)
    other = bench.open_port("other")
    require(other.stored_state(0) == {}, "a stage has the state of another")
    require(len(other.read_batch(0, 10)) == 2, "a stage has the position of another")


PORT_CHECKS: Final[tuple[PortCheck, ...]] = (
    check_emitted_is_invisible_before_the_checkpoint,
    check_outputs_state_and_position_commit_together,
    check_unfinished_batch_is_read_again,
    check_order_within_a_partition,
    check_reopening_continues,
    check_dropped_key_is_gone,
    check_stages_do_not_share,
)
"""Every check, for a parametrised test."""
