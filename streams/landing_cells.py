"""Values as the store's columns take them: what does not fit is bent, never refused.

Times and whole numbers are held to the columns' range and lone surrogates, which no UTF-8 text can hold,
become U+FFFD; everything else stays as it is.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from detectors.records import Arm, Interval

LAST_MS: Final = 4_102_444_800_000
"""2100-01-01: the engine's dates end soon after; later times are held to it."""

_LARGEST: Final = 2**63 - 1
_JSON = msgspec.json.Encoder(order="deterministic")


def arm_columns(arm: Arm | None) -> dict[str, Any]:
    """Return the three columns of an arm; no arm is empty text and no share."""
    if arm is None:
        return {"arm": "", "arm_share": None, "arm_unit": ""}
    return {"arm": text(arm.name), "arm_share": arm.share, "arm_unit": arm.unit}


def interval_columns(interval: Interval | None) -> dict[str, Any]:
    """Return the three columns of an interval, each None without one."""
    if interval is None:
        return {"low": None, "high": None, "level": None}
    return {"low": interval.low, "high": interval.high, "level": interval.level}


def text(value: str) -> str:
    r"""Return `value` without lone surrogates.

    Examples
    --------
    >>> text("a\ud800b") == "a\ufffdb"
    True
    """
    if value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def text_map(values: Mapping[str, str]) -> dict[str, str]:
    """Return `values` without lone surrogates."""
    return {text(name): text(value) for name, value in values.items()}


def json_text(value: Any) -> str:
    """Return `value` as JSON text; equal values give equal text."""
    try:
        return _JSON.encode(value).decode()
    except UnicodeEncodeError:
        return _JSON.encode(_scrubbed(msgspec.to_builtins(value))).decode()


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {_scrubbed(key): _scrubbed(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_scrubbed(inner) for inner in value]
    return value


def time_ms(value: int) -> int:
    """Return Unix milliseconds between 1970 and 2100."""
    return min(max(value, 0), LAST_MS)


def time_ms_or_none(value: int | None) -> int | None:
    """Return :func:`time_ms`, or None for None."""
    return None if value is None else time_ms(value)


def whole(value: int) -> int:
    """Return `value` held to 64 bits."""
    return min(max(value, -_LARGEST), _LARGEST)


def whole_or_none(value: int | None) -> int | None:
    """Return :func:`whole`, or None for None."""
    return None if value is None else whole(value)
