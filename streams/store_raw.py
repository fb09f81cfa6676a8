"""The embedded engine for SQL of others: bytes in, bytes out, and nothing but tables within reach.

``readonly = 1`` alone is not enough. In chDB 4.4 it stops writes, ``SET readonly`` and table functions
(``file()``, ``url()``, ``sqlite()`` ...), but it lets through the *scalar* function ``file('/path')``,
``SELECT ... INTO OUTFILE``, ``DESCRIBE file(...)``, ``USE``, ``KILL QUERY`` and several statements in one
text. So the engine's ``formatQuerySingleLine`` first brings the text into its canonical form, which has no
comments and one way to quote; that form is screened, and that form is run.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Final

from clickhouse_connect.driver.binding import external_bind_re
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error as ClickHouseError
from msgspec import Struct

from streams.store_connection import rinse
from streams.store_sql import READONLY, Statement, refusal, statement_of

_TABLE_FUNCTIONS: Final = """
SELECT name FROM system.table_functions
WHERE NOT allow_readonly AND name NOT IN (SELECT name FROM system.functions)
"""
_TOO_LARGE: Final = 396
_SYNTAX: Final = 62


class RawLimits(Struct, frozen=True, kw_only=True):
    """What one query of others may take: seconds, bytes of its result, bytes of memory while it runs."""

    max_execution_s: float
    max_result_bytes: int
    max_memory_bytes: int = 1 << 30


class RawAnswer(Struct, frozen=True):
    """What a query gave: its bytes and the name of their format."""

    body: bytes
    form: str


class RawError(Exception):
    """The engine, or the screen before it, refuses; the text is for whoever sent the SQL, not for a log."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class RawReader:
    """A handle that reads tables and nothing else; calls from several threads take turns.

    Parameters
    ----------
    client
        An own connection, which this takes over.
    limits
        Set for good before the handle becomes read-only: no query can change them.
    """

    def __init__(self, client: Client, limits: RawLimits) -> None:
        self._client = client
        self._limits = limits
        self._lock = threading.Lock()
        for name, value in (
            ("max_execution_time", limits.max_execution_s),
            ("max_result_bytes", limits.max_result_bytes),
            ("max_memory_usage", limits.max_memory_bytes),
        ):
            client.command(f"SET {name} = {value}")
        found = client.query(_TABLE_FUNCTIONS).result_rows
        self._functions = frozenset(str(name).lower() for (name,) in found)
        self._failed = False
        client.command("SET readonly = 1")

    def run(self, sql: str, parameters: Mapping[str, str], *, database: str, form: str) -> RawAnswer:
        """Return the answer to `sql` in the format that it names, else in `form`.

        Parameters
        ----------
        sql
            One statement that reads.
        parameters
            Values of its ``{name:Type}`` placeholders, in ClickHouse's escaped text form.
        database
            Where unqualified names are looked up.
        form
            The format of an answer to SQL without FORMAT.

        Raises
        ------
        RawError
            With ClickHouse's code: 164 for what a reader may not do, 62 for what is not one statement,
            396 for a result over the limit, and whatever the engine says.
        """
        with self._lock:
            if self._failed:
                rinse(self._client)
            self._failed = True
            statement = self._checked(sql)
            body = self._body(statement, parameters, database, form)
            self._failed = False
        if len(body) > self._limits.max_result_bytes:
            raise RawError(_TOO_LARGE, f"the result is over {self._limits.max_result_bytes} bytes")
        return RawAnswer(body, statement.form or form)

    def close(self) -> None:
        """Close the handle."""
        self._client.close()

    def _body(self, statement: Statement, parameters: Mapping[str, str], database: str, form: str) -> bytes:
        # The driver's own pattern: where it finds no placeholder it would paste values into the text.
        names = {name for name, _ in external_bind_re.findall(statement.text)} & set(parameters)
        bound = {name: _Text(parameters[name]) for name in names}
        try:
            self._client.database = database
            return self._client.raw_query(
                statement.text, parameters=bound or None, fmt=None if statement.form else form
            )
        except ClickHouseError as error:
            raise _raw_error(error) from None
        except (ValueError, TypeError):
            raise RawError(_SYNTAX, "the driver cannot bind these parameters") from None

    def _checked(self, sql: str) -> Statement:
        try:
            canonical = self._client.raw_query(
                "SELECT formatQuerySingleLine({sql:String}) FORMAT RawBLOB",
                parameters={"sql": sql},
                use_database=False,  # the database of the query before may be one that is not there
            )
        except ClickHouseError as error:
            raise _raw_error(error) from None
        try:
            statement = statement_of(canonical.decode())
        except ValueError as error:  # also UnicodeDecodeError
            raise RawError(_SYNTAX, "the statement cannot be read; is it UTF-8?") from error
        if reason := refusal(statement, self._functions):
            raise RawError(READONLY, reason)
        return statement


class _Text:
    """A value that is in its escaped form already: the driver writes it as it is."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


def insert_block(
    client: Client,
    table: str,
    names: Sequence[str],
    block: bytes,
    *,
    form: str,
    settings: Mapping[str, object],
) -> int:
    """Store the rows of `block` through `client`; return how many were read; raises RawError."""
    try:
        summary = client.raw_insert(
            table, column_names=list(names) or None, insert_block=block, fmt=form, settings=dict(settings)
        )
    except ClickHouseError as error:
        raise _raw_error(error) from None
    return int(summary.written_rows)


def _raw_error(error: ClickHouseError) -> RawError:
    code = getattr(error, "code", None)
    return RawError(code if isinstance(code, int) and code > 0 else 1002, str(error))
