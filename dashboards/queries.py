"""Every SQL text of the built-in page, by name.

All take ``deployment``, ``from_ms`` and ``to_ms`` (Unix milliseconds of event time, the end excluded) unless
their comment says otherwise, so that none can wander over the whole store. Times come back as Unix
milliseconds. Every mean comes with its denominators: ``n`` scores in ``units`` randomisation units, and the
standard error ``se`` between units (a ratio estimator: Cochran, Sampling Techniques, 1977, section 9A.2).
"""
# ruff: noqa: S608 - composed of constants of this module; values are bound by the engine

from collections.abc import Mapping
from typing import Final

_BETWEEN: Final = (
    "{column} >= fromUnixTimestamp64Milli({{from_ms:Int64}}, 'UTC')"
    " AND {column} < fromUnixTimestamp64Milli({{to_ms:Int64}}, 'UTC')"
)
_EVENT: Final = _BETWEEN.format(column="event_time")
_AT: Final = _BETWEEN.format(column="at")
_RECEIVED: Final = _BETWEEN.format(column="received_at")

# The last step of every mean: `s` is the sum and `n` the count of one unit.
_RATIO: Final = """toUInt64(sum(u.n)) AS n, countIf(u.n > 0) AS units,
  if(n > 0, sum(u.s) / n, NULL) AS mean,
  if(units > 1,
     sqrt(greatest(0, sum(u.s * u.s) - 2 * mean * sum(u.s * u.n) + mean * mean * sum(u.n * u.n))
          * units / (units - 1)) / n,
     NULL) AS se"""

DEPLOYMENTS: Final = f"""
SELECT deployment, count() AS n, uniqExact(release) AS releases,
  toUnixTimestamp64Milli(min(event_time)) AS first_event_ms,
  toUnixTimestamp64Milli(max(event_time)) AS last_event_ms,
  toUnixTimestamp64Milli(max(received_at)) AS last_received_ms,
  toUnixTimestamp64Milli(max(landed_at)) AS last_landed_ms
FROM scorecards FINAL
WHERE {_RECEIVED}
GROUP BY deployment
ORDER BY deployment
"""
"""What has arrived: bounds are of ``received_at``, and there is no ``deployment``."""

RELEASES: Final = f"""
WITH roles AS (
  SELECT release, argMax(role, tuple(started_at, landed_at)) AS role,
    argMax(share, tuple(started_at, landed_at)) AS share
  FROM releases FINAL WHERE deployment = {{deployment:String}} GROUP BY release
)
SELECT c.release AS release, any(r.role) AS role, any(r.share) AS declared_share, count() AS n,
  uniqExact(unit) AS units,
  countIf(verdict = 'pass') AS passed, countIf(verdict = 'review') AS review,
  countIf(verdict = 'reject') AS rejected,
  sum(count()) OVER () AS n_all,
  toUnixTimestamp64Milli(min(event_time)) AS first_ms, toUnixTimestamp64Milli(max(event_time)) AS last_ms
FROM (SELECT release, unit, verdict, event_time FROM scorecards FINAL
      WHERE deployment = {{deployment:String}} AND {_EVENT}) AS c
LEFT JOIN roles AS r ON r.release = c.release
GROUP BY c.release
ORDER BY first_ms, release
"""

RELEASE_SCORES: Final = f"""
SELECT release, metric, any(u.direction) AS direction, {_RATIO},
  sum(u.abstained) AS abstained, sum(u.skipped) AS skipped, sum(u.errored) AS errored
FROM (
  SELECT release, metric, unit, any(direction) AS direction,
    toFloat64(countIf(status = 'scored')) AS n, sumIf(ifNull(value, 0), status = 'scored') AS s,
    countIf(status = 'abstained') AS abstained, countIf(status = 'skipped') AS skipped,
    countIf(status = 'errored') AS errored
  FROM scores FINAL
  WHERE deployment = {{deployment:String}} AND {_EVENT}
  GROUP BY release, metric, unit
) AS u
GROUP BY release, metric
ORDER BY metric, release
"""

