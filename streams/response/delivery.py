"""Takes due notices out of the outbox and hands them to their notifiers."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from streams.notifiers import Notifier, Permanent, Retryable
from streams.response import outbox
from streams.response.calling import LEASE_S, call, wait_ms
from streams.response.ledger import Ledger
from streams.response.outbox import OutboxState, Posted

ATTEMPTS: Final = 24
"""About five hours of trying; then the notice is dead and stays in the outbox to be seen."""
PER_ROUND: Final = 8

LOG = logging.getLogger(__name__)


class Delivery:
    """Delivers each channel in the order of writing, channels side by side."""

    def __init__(
        self, *, ledger: Ledger, notifiers: Mapping[str, Notifier], clock: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._notifiers = dict(notifiers)
        self._clock = clock

    async def deliver(self) -> int:
        """Try every due notice once; return how many were accepted."""
        return sum(await asyncio.gather(*(self._channel(name) for name in self._notifiers)))

    async def _channel(self, channel: str) -> int:
        with self._ledger.begin() as transaction:
            rows = outbox.due(transaction, channel, self._clock(), limit=PER_ROUND)
        return sum([await self._one(self._notifiers[channel], row) for row in rows])

    async def _one(self, notifier: Notifier, row: Posted) -> int:
        now_ms = self._clock()
        with self._ledger.begin() as transaction:
            lease_ms = now_ms + int(LEASE_S * 1000)
            if not outbox.claim(transaction, row, until_ms=lease_ms, now_ms=now_ms):
                return 0
        state: OutboxState = "sent"
        reason, next_at_ms = "", now_ms
        try:
            await call(notifier.notify(row.notice))
        except Retryable as verdict:
            attempt = row.attempts + 1
            state, reason = ("dead" if attempt >= ATTEMPTS else "pending"), str(verdict)
            next_at_ms = now_ms + wait_ms(attempt, verdict.after_s)
        except Permanent as verdict:
            state, reason = "dead", str(verdict)
        with self._ledger.begin() as transaction:
            now_ms = self._clock()
            outbox.settle(transaction, row, state, now_ms=now_ms, next_at_ms=next_at_ms, reason=reason)
        if state == "dead":
            LOG.error("notice %s: channel %s does not take it", row.notice.notice_id, row.channel)
        return int(state == "sent")
