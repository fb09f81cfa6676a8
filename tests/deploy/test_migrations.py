"""The schema follows fixed rules: deployment in every key, received_at for retention, text kept apart."""

import re

import pytest

from deploy.migrations import Migration, migrations

TABLES = {
    match[1]: statement
    for step in migrations()
    for statement in step.statements
    if (match := re.match(r"CREATE TABLE IF NOT EXISTS (\w+)", statement))
}


def test_versions_count_up_from_one() -> None:
    assert [step.version for step in migrations()] == list(range(1, len(migrations()) + 1))
    assert len({step.sha256 for step in migrations()}) == len(migrations())


def test_another_text_has_another_digest() -> None:
    one = Migration(version=1, name="a", sql="SELECT 1")
    assert one.sha256 != Migration(version=1, name="a", sql="SELECT 2").sha256


@pytest.mark.parametrize("table", sorted(TABLES))
def test_rules_of_every_table(table: str) -> None:
    ddl = TABLES[table]
    assert "ENGINE = ReplacingMergeTree(landed_at)" in ddl
    assert re.search(r"ORDER BY \(deployment, ", ddl)
    key = re.search(r"ORDER BY \((.*)\)", ddl)
    assert key is not None
    assert not {"landed_at", "src_offset", "src_partition"} & set(re.findall(r"\w+", key[1]))
    assert "src_partition UInt32" in ddl
    assert "src_offset UInt64" in ddl
    assert "non_replicated_deduplication_window = 10000" in ddl
    assert "fsync_after_insert = 1" in ddl
    partition = re.search(r"PARTITION BY (.*)", ddl)
    assert partition is None or partition[1] in {"toDate(received_at)", "toYYYYMM(at)"}
    ttl = re.search(r"TTL toDateTime\((\w+)\)", ddl)
    assert ttl is None or ttl[1] in {"received_at", "landed_at"}


def test_text_stands_only_in_tables_with_the_short_retention() -> None:
    texts = {"prompt", "response", "system", "history", "context", "tools", "extra", "annotations", "comment"}
    for table, ddl in TABLES.items():
        columns = set(re.findall(r"^  (\w+) ", ddl, re.MULTILINE))
        if columns & texts:
            assert table in {"interaction_text", "comments"}
            assert "INTERVAL 30 DAY" in ddl


def test_no_statement_names_a_database() -> None:
    for ddl in TABLES.values():
        assert "." not in re.sub(r"0\.\d+", "", ddl.split("(")[0])
