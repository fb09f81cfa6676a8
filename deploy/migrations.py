"""The store's schema as an ordered list of SQL texts; the store module applies them."""

import hashlib
import re
from importlib.resources import files

from msgspec import Struct

_FILE_NAME = re.compile(r"^(?P<version>[0-9]{4})_(?P<name>[a-z0-9_]+)\.sql$")

LEDGER = """CREATE TABLE IF NOT EXISTS schema_migrations (
  version UInt32, name String, sha256 String, at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
) ENGINE = ReplacingMergeTree(at) ORDER BY version"""
"""Where the store writes which migrations it has applied; made before the first of them."""


class Migration(Struct, frozen=True, kw_only=True):
    """One step of the schema: ``sql`` holds statements separated by semicolons.

    A published migration never changes: ``sha256`` is recorded when it is applied, and another one under
    the same version is refused.
    """

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The digest of the text, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def statements(self) -> tuple[str, ...]:
        r"""The statements in order, without comments.

        Examples
        --------
        >>> Migration(version=1, name="x", sql="-- why; because\nSELECT 1;\nSELECT 2;\n").statements
        ('SELECT 1', 'SELECT 2')
        """
        bare = "\n".join(line for line in self.sql.splitlines() if not line.lstrip().startswith("--"))
        return tuple(text.strip() for text in bare.split(";") if text.strip())


def migrations() -> list[Migration]:
    """Return every migration, by version.

    Raises
    ------
    ValueError
        If a file is misnamed or the versions are not 1, 2, 3 ...

    Examples
    --------
    >>> [step.name for step in migrations()][0]
    'records'
    """
    found = []
    for entry in files("deploy").joinpath("clickhouse").iterdir():
        match = _FILE_NAME.match(entry.name)
        if match is None:
            raise ValueError(f"deploy/clickhouse/{entry.name} is not called NNNN_name.sql")
        found.append(
            Migration(
                version=int(match["version"]), name=match["name"], sql=entry.read_text(encoding="utf-8")
            )
        )
    found.sort(key=lambda step: step.version)
    if [step.version for step in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations are not numbered 1, 2, 3 ...: {[step.version for step in found]}")
    return found
