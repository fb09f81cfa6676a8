"""Every SQL text runs on a real engine and says what the records say."""

import math
from typing import Any

import pytest

from dashboards.queries import QUERIES
from streams.store import Reader, StoreError


def parameters(demo: Any, **more: Any) -> dict[str, Any]:
    return {
        "deployment": "support", "from_ms": demo.start_ms, "to_ms": demo.end_ms, "limit": 100,
        "bucket_ms": 300_000, "metrics": ["refusal", "helpful"], "metric": "refusal", "release": "2026-11-b",
        "segment": "", "segment_value": "", "ids": [demo.hostile_id], "characters": 20,
        "interaction_id": demo.hostile_id,
    } | more  # fmt: skip


EVERYWHERE = {"deployments", "open_decisions", "owner", "troubled"}


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_runs_with_bounds_and_finds_rows(name: str, demo_reader: Reader, demo: Any) -> None:
    sql = QUERIES[name]
    assert "{from_ms:Int64}" in sql
    assert "{to_ms:Int64}" in sql
    assert ("{deployment:String}" in sql) == (name not in EVERYWHERE)
    rows = demo_reader.query(sql, parameters(demo))
    if name not in {"interaction_feedback", "open_decisions", "troubled"}:
        assert rows
    assert demo_reader.query(sql, parameters(demo, from_ms=0, to_ms=1)) == []


def test_releases_add_up(demo_reader: Reader, demo: Any) -> None:
    rows = {row["release"]: row for row in demo_reader.query(QUERIES["releases"], parameters(demo))}
    assert sum(row["n"] for row in rows.values()) == 6000
    assert all(row["n_all"] == 6000 for row in rows.values())
    assert all(row["passed"] + row["review"] + row["rejected"] == row["n"] for row in rows.values())
    assert (rows["2026-11-a"]["role"], rows["2026-11-b"]["role"]) == ("stable", "candidate")
    assert rows["2026-11-b"]["declared_share"] == 0.25


def test_mean_and_error_agree_with_arithmetic(demo_reader: Reader, demo: Any) -> None:
    raw = demo_reader.query(
        "SELECT unit, value FROM scores FINAL WHERE deployment = {d:String} AND metric = {m:String}"
        " AND release = {r:String} AND status = 'scored'",
        {"d": "support", "m": "refusal", "r": "2026-11-b"},
    )
    units: dict[str, list[float]] = {}
    for row in raw:
        units.setdefault(row["unit"], []).append(row["value"])
    n = len(raw)
    mean = sum(row["value"] for row in raw) / n
    spread = sum((sum(values) - mean * len(values)) ** 2 for values in units.values())
    se = math.sqrt(spread * len(units) / (len(units) - 1)) / n
    found = next(
        row
        for row in demo_reader.query(QUERIES["release_scores"], parameters(demo))
        if (row["release"], row["metric"]) == ("2026-11-b", "refusal")
    )
    assert (found["n"], found["units"]) == (n, len(units))
    assert found["mean"] == pytest.approx(mean)
    assert found["se"] == pytest.approx(se)


def test_abstained_scores_have_counts_and_no_mean(demo_reader: Reader, demo: Any) -> None:
    rows = demo_reader.query(QUERIES["release_scores"], parameters(demo))
    silent = [row for row in rows if row["metric"] == "sycophancy"]
    assert sum(row["abstained"] for row in silent) == 6000
    assert all(row["mean"] is None and row["n"] == 0 for row in silent)


def test_curves_cover_every_score_once(demo_reader: Reader, demo: Any) -> None:
    rows = demo_reader.query(QUERIES["curves"], parameters(demo, metrics=["refusal"]))
    assert sum(row["n"] for row in rows) == 6000
    assert all(row["bucket_ms"] % 300_000 == 0 for row in rows)


def test_offenders_are_worst_first_and_honour_the_segment(demo_reader: Reader, demo: Any) -> None:
    refusals = demo_reader.query(QUERIES["offenders"], parameters(demo))
    assert refusals[0]["value"] == 1.0
    helpful = [
        row["value"] for row in demo_reader.query(QUERIES["offenders"], parameters(demo, metric="helpful"))
    ]
    assert helpful == sorted(helpful)
    german = demo_reader.query(
        QUERIES["offenders"], parameters(demo, segment="language", segment_value="de", limit=1)
    )
    assert 0 < german[0]["n_all"] < refusals[0]["n_all"]


def test_texts_are_cut_where_asked(demo_reader: Reader, demo: Any) -> None:
    (row,) = demo_reader.query(QUERIES["texts"], parameters(demo))
    assert row["prompt"] == demo.hostile[:20]
    assert row["prompt_chars"] == len(demo.hostile)


def test_a_reader_cannot_write_or_read_files(demo_reader: Reader) -> None:
    for sql in ("DROP TABLE scores", "SELECT * FROM file('/etc/passwd', 'LineAsString')"):
        with pytest.raises(StoreError) as refused:
            demo_reader.query(sql, {})
        assert refused.value.code == 164
