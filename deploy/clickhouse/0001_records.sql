-- Names are unqualified: the database is the one of the connection.
-- Keys and partitions come from the records alone, so landing a record twice gives one row under FINAL.
-- Retention and daily partitions follow received_at, which the door stamps once; curves read event_time.

CREATE TABLE IF NOT EXISTS interactions (
  deployment LowCardinality(String),
  release LowCardinality(String),
  interaction_id String CODEC(ZSTD(1)),
  raw_id String CODEC(ZSTD(1)),
  event_time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  received_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  user String CODEC(ZSTD(1)),
  user_key_id LowCardinality(String),
  conversation String CODEC(ZSTD(1)),
  final Bool,
  arm LowCardinality(String),
  arm_share Nullable(Float64),
  arm_unit LowCardinality(String),
  model LowCardinality(String),
  prompt_version LowCardinality(String),
  finish_reason LowCardinality(String),
  input_tokens Nullable(Int64),
  output_tokens Nullable(Int64),
  latency_s Nullable(Float64),
  attributes Map(String, String) CODEC(ZSTD(1)),
  redaction_kinds Array(LowCardinality(String)),
  prompt_chars Int64 CODEC(ZSTD(1)),
  response_chars Int64 CODEC(ZSTD(1)),
  src_partition UInt32,
  src_offset UInt64 CODEC(Delta(8), ZSTD(1)),
  landed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  INDEX ix_id interaction_id TYPE bloom_filter(0.001) GRANULARITY 1,
  INDEX ix_user user TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = ReplacingMergeTree(landed_at)
PARTITION BY toDate(received_at)
PRIMARY KEY (deployment, release, toStartOfHour(event_time))
ORDER BY (deployment, release, toStartOfHour(event_time), event_time, interaction_id)
TTL toDateTime(received_at) + INTERVAL 180 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000,
  fsync_after_insert = 1, fsync_part_directory = 1;

-- Everything a person or a model wrote, redacted, and nothing else: its retention is shorter.
CREATE TABLE IF NOT EXISTS interaction_text (
  deployment LowCardinality(String),
  interaction_id String CODEC(ZSTD(1)),
  event_time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  received_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  prompt String CODEC(ZSTD(3)),
  response String CODEC(ZSTD(3)),
  system String CODEC(ZSTD(3)),
  history String CODEC(ZSTD(3)),
  context String CODEC(ZSTD(3)),
  tools String CODEC(ZSTD(3)),
  annotations String CODEC(ZSTD(3)),
  redactions String CODEC(ZSTD(3)),
  extra String CODEC(ZSTD(3)),
  src_partition UInt32,
  src_offset UInt64 CODEC(Delta(8), ZSTD(1)),
  landed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1))
) ENGINE = ReplacingMergeTree(landed_at)
PARTITION BY toDate(received_at)
ORDER BY (deployment, interaction_id)
TTL toDateTime(received_at) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, index_granularity_bytes = 67108864, non_replicated_deduplication_window = 10000,
  fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS scorecards (
  deployment LowCardinality(String),
  release LowCardinality(String),
  interaction_id String CODEC(ZSTD(1)),
  event_time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  received_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  unit String CODEC(ZSTD(1)),
  verdict LowCardinality(String),
  deciding Array(LowCardinality(String)),
  arm LowCardinality(String),
  arm_share Nullable(Float64),
  arm_unit LowCardinality(String),
  segments Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  policy_version LowCardinality(String),
  source_partition UInt32,
  source_offset UInt64 CODEC(Delta(8), ZSTD(1)),
  src_partition UInt32,
  src_offset UInt64 CODEC(Delta(8), ZSTD(1)),
  landed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  INDEX ix_id interaction_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree(landed_at)
PARTITION BY toDate(received_at)
PRIMARY KEY (deployment, release, toStartOfHour(event_time))
ORDER BY (deployment, release, toStartOfHour(event_time), event_time, interaction_id)
TTL toDateTime(received_at) + INTERVAL 180 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000,
  fsync_after_insert = 1, fsync_part_directory = 1;

-- One row per score of a scorecard: a new scorer needs no new column.
CREATE TABLE IF NOT EXISTS scores (
  deployment LowCardinality(String),
  metric LowCardinality(String),
  release LowCardinality(String),
  interaction_id String CODEC(ZSTD(1)),
  event_time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  received_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  unit String CODEC(ZSTD(1)),
  status LowCardinality(String),
  value Nullable(Float64) CODEC(ZSTD(1)),
  direction LowCardinality(String),
  confidence Float64 CODEC(ZSTD(1)),
  label LowCardinality(String),
  flags Array(LowCardinality(String)),
  spans String CODEC(ZSTD(1)),
  reason LowCardinality(String),
  version LowCardinality(String),
  arm LowCardinality(String),
  verdict LowCardinality(String),
  policy_version LowCardinality(String),
  src_partition UInt32,
  src_offset UInt64 CODEC(Delta(8), ZSTD(1)),
  landed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  INDEX ix_id interaction_id TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = ReplacingMergeTree(landed_at)
PARTITION BY toDate(received_at)
PRIMARY KEY (deployment, metric, release, toStartOfHour(event_time))
ORDER BY (deployment, metric, release, toStartOfHour(event_time), event_time, interaction_id, version)
TTL toDateTime(received_at) + INTERVAL 180 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000,
  fsync_after_insert = 1, fsync_part_directory = 1;

-- Signals, decisions and actions carry no received_at; they are kept by the time they landed.
CREATE TABLE IF NOT EXISTS signals (
  deployment LowCardinality(String),
  kind LowCardinality(String),
  at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  signal_id String CODEC(ZSTD(1)),
  release LowCardinality(String),
  segment LowCardinality(String),
  metric LowCardinality(String),
  test LowCardinality(String),
  state LowCardinality(String),
  role LowCardinality(String),
  direction LowCardinality(String),
  worse Bool,
  detected Bool,
  n Int64,
  n_total Int64,
  mean Nullable(Float64),
  baseline Nullable(Float64),
  effect Nullable(Float64),
  low Nullable(Float64),
  high Nullable(Float64),
  level Nullable(Float64),
  evidence Float64,
  threshold Float64,
  began_at Nullable(DateTime64(3, 'UTC')),
  detector LowCardinality(String),
  reason String CODEC(ZSTD(1)),
  reference_id String CODEC(ZSTD(1)),
  bad Array(String) CODEC(ZSTD(1)),
  good Array(String) CODEC(ZSTD(1)),
  src_partition UInt32,
  src_offset UInt64 CODEC(Delta(8), ZSTD(1)),
  landed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1))
) ENGINE = ReplacingMergeTree(landed_at)
PARTITION BY toYYYYMM(at)
ORDER BY (deployment, kind, at, signal_id)
TTL toDateTime(landed_at) + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000,
  fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS decisions (
  deployment LowCardinality(String),
  at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  decision_id String CODEC(ZSTD(1)),
  release LowCardinality(String),
  cause LowCardinality(String),
  verbs Array(LowCardinality(String)),
  reason LowCardinality(String),
  rule LowCardinality(String),
  summary String CODEC(ZSTD(1)),
  metric LowCardinality(String),
  segment LowCardinality(String),
  signal_ids Array(String),
  effect Nullable(Float64),
  low Nullable(Float64),
  high Nullable(Float64),
  baseline Nullable(Float64),
  n Int64,
  began_at Nullable(DateTime64(3, 'UTC')),
  exemplars Array(String),
  src_partition UInt32,
  src_offset UInt64 CODEC(Delta(8), ZSTD(1)),
  landed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1))
) ENGINE = ReplacingMergeTree(landed_at)
ORDER BY (deployment, at, decision_id)
SETTINGS non_replicated_deduplication_window = 10000,
  fsync_after_insert = 1, fsync_part_directory = 1;

