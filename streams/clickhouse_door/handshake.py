"""The first query of clickhouse-go over HTTP, answered so that it reads plain Native blocks from then on.

It decodes this one answer at revision 54460 (block info before the block, one byte of serialisation kind in
each column) and every later one at the revision it is told here. Revision 0 has neither, which is what the
embedded engine writes.
"""

from typing import Final

_QUERY: Final = "SELECT displayName(), version(), revision(), timezone()"
_BLOCK_INFO: Final = bytes([1, 0, 2, 0xFF, 0xFF, 0xFF, 0xFF, 0])
_REVISION: Final = 0


def is_handshake(sql: str) -> bool:
    """Return whether `sql` is that query.

    Examples
    --------
    >>> is_handshake("SELECT displayName(), version(), revision(), timezone()")
    True
    """
    return sql.strip() == _QUERY


def handshake(name: str, version: str, timezone: str) -> bytes:
    """Return the Native block of revision 54460 that holds one row: name, version, revision 0, time zone."""
    columns = (
        ("displayName()", "String", _text(name)),
        ("version()", "String", _text(version)),
        ("revision()", "UInt32", _REVISION.to_bytes(4, "little")),
        ("timezone()", "String", _text(timezone)),
    )
    block = _BLOCK_INFO + bytes([len(columns), 1])
    for column, kind, value in columns:
        block += _text(column) + _text(kind) + b"\0" + value
    return block


def _text(value: str) -> bytes:
    data = value.encode()
    length, size = b"", len(data)
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return length + bytes([size]) + data
