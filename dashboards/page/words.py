"""Numbers, times and other people's text as a reader at night can take them in."""

import math
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from markupsafe import Markup, escape

from detectors.records import Decision
from detectors.records.wording import describe_decision

Z95 = 1.959964
_JOINERS = "\u200c\u200d"  # several scripts and emoji need these two
_LONGEST = 20_000


def visible(text: str, limit: int = _LONGEST) -> Markup:
    r"""Return `text` as harmless HTML: markup escaped, what the eye cannot see shown by its code point.

    Control characters, direction overrides and other format characters appear as ``\u202E``; line ends and
    tabs stay. Beyond `limit` characters a note says how many are missing.

    Examples
    --------
    >>> visible("a\u202eb<")
    Markup('a<span class="esc">\\u202E</span>b&lt;')
    """
    shown = text[:limit]
    parts = [_character(one) for one in shown] if _is_odd(shown) else [escape(shown)]
    if len(text) > limit:
        note = f"{len(text) - limit:,} more characters not shown"
        parts.append(Markup('<span class="note"> … {}</span>').format(note))
    return Markup("").join(parts)


def cut(text: str, length: int, limit: int) -> Markup:
    """Return :func:`visible` of a text that was cut to `limit` when read; `length` is its full length."""
    if length <= limit:
        return visible(text)
    note = f"{length - limit:,} more characters"
    return visible(text) + Markup('<span class="note"> … {}</span>').format(note)


def wilson(mean: float, units: int, se: float | None) -> tuple[float, float]:
    """Return the 95 % interval of a mean of values in [0, 1]: Wilson's score interval.

    Parameters
    ----------
    mean
        The mean, in [0, 1].
    units
        Independent units behind it, at least 1.
    se
        Standard error of the mean between units, None if unknown. It sets the effective number of units, so
        that values that vary less than a coin give a tighter interval; without spread `units` stands.

    References
    ----------
    Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).

    Examples
    --------
    >>> low, high = wilson(0.0, 100, 0.0)
    >>> (low, round(high, 3))
    (0.0, 0.037)
    """
    variance = max(0.0, mean * (1.0 - mean))
    effective = variance / (se * se) if se and variance else float(units)
    centre = mean + Z95 * Z95 / (2 * effective)
    half = Z95 * math.sqrt(variance / effective + Z95 * Z95 / (4 * effective * effective))
    scale = 1 + Z95 * Z95 / effective
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def number(value: float | None, digits: int = 3) -> str:
    """Return a score for a table, or an en dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """Return a difference of scores with its sign.

    Examples
    --------
    >>> signed(0.25), signed(-0.1), signed(None)
    ('+0.250', '−0.100', '–')
    """
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def percent(part: float, whole: float) -> str:
    """Return `part` of `whole` in per cent.

    Examples
    --------
    >>> percent(1, 8), percent(1, 0)
    ('12.5 %', '–')
    """
    return "–" if whole <= 0 else f"{100 * part / whole:.1f} %"


def plural(count: int, noun: str) -> str:
    """Return count and noun.

    Examples
    --------
    >>> plural(1, "stream"), plural(1200, "stream")
    ('1 stream', '1,200 streams')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def clock(at_ms: int | None) -> str:
    """Return the time of day, UTC.

    Examples
    --------
    >>> clock(1_795_000_000_000)
    '11:06'
    """
    return "–" if at_ms is None else _utc(at_ms).strftime("%H:%M")


def moment(at_ms: int | None) -> str:
    """Return date and time, UTC.

    Examples
    --------
    >>> moment(1_795_000_000_000)
    '2026-11-18 11:06'
    """
    return "–" if at_ms is None else _utc(at_ms).strftime("%Y-%m-%d %H:%M")


def span(duration_ms: int) -> str:
    """Return a duration in its two largest units.

    Examples
    --------
    >>> span(42_000), span(3_900_000), span(200_000_000)
    ('42 s', '1 h 5 min', '2 d 7 h')
    """
    seconds = max(0, duration_ms) // 1000
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def described(row: Mapping[str, Any], *, than: str = "") -> str:
    """Return the sentence of a decision from its row of the query ``decisions``.

    `than` is the release it is compared with, where that is known.
    """
    return describe_decision(msgspec.convert({**row, "summary": ""}, Decision), than=than)


def _utc(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _is_odd(text: str) -> bool:
    return not text.isprintable()


def _character(one: str) -> Markup:
    if (
        one in "\n\t"
        or one in _JOINERS
        or unicodedata.category(one) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    ):
        return escape(one)
    code = f"\\u{ord(one):04X}"
    return Markup('<span class="esc">{}</span>').format(code)
