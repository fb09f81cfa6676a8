"""The board *Overview*: which release serves what, how it is judged, what moved and what was done."""
# ruff: noqa: S608 - composed of constants of this module; Grafana quotes its variables

from typing import Final

from dashboards.grafana import Annotation, Board, Panel, Place, Variable

_WHERE: Final = "deployment = ${deployment:sqlstring} AND release IN (${release:sqlstring})"

# Every series is named with the number of interactions behind it: no number without its denominator.
_NAMED: Final = "concat(release, ', n = ', toString(sum(n) OVER (PARTITION BY release)))"

INTERACTIONS: Final = f"""SELECT time, {_NAMED} AS series, toFloat64(n) / ($__interval_s / 60) AS value FROM (
  SELECT $__timeInterval(event_time) AS time, release, count() AS n FROM scorecards FINAL
  WHERE {_WHERE} AND $__timeFilter(event_time) GROUP BY time, release)
ORDER BY time, series"""

SERVED_SHARE: Final = f"""SELECT time, {_NAMED} AS series, n / n_all AS value FROM (
  SELECT $__timeInterval(event_time) AS time, release, count() AS n,
    sum(count()) OVER (PARTITION BY time) AS n_all
  FROM scorecards FINAL WHERE deployment = ${{deployment:sqlstring}} AND $__timeFilter(event_time)
  GROUP BY time, release)
WHERE release IN (${{release:sqlstring}})
ORDER BY time, series"""

NOT_PASSED: Final = f"""SELECT time, {_NAMED} AS series, bad / n AS value FROM (
  SELECT $__timeInterval(event_time) AS time, release, count() AS n, countIf(verdict != 'pass') AS bad
  FROM scorecards FINAL WHERE {_WHERE} AND $__timeFilter(event_time) GROUP BY time, release)
ORDER BY time, series"""

SCORE_MEANS: Final = f"""SELECT time, {_NAMED} AS series, s / n AS value FROM (
  SELECT $__timeInterval(event_time) AS time, release, count() AS n, sum(ifNull(value, 0)) AS s
  FROM scores FINAL
  WHERE {_WHERE} AND metric = ${{metric:sqlstring}} AND status = 'scored' AND $__timeFilter(event_time)
  GROUP BY time, release)
ORDER BY time, series"""

RELEASES: Final = f"""SELECT release, count() AS interactions, uniqExact(unit) AS units,
  countIf(verdict = 'pass') AS passed, countIf(verdict = 'review') AS review,
  countIf(verdict = 'reject') AS rejected,
  round(100 * rejected / interactions, 2) AS rejected_percent, max(event_time) AS last_seen
FROM scorecards FINAL WHERE {_WHERE} AND $__timeFilter(event_time) GROUP BY release ORDER BY last_seen DESC"""

SIGNALS: Final = f"""SELECT at, release, metric, segment, test, kind, worse, n AS units,
  round(s.mean, 4) AS now, round(s.baseline, 4) AS reference, round(s.effect, 4) AS moved_by,
  round(s.low, 4) AS low, round(s.high, 4) AS high
FROM signals AS s FINAL WHERE {_WHERE} AND kind IN ('change', 'cleared') AND $__timeFilter(at)
ORDER BY at DESC LIMIT 200"""

_LAST: Final = ", ".join(
    f"argMax(a.{name}, a.seq) AS {name}"
    for name in ("kind", "target", "release", "from_release", "to_release", "state", "dry_run", "reason")
)
ACTIONS: Final = f"""SELECT max(a.at) AS at, {_LAST}
FROM (SELECT * FROM actions FINAL WHERE {_WHERE} AND $__timeFilter(at)) AS a
GROUP BY a.action_id ORDER BY at DESC LIMIT 200"""

CHANGES: Final = f"""SELECT ifNull(began_at, at) AS time, at AS timeEnd,
  concat(release, ': ', metric, ' of ', segment, ', n = ', toString(n)) AS text,
  [toString(kind), toString(test)] AS tags
FROM signals FINAL WHERE {_WHERE} AND kind = 'change' AND $__timeFilter(at) ORDER BY time"""

ROLLBACKS: Final = f"""SELECT at AS time, at AS timeEnd,
  concat(if(dry_run, 'dry-run ', ''), kind, ' ', release, ': ', state) AS text,
  [toString(kind), toString(state)] AS tags
FROM actions FINAL WHERE {_WHERE} AND kind = 'rollback' AND $__timeFilter(at) ORDER BY time"""

BOARD: Final = Board(
    uid="plumbline-overview",
    title="Plumbline / Overview",
    description="Releases of one deployment side by side: what they serve, how it is judged, what was done.",
    variables=[
        Variable(
            name="deployment",
            label="Deployment",
            sql="SELECT DISTINCT deployment FROM scorecards WHERE $__timeFilter(event_time) ORDER BY 1",
        ),
        Variable(
            name="release",
            label="Release",
            sql="SELECT DISTINCT release FROM scorecards WHERE deployment = ${deployment:sqlstring}"
            " AND $__timeFilter(event_time) ORDER BY release",
            many=True,
        ),
        Variable(
            name="metric",
            label="Score",
            sql="SELECT DISTINCT metric FROM scores WHERE deployment = ${deployment:sqlstring}"
            " AND status = 'scored' AND $__timeFilter(event_time) ORDER BY metric",
        ),
    ],
    annotations=[
        Annotation(name="Changes", sql=CHANGES, colour="red"),
        Annotation(name="Rollbacks", sql=ROLLBACKS, colour="blue"),
    ],
    panels=[
        Panel(
            title="${metric}: mean per release",
            description="Mean of the score over the interactions that have one; n is their number.",
            sql=SCORE_MEANS,
            place=Place(x=0, y=0, w=12, h=9),
        ),
        Panel(
            title="Share not passed",
            description="Verdict review or reject, of all scored; n is the number scored in this window.",
            sql=NOT_PASSED,
            place=Place(x=12, y=0, w=12, h=9),
            unit="percentunit",
            lowest=0.0,
        ),
        Panel(
            title="Served share",
            description="Share of the deployment's interactions that each release answered.",
            sql=SERVED_SHARE,
            place=Place(x=0, y=9, w=12, h=8),
            unit="percentunit",
            lowest=0.0,
            highest=1.0,
            stacked=True,
        ),
        Panel(
            title="Interactions per minute",
            description="Scored interactions per minute; n is their number in this window.",
            sql=INTERACTIONS,
            place=Place(x=12, y=9, w=12, h=8),
            lowest=0.0,
        ),
        Panel(
            title="Releases side by side",
            description="Counts of interactions and verdicts in this window.",
            sql=RELEASES,
            place=Place(x=0, y=17, w=24, h=6),
            kind="table",
        ),
        Panel(
            title="Signals",
            description="Changes found and cleared, with their size, interval and the units behind them.",
            sql=SIGNALS,
            place=Place(x=0, y=23, w=24, h=8),
            kind="table",
        ),
        Panel(
            title="Actions",
            description="The latest state of every page and rollback.",
            sql=ACTIONS,
            place=Place(x=0, y=31, w=24, h=8),
            kind="table",
        ),
    ],
)
"""The board; ``python -m dashboards.build`` writes its JSON."""
