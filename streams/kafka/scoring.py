"""The score stage on Kafka, and who ticks for partitions that are silent."""

import asyncio
from collections.abc import Collection

from streams.assembly import assemble
from streams.kafka.faust_transport import Where
from streams.kafka.runner import StageRunner
from streams.kafka.tick_log import KafkaTickLog
from streams.kafka.ticker import Ticker
from streams.settings import Settings


class ScoreRunner(StageRunner):
    """The score stage; the worker that has partition 0 ticks for all that are silent."""

    def __init__(
        self,
        settings: Settings,
        *,
        instance_id: str,
        accept_loss: bool = False,
        accept_floods: Collection[Where] = (),
    ) -> None:
        super().__init__(
            settings,
            assemble(settings).score,
            instance_id=instance_id,
            accept_loss=accept_loss,
            accept_floods=accept_floods,
            on_moved=self._moved,
        )
        self.ticker: Ticker | None = None

    def _moved(self, partitions: set[int]) -> None:
        if self.ticker is not None and 0 not in partitions:
            self._end_ticker()
        elif self.ticker is None and 0 in partitions:
            kafka, worker = self._settings.kafka, self._settings.worker
            self.ticker = Ticker(
                lambda: KafkaTickLog(kafka),
                partitions=kafka.partitions,
                live=self._settings.door.clamp,
                tick_s=worker.tick_s,
                silence_s=worker.silence_s,
                on_failure=lambda _, error: self.app.fail(error),
            )
            self.ticker.start()

    def _end_ticker(self) -> None:
        ticker, self.ticker = self.ticker, None
        if ticker is not None:
            ticker.stop()

    async def stop(self) -> None:
        """Finish the batches at hand and leave."""
        await asyncio.to_thread(self._end_ticker)
        await super().stop()