-- The copy of the audit for boards; it has no retention.
CREATE TABLE IF NOT EXISTS actions (
  deployment LowCardinality(String),
  action_id String CODEC(ZSTD(1)),
  seq Int64,
  at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  release LowCardinality(String),
  decision_id String CODEC(ZSTD(1)),
  kind LowCardinality(String),
  target LowCardinality(String),
  state LowCardinality(String),
  reason String CODEC(ZSTD(1)),
  from_release LowCardinality(String),
  to_release LowCardinality(String),
  dry_run Bool,
  detail String CODEC(ZSTD(1)),
  src_partition UInt32,
  src_offset UInt64 CODEC(Delta(8), ZSTD(1)),
  landed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1))
) ENGINE = ReplacingMergeTree(landed_at)
ORDER BY (deployment, action_id, seq)
SETTINGS non_replicated_deduplication_window = 10000,
  fsync_after_insert = 1, fsync_part_directory = 1;

-- A release is declared again when its role or share changes: `content` tells the declarations apart.
CREATE TABLE IF NOT EXISTS releases (
  deployment LowCardinality(String),
  release LowCardinality(String),
  started_at DateTime64(3, 'UTC'),
  content String,
  role LowCardinality(String),
  digest String,
  share Nullable(Float64),
  notes String CODEC(ZSTD(1)),
  src_partition UInt32,
  src_offset UInt64,
  landed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
) ENGINE = ReplacingMergeTree(landed_at)
ORDER BY (deployment, release, started_at, content)
SETTINGS non_replicated_deduplication_window = 10000,
  fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS feedback (
  deployment LowCardinality(String),
  feedback_id String CODEC(ZSTD(1)),
  interaction_id String CODEC(ZSTD(1)),
  kind LowCardinality(String),
  event_time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  received_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  value Float64,
  src_partition UInt32,
  src_offset UInt64 CODEC(Delta(8), ZSTD(1)),
  landed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1))
) ENGINE = ReplacingMergeTree(landed_at)
PARTITION BY toDate(received_at)
ORDER BY (deployment, event_time, feedback_id)
TTL toDateTime(received_at) + INTERVAL 180 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000,
  fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS labels (
  deployment LowCardinality(String),
  label_id String CODEC(ZSTD(1)),
  interaction_id String CODEC(ZSTD(1)),
  metric LowCardinality(String),
  value Float64,
  rater LowCardinality(String),
  event_time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  received_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  src_partition UInt32,
  src_offset UInt64 CODEC(Delta(8), ZSTD(1)),
  landed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1))
) ENGINE = ReplacingMergeTree(landed_at)
ORDER BY (deployment, metric, event_time, label_id)
SETTINGS non_replicated_deduplication_window = 10000,
  fsync_after_insert = 1, fsync_part_directory = 1;