CURVES: Final = f"""
SELECT metric, release, bucket_ms, {_RATIO},
  if(n > 1, sqrt(greatest(0, sum(u.q) - n * mean * mean) / (n - 1)), NULL) AS sd
FROM (
  SELECT metric, release, unit, toFloat64(count()) AS n, sum(value) AS s, sum(value * value) AS q,
    intDiv(toUnixTimestamp64Milli(event_time), {{bucket_ms:Int64}}) * {{bucket_ms:Int64}} AS bucket_ms
  FROM scores FINAL
  WHERE deployment = {{deployment:String}} AND metric IN {{metrics:Array(String)}} AND status = 'scored'
    AND {_EVENT}
  GROUP BY metric, release, bucket_ms, unit
) AS u
GROUP BY metric, release, bucket_ms
ORDER BY metric, release, bucket_ms
"""
"""Also ``metrics`` and ``bucket_ms``, the width of a bucket."""

SIGNALS: Final = f"""
SELECT signal_id, kind, toUnixTimestamp64Milli(at) AS at_ms, release, segment, metric, test, state, role,
  direction, worse, detected, n, n_total, mean, baseline, effect, low, high, level, evidence, threshold,
  toUnixTimestamp64Milli(began_at) AS began_at_ms, detector, reason, bad, good
FROM signals FINAL
WHERE deployment = {{deployment:String}} AND kind IN ('change', 'cleared') AND {_AT}
ORDER BY at DESC, signal_id
LIMIT {{limit:UInt32}}
"""

STREAM_STATES: Final = f"""
SELECT release, segment, metric, test, argMax(state, at) AS state, argMax(reason, at) AS reason,
  argMax(n_total, at) AS n_total, toUnixTimestamp64Milli(max(at)) AS at_ms
FROM signals FINAL
WHERE deployment = {{deployment:String}} AND kind = 'status' AND {_AT}
GROUP BY release, segment, metric, test
ORDER BY release, segment, metric, test
"""

# What a release was last declared as, and when traffic was last taken from it for good.
_DECLARED: Final = """SELECT deployment, release, argMax(role, tuple(started_at, landed_at)) AS declared_role,
    max(started_at) AS declared_at
  FROM releases FINAL GROUP BY deployment, release"""
_TAKEN_BACK: Final = """SELECT deployment, release, max(at) AS back_at FROM actions FINAL
  WHERE kind = 'rollback' AND state = 'ROLLED_BACK' AND NOT dry_run GROUP BY deployment, release"""

TROUBLED: Final = f"""
SELECT s.deployment AS deployment, s.release AS release, s.segment AS segment, s.metric AS metric,
  s.test AS test, s.state AS state, s.worse AS worse, s.role AS role, s.reason AS reason, s.n AS n,
  s.mean AS mean, s.baseline AS baseline, s.at_ms AS at_ms, s.began_at_ms AS began_at_ms
FROM (
  SELECT deployment, release, segment, metric, test, argMax(signals.state, at) AS state,
    argMax(signals.worse, at) AS worse, argMax(signals.role, at) AS role,
    argMax(signals.reason, at) AS reason, argMax(signals.n, at) AS n,
    argMax(tuple(signals.mean), at).1 AS mean,
    argMax(tuple(signals.baseline), at).1 AS baseline, toUnixTimestamp64Milli(max(at)) AS at_ms,
    toUnixTimestamp64Milli(argMax(tuple(signals.began_at), at).1) AS began_at_ms
  FROM signals FINAL
  WHERE kind = 'status' AND test != 'share' AND {_AT}
  GROUP BY deployment, release, segment, metric, test
  HAVING state IN ('drift', 'warning', 'blind')
) AS s
LEFT JOIN ({_DECLARED}) AS r ON r.deployment = s.deployment AND r.release = s.release
LEFT JOIN ({_TAKEN_BACK}) AS b ON b.deployment = s.deployment AND b.release = s.release
WHERE r.declared_role != 'retired'
  AND (toUnixTimestamp64Milli(b.back_at) <= 0 OR b.back_at < r.declared_at)
ORDER BY s.deployment, s.state = 'drift' DESC, s.segment = 'all' DESC, s.release, s.metric, s.segment, s.test
LIMIT {{limit:UInt32}}
"""
"""Streams of all deployments whose latest status is not well, without releases that are out of service:
rolled back since they were declared, or retired. There is no ``deployment``."""

