"""Send interactions, releases, feedback and labels to a monitor's door, and lose none of them.

>>> import httpx2
>>> door = httpx2.MockTransport(
...     lambda request: httpx2.Response(
...         202,
...         json={
...             "accepted": 1, "duplicate": 0, "refused": 0,
...             "results": [{"line": 1, "status": 202, "verdict": "accepted", "id": "42"}],
...         },
...     )
... )
>>> with Client("http://127.0.0.1:8321", transport=door) as client:
...     verdict = client.record(deployment="support", release="2.3", prompt="Hi", response="Hello!", id="42")
>>> verdict.verdict
'accepted'
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx2

from plumbline.delivery import ClientError, Delivery, Refused, Unauthorised, Unavailable, Verdict
from plumbline.recorder import EventTime, Recorder

__all__ = ["Client", "ClientError", "EventTime", "Refused", "Unauthorised", "Unavailable", "Verdict"]


class Client(Recorder):
    """A blocking client of the door. It retries on its own and gives every record an id before the first try.

    Parameters
    ----------
    url
        Where the door listens, without a path.
    token
        The bearer token, where the door wants one.
    timeout_s
        How long one attempt may take, in seconds.
    strict
        Raise :class:`Refused` when a record is refused, instead of only returning its verdict.
    attempts
        How often one request is tried, at least 1. Tried again are network errors, 429, 502, 503 and 504,
        after the time that ``Retry-After`` names, or else with growing, random pauses.
    batch_lines, batch_bytes
        How much :meth:`send` puts into one request.
    transport, sleep
        For tests: the network, and how to wait for a number of seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 10.0,
        strict: bool = False,
        attempts: int = 6,
        batch_lines: int = 500,
        batch_bytes: int = 4_194_304,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=timeout_s, transport=transport)
        delivery = Delivery(
            self._http,
            strict=strict,
            attempts=attempts,
            batch_lines=batch_lines,
            batch_bytes=batch_bytes,
            sleep=sleep,
        )
        super().__init__(delivery)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._http.close()
