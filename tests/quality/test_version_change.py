"""A real version change, replayed: gpt-4-0314 against gpt-4-0613 on the Arena-Hard questions."""

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from detectors.comparison import Comparison
from streams.cli import plumbline

ANSWERS = Path("arena_hard_v01", "data", "arena-hard-v0.1", "model_answer")
MAPPING = ("conversation=uid", "prompt=messages.0.content", "response=messages.1.content.answer")


@pytest.mark.data
def test_the_report_names_what_moved(data_dir: Path, tmp_path: Path) -> None:
    shared = ["--data-dir", str(tmp_path / "data")]
    replays = (("gpt-4-0314", "stable", "2025-01-01"), ("gpt-4-0613", "candidate", "2025-02-01"))
    for release, role, start in replays:
        answers = data_dir / ANSWERS / f"{release}.jsonl"
        command = ["replay", str(answers), *shared, "--deployment", "assistant"]
        command += ["--release", release, "--role", role, "--start", start, "--step-s", "60"]
        for pair in MAPPING:
            command += ["--map", pair]
        done = CliRunner().invoke(plumbline, command)
        assert done.exit_code == 0, done.output
        assert "500 accepted" in done.output
    compare = ["compare", "assistant", "gpt-4-0314", "gpt-4-0613", *shared]
    told = CliRunner().invoke(plumbline, compare)
    assert "moved: " in told.output
    done = CliRunner().invoke(plumbline, [*compare, "--json"])
    rows = {row.metric: row for row in msgspec.json.decode(done.output, type=list[Comparison])}
    assert all(
        row.paired and row.interval.low <= row.difference <= row.interval.high for row in rows.values()
    )
    for metric, sign in (("answer_length", -1), ("answer_code", -1), ("hedging", +1)):
        assert rows[metric].moved, metric
        assert rows[metric].difference * sign > 0, metric
    for metric in ("harmless", "helpful", "honest"):
        assert not rows[metric].worse, metric