-- What users wrote in a feedback and reviewers beside a label; text, so it goes with the other text.
CREATE TABLE IF NOT EXISTS comments (
  deployment LowCardinality(String),
  source LowCardinality(String),
  source_id String CODEC(ZSTD(1)),
  interaction_id String CODEC(ZSTD(1)),
  event_time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  received_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
  comment String CODEC(ZSTD(3)),
  src_partition UInt32,
  src_offset UInt64 CODEC(Delta(8), ZSTD(1)),
  landed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1))
) ENGINE = ReplacingMergeTree(landed_at)
PARTITION BY toDate(received_at)
ORDER BY (deployment, interaction_id, source, source_id)
TTL toDateTime(received_at) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000,
  fsync_after_insert = 1, fsync_part_directory = 1;

-- `references` is a word of SQL.
CREATE TABLE IF NOT EXISTS reference_points (
  deployment LowCardinality(String),
  metric LowCardinality(String),
  segment LowCardinality(String),
  release LowCardinality(String),
  reference_id String,
  scorer_version LowCardinality(String),
  n Int64,
  mean Float64,
  variance Float64,
  first_at DateTime64(3, 'UTC'),
  last_at DateTime64(3, 'UTC'),
  src_partition UInt32,
  src_offset UInt64,
  landed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
) ENGINE = ReplacingMergeTree(landed_at)
ORDER BY (deployment, metric, segment, release, reference_id)
SETTINGS non_replicated_deduplication_window = 10000,
  fsync_after_insert = 1, fsync_part_directory = 1;
