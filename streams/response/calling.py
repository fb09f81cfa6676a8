"""One call to somebody else's system: bounded in time, ending in one of two verdicts whatever happens."""

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

from streams.notifiers import Permanent, Retryable

CALL_TIMEOUT_S: Final = 20.0
LONGEST_WAIT_S: Final = 900.0
LEASE_S: Final = 2 * CALL_TIMEOUT_S
"""How long one attempt keeps others off: longer than it can take, so that two never work on one thing."""

T = TypeVar("T")


async def call(foreign: Awaitable[T], *, timeout_s: float = CALL_TIMEOUT_S) -> T:
    """Return what `foreign` returns.

    Raises
    ------
    Retryable
        If it said so, took longer than `timeout_s`, or broke in any way of its own; a broken part's own text
        may hold anything, so only the name of its error is kept.
    Permanent
        If it said so.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await foreign
    except (Retryable, Permanent):
        raise
    except TimeoutError:
        raise Retryable("timeout") from None
    except Exception as error:  # noqa: BLE001 - a part's fault must never stop the machine
        raise Retryable(f"broken part: {type(error).__name__}") from None


def wait_ms(attempt: int, after_s: float | None) -> int:
    """Return the milliseconds to wait after the `attempt`-th failure (from 1).

    Doubles from 2 s up to 900 s. The receiver's own wish `after_s` is honoured up to the same bound, because
    a page or a rollback that waits for a day is a lost one.

    Examples
    --------
    >>> wait_ms(1, None), wait_ms(30, None), wait_ms(1, 60.0), wait_ms(1, 1e9)
    (2000, 900000, 60000, 900000)
    """
    wait_s = float(2 ** min(attempt, 10))
    if after_s is not None and after_s > wait_s:
        wait_s = after_s
    return int(min(wait_s, LONGEST_WAIT_S) * 1000)
