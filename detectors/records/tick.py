"""Time as a record, so that silence, closing and cool-downs are the same in a replay."""

from msgspec import Struct


class Tick(Struct, frozen=True):
    """``source_partition`` will bring no more records with an event time at or before ``watermark_ms``.

    (Save late ones, which are stored and counted but not detected.)
    """

    source_partition: int
    watermark_ms: int