_DECISION: Final = """d.deployment AS deployment, d.decision_id AS decision_id,
  toUnixTimestamp64Milli(d.at) AS at_ms, d.release AS release, d.cause AS cause, d.verbs AS verbs,
  d.reason AS reason, d.rule AS rule, d.metric AS metric, d.segment AS segment, d.signal_ids AS signal_ids,
  d.effect AS effect, d.low AS low, d.high AS high, d.baseline AS baseline, d.n AS n,
  toUnixTimestamp64Milli(d.began_at) AS began_at_ms, d.exemplars AS exemplars"""

DECISIONS: Final = f"""
SELECT {_DECISION}
FROM decisions AS d FINAL
WHERE d.deployment = {{deployment:String}} AND {_BETWEEN.format(column="d.at")}
ORDER BY at_ms DESC, decision_id
LIMIT {{limit:UInt32}}
"""

OPEN_DECISIONS: Final = f"""
SELECT {_DECISION}
FROM decisions AS d FINAL
LEFT JOIN ({_DECLARED}) AS r ON r.deployment = d.deployment AND r.release = d.release
LEFT JOIN ({_TAKEN_BACK}) AS b ON b.deployment = d.deployment AND b.release = d.release
LEFT JOIN (
  SELECT deployment, release, segment, metric, test, max(at) AS cleared_at
  FROM signals FINAL WHERE kind = 'cleared' GROUP BY deployment, release, segment, metric, test
) AS c ON c.deployment = d.deployment AND c.release = d.release AND c.segment = d.segment
  AND c.metric = d.metric AND c.test = multiIf(has(d.verbs, 'rollback'), 'arm',
    d.reason = 'changed_within_release', 'own', 'reference')
WHERE {_BETWEEN.format(column="d.at")} AND r.declared_role != 'retired' AND b.back_at < d.at
  AND c.cleared_at < d.at
  AND d.decision_id NOT IN (SELECT decision_id FROM actions WHERE state = 'ROLLED_BACK' AND NOT dry_run)
ORDER BY at_ms DESC, decision_id
LIMIT {{limit:UInt32}}
"""
"""Decisions of all deployments, however old, that nothing has ended: no ``cleared`` of their stream, no
rollback that was verified, no retirement of their release. There is no ``deployment``."""

ACTIONS: Final = f"""
SELECT action_id, seq, toUnixTimestamp64Milli(at) AS at_ms, release, decision_id, kind, target, state, reason,
  from_release, to_release, dry_run, detail
FROM actions FINAL
WHERE deployment = {{deployment:String}}
  AND (({_AT}) OR decision_id IN (
    SELECT decision_id FROM decisions WHERE deployment = {{deployment:String}} AND {_AT}))
ORDER BY at DESC, action_id, seq DESC
LIMIT {{limit:UInt32}}
"""
"""Acts on the decisions of the window too: act has its own clock, which a replay does not turn back."""

OFFENDERS: Final = f"""
SELECT interaction_id, toUnixTimestamp64Milli(event_time) AS event_ms, status, value, direction, confidence,
  label, flags, verdict, version, count() OVER () AS n_all
FROM scores FINAL
WHERE deployment = {{deployment:String}} AND metric = {{metric:String}} AND release = {{release:String}}
  AND status = 'scored' AND {_EVENT}
  AND ({{segment:String}} = '' OR interaction_id IN (
    SELECT interaction_id FROM scorecards
    WHERE deployment = {{deployment:String}} AND release = {{release:String}} AND {_EVENT}
      AND segments[{{segment:String}}] = {{segment_value:String}}))
ORDER BY if(direction = 'higher', value, -value), event_time DESC, interaction_id
LIMIT {{limit:UInt32}}
"""
"""Worst first, ids only. Also ``release``, ``metric``, ``segment`` (empty for all) and ``segment_value``."""

