"""What a writer may send: rows into our tables, and our own DDL once more. Nothing else.

A handle that writes also reads files (``INSERT INTO t SELECT * FROM file(...)``) and can break the store for
good (``ENGINE = Kafka``), so the text is not interpreted: it fits one narrow form, or it is refused.
"""

import re
from functools import cache
from typing import Final

from msgspec import Struct

from deploy.migrations import LEDGER, migrations

_NAME: Final = r"(?:`[A-Za-z_]\w*`|[A-Za-z_]\w*)"
_INSERT: Final = re.compile(
    rf"\s*INSERT\s+INTO\s+(?:TABLE\s+)?(?:(?P<database>{_NAME})\.)?(?P<table>{_NAME})"
    rf"\s*(?:\((?P<columns>\s*{_NAME}(?:\s*,\s*{_NAME})*\s*)\))?"
    r"\s*FORMAT\s+(?P<form>\w+)[ \t\r]*(?:\n|$)".encode(),
    re.IGNORECASE,
)
_FORMS: Final = {"Native", "RowBinary", "JSONEachRow"}  # none of them evaluates expressions
_DATABASE: Final = re.compile(r"CREATE DATABASE IF NOT EXISTS (\w+) ENGINE = Atomic")
_LONGEST_HEAD: Final = 65_536


class Insert(Struct, frozen=True):
    """Rows for one of our tables, as sent; an empty `database` is the request's."""

    database: str
    table: str
    columns: tuple[str, ...]
    form: str
    block: bytes


def insert_of(query: bytes) -> Insert | None:
    r"""Return the insert that `query` is, with its rows; None if it is anything else.

    Examples
    --------
    >>> insert_of(b"INSERT INTO `labels` (`value`) FORMAT JSONEachRow\n{}")
    Insert(database='', table='labels', columns=('value',), form='JSONEachRow', block=b'{}')
    >>> insert_of(b"INSERT INTO labels SELECT * FROM file('x')") is None
    True
    """
    found = _INSERT.match(query, 0, _LONGEST_HEAD)
    if found is None:
        return None
    form = found["form"].decode()
    if form not in _FORMS:
        return None
    columns = (found["columns"] or b"").decode()
    return Insert(
        database=_bare(found["database"] or b""),
        table=_bare(found["table"]),
        columns=tuple(name.strip().strip("`") for name in columns.split(",")) if columns else (),
        form=form,
        block=query[found.end() :],
    )


def is_ours(text: str, *, database: str) -> bool:
    """Return whether `text` is a statement of our own schema, so that running it again changes nothing.

    Examples
    --------
    >>> is_ours("CREATE DATABASE IF NOT EXISTS plumbline ENGINE = Atomic", database="plumbline")
    True
    >>> is_ours("DROP DATABASE plumbline", database="plumbline")
    False
    """
    made = _DATABASE.fullmatch(text.strip())
    return made[1] == database if made else _plain(text) in _definitions()


def starts_insert(query: bytes) -> bool:
    """Return whether `query` begins with INSERT: it is for the writer, whatever follows."""
    return query[:64].lstrip()[:6].upper() == b"INSERT"


@cache
def _definitions() -> frozenset[str]:
    steps = (statement for step in migrations() for statement in step.statements)
    return frozenset(_plain(text) for text in (LEDGER, *steps))


def _plain(text: str) -> str:
    return text.strip().rstrip(";").rstrip()


def _bare(name: bytes) -> str:
    return name.decode().strip("`")
