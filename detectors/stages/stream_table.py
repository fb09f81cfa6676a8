"""All reference streams of a partition, with what their bound needs at hand."""

from collections import Counter
from collections.abc import ItemsView, Iterable, Iterator

from detectors.stages.reference_stream import ReferenceStream
from detectors.stages.units import ALL


class StreamTable:
    """Streams by storage key, counted by deployment; the sheddable ones in the order of their last use.

    Only a slice of a release that nobody declared may be shed. The order is that of the fed buckets, and
    within a bucket of segment, metric, version and release, so it is the same after a restart.
    """

    def __init__(self) -> None:
        self._streams: dict[str, ReferenceStream] = {}
        self._counts: Counter[str] = Counter()
        self._sheddable: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[str]:
        return iter(self._streams)

    def items(self) -> ItemsView[str, ReferenceStream]:
        """Return keys and streams."""
        return self._streams.items()

    def get(self, key: str) -> ReferenceStream | None:
        """Return the stream under `key`."""
        return self._streams.get(key)

    def load(self, streams: Iterable[tuple[str, ReferenceStream]]) -> None:
        """Take in stored streams."""
        for key, stream in sorted(streams, key=lambda pair: _last_use(pair[1])):
            self.add(key, stream)

    def add(self, key: str, stream: ReferenceStream) -> None:
        """Take in a new stream."""
        self._streams[key] = stream
        self._counts[stream.key.deployment] += 1
        self.use(key)

    def use(self, key: str) -> None:
        """Note that the stream is fed now."""
        stream = self._streams[key]
        if not stream.declared and stream.key.segment != ALL:
            order = self._sheddable.setdefault(stream.key.deployment, {})
            order.pop(key, None)
            order[key] = None

    def drop(self, key: str) -> None:
        """Forget the stream under `key`, if there is one."""
        stream = self._streams.pop(key, None)
        if stream is not None:
            self._counts[stream.key.deployment] -= 1
            self._sheddable.get(stream.key.deployment, {}).pop(key, None)

    def count(self, deployment: str) -> int:
        """Return how many streams `deployment` has."""
        return self._counts[deployment]

    def longest_silent(self, deployment: str) -> str | None:
        """Return the key of the sheddable stream that was fed longest ago."""
        return next(iter(self._sheddable.get(deployment, ())), None)


def _last_use(stream: ReferenceStream) -> tuple[int, str, str, str, str]:
    key = stream.key
    return stream.last_ms, key.segment, key.metric, stream.version, key.release
