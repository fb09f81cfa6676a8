"""Read-only handles of the store."""

import threading
from collections.abc import Mapping
from typing import Any

from clickhouse_connect.driver.client import Client

from streams.store_connection import rinse, translated


class Reader:
    """A read-only handle; calls from several threads take turns."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._failed = False

    def query(self, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of `sql`, each as a dict by column name.

        Parameters
        ----------
        sql
            One SELECT with ``{name:Type}`` placeholders.
        parameters
            Their values, bound by the engine, never pasted into the text.

        Raises
        ------
        StoreError
            If the engine refuses the query; the text holds its code, not its message, which may quote
            stored text.
        """
        with self._lock, translated("query"):
            if self._failed:
                rinse(self._client)
            self._failed = True
            rows = list(self._client.query(sql, parameters=dict(parameters)).named_results())
            self._failed = False
            return rows

    def close(self) -> None:
        """Close the handle."""
        self._client.close()
