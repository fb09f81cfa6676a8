"""When was observation number i? Known by bucket, for the latest buckets."""

from typing import Final

_KEPT: Final = 128


class BucketTimes:
    """For the latest buckets with observations, how many there were by the end of each.

    Parameters
    ----------
    counts
        What `counts` held of another one: pairs of bucket start and count.

    Examples
    --------
    >>> times = BucketTimes()
    >>> times.note(60_000, 10)
    >>> times.note(120_000, 25)
    >>> times.bucket_of(9), times.bucket_of(10), times.bucket_of(25)
    (60000, 120000, None)
    """

    def __init__(self, counts: list[list[int]] | None = None) -> None:
        self.counts: list[list[int]] = list(counts or [])

    def note(self, bucket_ms: int, count: int) -> None:
        """Remember that `count` observations had been seen at the end of the bucket."""
        self.counts = [*self.counts, [bucket_ms, count]][-_KEPT:]

    def bucket_of(self, index: int | None) -> int | None:
        """Return the start of the bucket of observation `index` (from 0), or of the oldest bucket known."""
        if index is None:
            return None
        return next((bucket_ms for bucket_ms, count in self.counts if count > index), None)