TEXTS: Final = f"""
SELECT interaction_id,
  leftUTF8(t.prompt, {{characters:UInt32}}) AS prompt, lengthUTF8(t.prompt) AS prompt_chars,
  leftUTF8(t.response, {{characters:UInt32}}) AS response, lengthUTF8(t.response) AS response_chars
FROM interaction_text AS t FINAL
WHERE deployment = {{deployment:String}} AND interaction_id IN {{ids:Array(String)}} AND {_EVENT}
"""
"""The texts of ``ids``, each cut to ``characters``; the full lengths beside them."""

OWNER: Final = f"""
SELECT deployment, toUnixTimestamp64Milli(event_time) AS event_ms
FROM scorecards FINAL
WHERE interaction_id = {{interaction_id:String}} AND {_EVENT}
LIMIT 1
"""
"""Whose interaction an id is; there is no ``deployment``, since ids are unique without it."""

INTERACTION: Final = f"""
SELECT interaction_id, raw_id, release, toUnixTimestamp64Milli(event_time) AS event_ms,
  toUnixTimestamp64Milli(received_at) AS received_ms, user, conversation, arm, arm_share, model,
  prompt_version, finish_reason, input_tokens, output_tokens, latency_s, attributes, redaction_kinds,
  prompt_chars, response_chars
FROM interactions FINAL
WHERE deployment = {{deployment:String}} AND interaction_id = {{interaction_id:String}} AND {_EVENT}
LIMIT 1
"""

INTERACTION_TEXT: Final = f"""
SELECT toUnixTimestamp64Milli(event_time) AS event_ms, prompt, response, system, history, context, tools
FROM interaction_text FINAL
WHERE deployment = {{deployment:String}} AND interaction_id = {{interaction_id:String}} AND {_EVENT}
LIMIT 1
"""

INTERACTION_SCORES: Final = f"""
SELECT metric, status, value, direction, confidence, label, flags, spans, reason, version, verdict,
  policy_version
FROM scores FINAL
WHERE deployment = {{deployment:String}} AND interaction_id = {{interaction_id:String}} AND {_EVENT}
ORDER BY status = 'scored' DESC, metric, version
"""

INTERACTION_CARD: Final = f"""
SELECT verdict, deciding, segments, policy_version, unit
FROM scorecards FINAL
WHERE deployment = {{deployment:String}} AND interaction_id = {{interaction_id:String}} AND {_EVENT}
LIMIT 1
"""

INTERACTION_FEEDBACK: Final = f"""
SELECT kind, value, toUnixTimestamp64Milli(event_time) AS event_ms
FROM feedback FINAL
WHERE deployment = {{deployment:String}} AND interaction_id = {{interaction_id:String}} AND {_EVENT}
ORDER BY event_time
"""

QUERIES: Final[Mapping[str, str]] = {
    "actions": ACTIONS,
    "curves": CURVES,
    "decisions": DECISIONS,
    "deployments": DEPLOYMENTS,
    "interaction": INTERACTION,
    "interaction_card": INTERACTION_CARD,
    "interaction_feedback": INTERACTION_FEEDBACK,
    "interaction_scores": INTERACTION_SCORES,
    "interaction_text": INTERACTION_TEXT,
    "offenders": OFFENDERS,
    "open_decisions": OPEN_DECISIONS,
    "owner": OWNER,
    "release_scores": RELEASE_SCORES,
    "releases": RELEASES,
    "signals": SIGNALS,
    "stream_states": STREAM_STATES,
    "texts": TEXTS,
    "troubled": TROUBLED,
}
"""Every text by its name."""
