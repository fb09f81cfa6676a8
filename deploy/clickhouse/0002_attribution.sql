-- Who carries a change: worse answers within slices, or the mix of the traffic; and how many units say so.
ALTER TABLE signals
  ADD COLUMN IF NOT EXISTS effect_n Int64,
  ADD COLUMN IF NOT EXISTS split LowCardinality(String),
  ADD COLUMN IF NOT EXISTS split_by LowCardinality(String),
  ADD COLUMN IF NOT EXISTS within Nullable(Float64),
  ADD COLUMN IF NOT EXISTS mix Nullable(Float64),
  ADD COLUMN IF NOT EXISTS segments Array(String);

-- From when on somebody approved it (1970: nobody did), and the same units by slice (JSON: number, sum, sum of
-- squares). The same reference approved twice is two rows.
ALTER TABLE reference_points
  ADD COLUMN IF NOT EXISTS approved_at DateTime64(3, 'UTC'),
  ADD COLUMN IF NOT EXISTS cells String CODEC(ZSTD(1)),
  MODIFY ORDER BY (deployment, metric, segment, release, reference_id, approved_at);
