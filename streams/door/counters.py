"""How many submissions had which verdict."""

import threading


class DoorCounters:
    """Counts per code (``accepted``, ``duplicate``, or the code of a refusal), safe to use from any thread.

    Examples
    --------
    >>> counters = DoorCounters()
    >>> counters.count("accepted", 2)
    >>> counters.snapshot()
    {'accepted': 2}
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def count(self, code: str, n: int = 1) -> None:
        """Add `n` to the count of `code`."""
        with self._lock:
            self._counts[code] = self._counts.get(code, 0) + n

    def snapshot(self) -> dict[str, int]:
        """Return a copy of all counts."""
        with self._lock:
            return dict(self._counts)
