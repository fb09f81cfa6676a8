"""What another configuration changes: the scores of a backfill against those that are live."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from streams.kafka.shadow import ShadowTables

_SAME = 1e-9


class MetricChange(Struct, frozen=True, kw_only=True):
    """One metric of one release, scored then and now.

    ``n`` interactions were scored both times; ``mean_then`` and ``mean_now`` are over these, None for none.
    ``agreement`` is the share of these with the same value. ``only_then`` and ``only_now`` were scored once.
    """

    release: str
    metric: str
    n: int
    mean_then: float | None
    mean_now: float | None
    agreement: float | None
    only_then: int
    only_now: int


class VerdictChange(Struct, frozen=True, kw_only=True):
    """How many interactions of a release had one verdict then and have one now; the same one has stayed."""

    release: str
    then: str
    now: str
    n: int


class Comparison(Struct, frozen=True):
    """What changed, by metric and release, and which verdicts moved where."""

    metrics: tuple[MetricChange, ...]
    verdicts: tuple[VerdictChange, ...]


_METRICS = """
SELECT release, metric,
  countIf(then_scored AND now_scored) AS n,
  avgIf(then_value, then_scored AND now_scored) AS mean_then,
  avgIf(now_value, then_scored AND now_scored) AS mean_now,
  avgIf(abs(then_value - now_value) <= {same:Float64}, then_scored AND now_scored) AS agreement,
  countIf(then_scored AND NOT now_scored) AS only_then,
  countIf(now_scored AND NOT then_scored) AS only_now
FROM (
  SELECT release, metric, deployment, interaction_id,
    maxIf(is_scored, is_now = 0) AS then_scored, maxIf(is_scored, is_now = 1) AS now_scored,
    maxIf(number, is_now = 0) AS then_value, maxIf(number, is_now = 1) AS now_value
  FROM (
    SELECT release, metric, deployment, interaction_id, status = 'scored' AS is_scored,
      ifNull(value, 0) AS number, 0 AS is_now
    FROM __THEN__ FINAL
    WHERE (deployment, interaction_id) IN (SELECT deployment, interaction_id FROM __CARDS__)
    UNION ALL
    SELECT release, metric, deployment, interaction_id, status = 'scored' AS is_scored,
      ifNull(value, 0) AS number, 1 AS is_now
    FROM __NOW__ FINAL
  ) GROUP BY release, metric, deployment, interaction_id
) GROUP BY release, metric ORDER BY release, metric
"""
_VERDICTS = """
SELECT t.release AS release, t.verdict AS was, s.verdict AS is, count() AS n
FROM (SELECT release, verdict, deployment, interaction_id FROM __THEN__ FINAL) AS t
INNER JOIN (SELECT verdict, deployment, interaction_id FROM __CARDS__ FINAL) AS s
USING (deployment, interaction_id)
GROUP BY release, was, is ORDER BY release, was, is
"""


def compare(shadow: ShadowTables, *, swapped: bool = False) -> Comparison:
    """Return what the run changes; of a run that is `swapped`, against the rows that were kept."""
    kind = "_old" if swapped else ""
    then = {table: shadow.name(table, kind) if swapped else table for table in ("scores", "scorecards")}
    cards, scores = shadow.name("scorecards"), shadow.name("scores")
    metrics = _METRICS.replace("__THEN__", then["scores"]).replace("__NOW__", scores)
    verdicts = _VERDICTS.replace("__THEN__", then["scorecards"])
    return Comparison(
        metrics=tuple(
            _metric(row) for row in shadow.reader.query(metrics.replace("__CARDS__", cards), {"same": _SAME})
        ),
        verdicts=tuple(
            VerdictChange(release=row["release"], then=row["was"], now=row["is"], n=int(row["n"]))
            for row in shadow.reader.query(verdicts.replace("__CARDS__", cards), {})
        ),
    )


def _metric(row: dict[str, Any]) -> MetricChange:
    n = int(row["n"])
    return MetricChange(
        release=row["release"],
        metric=row["metric"],
        n=n,
        mean_then=float(row["mean_then"]) if n else None,
        mean_now=float(row["mean_now"]) if n else None,
        agreement=float(row["agreement"]) if n else None,
        only_then=int(row["only_then"]),
        only_now=int(row["only_now"]),
    )


def moved(verdicts: Sequence[VerdictChange]) -> int:
    """Return how many interactions have another verdict now."""
    return sum(one.n for one in verdicts if one.then != one.now)
