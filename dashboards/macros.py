"""The ClickHouse plugin's macros and Grafana's variables, expanded as they are on the way to the store.

Tests run every SQL text of every board through it, so that a board is proven without a Grafana.
"""

import re
from collections.abc import Mapping, Sequence

_VARIABLE = re.compile(r"\$\{(?P<name>\w+):sqlstring\}")
_LEFT = re.compile(r"\$__\w+|\$\{")


def expand(
    sql: str, *, from_s: int, to_s: int, interval_s: int, variables: Mapping[str, str | Sequence[str]]
) -> str:
    """Return `sql` with macros and variables replaced.

    Parameters
    ----------
    from_s, to_s
        The board's time range in Unix seconds, both included, as the plugin does.
    interval_s
        Width of a bucket in seconds.
    variables
        Values by name; several values for a variable that takes many.

    Raises
    ------
    ValueError
        If a macro or variable remains that this module does not know.

    References
    ----------
    grafana/clickhouse-datasource, ``pkg/macros/macros.go``.

    Examples
    --------
    >>> expand("a IN (${r:sqlstring}) AND $__timeFilter(t)", from_s=1, to_s=2, interval_s=60,
    ...        variables={"r": ["x", "y'z"]})
    "a IN ('x','y''z') AND t >= toDateTime(1) AND t <= toDateTime(2)"
    """
    text = re.sub(
        r"\$__timeFilter\((?P<column>\w+)\)",
        lambda match: (
            f"{match['column']} >= toDateTime({from_s}) AND {match['column']} <= toDateTime({to_s})"
        ),
        sql,
    )
    text = re.sub(
        r"\$__timeInterval\((?P<column>\w+)\)",
        lambda match: f"toStartOfInterval(toDateTime({match['column']}), INTERVAL {interval_s} second)",
        text,
    )
    text = text.replace("$__interval_s", str(interval_s))
    text = _VARIABLE.sub(lambda match: _quoted(variables[match["name"]]), text)
    if left := _LEFT.search(text):
        raise ValueError(f"unknown macro or variable {left[0]!r}")
    return text


def _quoted(value: str | Sequence[str]) -> str:
    values = [value] if isinstance(value, str) else value
    return ",".join("'" + one.replace("'", "''") + "'" for one in values)
