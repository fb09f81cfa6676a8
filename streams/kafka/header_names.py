r"""A header whose name is not UTF-8 must cost its record nothing: aiokafka fails on it, again and again.

Kafka's protocol asks for UTF-8 and no broker checks it. One such record would end every worker that reads its
partition, for ever. Here its batch is read once more, by aiokafka's slower reader, and the bytes that are no
UTF-8 become ``\xff`` and the like in the name.
"""

from collections.abc import Iterator
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy

from streams.kafka.header_bytes import HeaderBytes

_RECORDS: Final = fetcher.MemoryRecords
_MAGIC: Final = _MemoryRecordsPy.MAGIC_OFFSET


def accept_any_header_name() -> None:
    """Let every aiokafka consumer of this process read records with any header names."""
    fetcher.MemoryRecords = _Records  # the only place where it looks for its reader


class _Records(_MemoryRecordsPy):  # type: ignore[misc]  # marked final, for no reason that concerns us
    """The batches of one fetch; aiokafka's own, except for how records are taken out of them."""

    def next_batch(self) -> Any:
        """Return the next batch, None after the last."""
        piece = self._next_slice
        batch = super().next_batch()
        return batch if batch is None or piece[_MAGIC] < 2 else _Batch(batch, piece)


class _Batch:
    """A batch that reads itself again where a name is not UTF-8."""

    def __init__(self, batch: Any, piece: memoryview) -> None:
        self._batch, self._piece = batch, piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return iter(_read_again(self._piece))


def _read_again(piece: memoryview) -> list[Any]:
    batch = _DefaultRecordBatchPy(bytearray(piece))
    iter(batch)  # uncompresses
    batch._buffer = HeaderBytes(batch._buffer)  # noqa: SLF001 - it decodes what it cuts from here
    return list(batch)
