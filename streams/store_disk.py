"""What a full disk does to the embedded engine, and how its inserts are kept from lying about it.

Measured of ClickHouse 26.9 (chDB 4.4), on tmpfs and on ext4: an insert during which the disk becomes full may
leave a part in use all of whose files are empty, whether the engine answers that it failed or that the rows
are stored. The table cannot be read from then on, and at the next start the engine sets the part aside: the
rows are gone. So nothing is inserted into a disk that is nearly full, and no insert is over before the parts
that it left were looked at.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from streams.store_connection import FULL, StoreError, known_failure

RESERVE_BYTES: Final = 67_108_864
"""What must be free before an insert; several times what one takes."""
_PART: Final = re.compile(r"[0-9a-z-]+_[0-9]+_[0-9]+_[0-9]+(_[0-9]+)?")
# Of one block. The engine collapses it as it comes (level 1) or does not; a merge spans several.
_INSERTED: Final = re.compile(r"^[0-9a-z-]+_([0-9]+)_\1_[01]$")
_LAST_WRITTEN: Final = "checksums.txt"


class Disk:
    """The folder of an engine in this process.

    Parameters
    ----------
    client
        Of the engine.
    directory
        Of the engine.
    database
        Where the tables are.

    Attributes
    ----------
    damaged
        Tables with empty parts that could not be set aside yet: there was no room even for that.
    """

    def __init__(self, client: Client, directory: Path, database: str) -> None:
        self._client, self._directory, self._database = client, directory, database
        self._whole: dict[str, tuple[Path, set[str]]] = {}  # a table's folder, and the parts looked at
        self.damaged: set[str] = set()

    @contextmanager
    def inserting(self, table: str) -> Iterator[None]:
        """Let one insert into `table` happen only if there is room, and fail if there was not.

        Raises
        ------
        StoreError
            If the disk is full: nothing of this insert is stored then. If a merge left an empty part, the
            process must end: what the part was made of is found at the next start.
        """
        if shutil.disk_usage(self._directory).free < RESERVE_BYTES:
            raise known_failure(f"insert into {table}", FULL)
        self.recover(table)
        try:
            yield
        finally:
            damaged = self._set_aside(table)
        if damaged:
            raise known_failure(f"insert into {table}", FULL)

    def recover(self, table: str) -> None:
        """Make `table` readable again, if an insert has damaged it; raises StoreError if that fails."""
        if table in self.damaged:
            self._set_aside(table)

    def _set_aside(self, table: str) -> int:
        """Detach the new parts without content, as the engine would at its next start; return how many."""
        # A link: tables are dropped, made and exchanged.
        folder = (self._directory / "data" / self._database / table).resolve()
        if not folder.is_dir():
            return 0
        parts = {entry.name for entry in folder.iterdir() if _PART.fullmatch(entry.name)}
        before, whole = self._whole.get(table, (folder, set()))
        fresh = parts - whole if before == folder else parts
        damaged = self._in_use(table, [name for name in fresh if _is_empty(folder / name)])
        self._whole[table] = folder, parts.difference(damaged)
        if damaged:
            self.damaged.add(table)
            self._detach(table, damaged)
        self.damaged.discard(table)
        return len(damaged)

    def _in_use(self, table: str, parts: Sequence[str]) -> list[str]:
        """Return which of `parts` the engine reads."""
        if not parts:
            return []
        sql = (
            "SELECT name FROM system.parts WHERE active AND database = {database:String} "
            "AND table = {table:String} AND name IN {names:Array(String)}"
        )
        asked = {"database": self._database, "table": table, "names": list(parts)}
        return [str(name) for (name,) in self._client.query(sql, parameters=asked).result_rows]

    def _detach(self, table: str, parts: Sequence[str]) -> None:
        for name in parts:
            if not _INSERTED.search(name):
                raise StoreError(f"a full disk damaged {table} in a merge: free space, start again at once")
            try:
                self._client.command(f"ALTER TABLE `{self._database}`.`{table}` DETACH PART '{name}'")
            except ClickHouseError as error:  # this takes some room as well
                raise known_failure(f"insert into {table}", FULL) from error


def _is_empty(part: Path) -> bool:
    try:
        return (part / _LAST_WRITTEN).stat().st_size == 0
    except FileNotFoundError:
        return False  # merged into another meanwhile
