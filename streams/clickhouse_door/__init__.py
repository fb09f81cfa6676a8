"""ClickHouse's HTTP interface of the embedded store, for other processes: Grafana, curl, landing.

The embedded engine belongs to one process. This door lets others read its tables with the reader token, and
land rows with the writer token, through the drivers that they use for a server.
"""

from streams.clickhouse_door.access import Tokens, read_tokens
from streams.clickhouse_door.door import ClickHouseDoor

__all__ = ["ClickHouseDoor", "Tokens", "read_tokens"]
