"""Header names that are not UTF-8, for kafka-python: it calls their records corrupt and reads no further."""

from typing import Any

from kafka.record import default_records

from streams.kafka.header_bytes import HeaderBytes

_RECORDS: Any = default_records.DefaultRecordBatch
_read_msg = _RECORDS._read_msg  # noqa: SLF001 - where it takes one record out of a batch


def teach_header_names() -> None:
    """Let every kafka-python consumer of this process read records with any header names."""
    _RECORDS._read_msg = _read_any  # noqa: SLF001 - see above


def _read_any(batch: Any) -> Any:
    try:
        return _read_msg(batch)  # which moves on only when it has a record
    except UnicodeDecodeError:
        batch._buffer = HeaderBytes(batch._buffer)  # noqa: SLF001 - for the rest of the batch, too
        return _read_msg(batch)
