"""`plumbline evaluate`: files, exit codes, and detectors that live in another interpreter."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from detectors.evaluate import part_releases
from detectors.evaluate.figures import SMALL, Figure, Task
from detectors.evaluate.grid import Evaluation
from streams import evaluate_foreign
from streams.cli import plumbline
from streams.evaluate_foreign import measure_foreign

FEW = msgspec.structs.replace(SMALL, pairs=3, horizon=2_000, delay_horizon=500)

WORKING = """
class PageHinkleyConfig: pass
class ADWINConfig:
    def __init__(self, delta): self.delta = delta
class _Mean:
    def __init__(self, config): self.reset()
    def reset(self): self.status, self.seen = {"drift": False}, []
    def update(self, value):
        self.seen.append(value)
        self.status = {"drift": len(self.seen) >= 20 and sum(self.seen[-20:]) >= 9}
ADWIN = PageHinkley = _Mean
"""


def run(*arguments: str):
    return CliRunner().invoke(plumbline, ["evaluate", *arguments])


def test_it_writes_what_it_measured_and_exits_with_0_where_every_bar_held(tmp_path):
    done = run("--part", "releases", "--small", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "3 of 3 bars held" in done.output
    saved = msgspec.json.decode((tmp_path / "evaluation.json").read_bytes(), type=Evaluation)
    assert saved.held
    assert saved.parts == ("releases",)
    assert (tmp_path / "evaluation.md").read_text(encoding="utf-8").startswith("# Drift detectors, measured")
    assert (tmp_path / "bars.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")


def test_one_bar_that_falls_is_exit_code_1(monkeypatch):
    bad = Figure(part="releases", detector="D", world="w", measure="found", value=0.5, n=10)
    step = Task(part="releases", name="n", run=lambda: [bad])
    monkeypatch.setattr(part_releases, "tasks", lambda *_: [step])
    done = run("--part", "releases", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["bars"][0]["held"] is False


def test_a_tuning_seed_says_that_it_proves_nothing(monkeypatch):
    good = Figure(part="releases", detector="D", world="w", measure="found", value=1.0, n=10)
    seeds = []
    step = Task(part="releases", name="n", run=lambda: [good])
    monkeypatch.setattr(part_releases, "tasks", lambda effort, seed: seeds.append(seed) or [step])
    assert "proves nothing" in run("--part", "releases", "--seed", "3").output
    assert "proves nothing" not in run("--part", "releases").output
    assert seeds == [3, 10_000]


def test_an_unknown_part_is_asked_for_wrongly():
    assert run("--part", "luck").exit_code == 2


def stand_in(tmp_path: Path, frouros: str | None) -> Path:
    """Return an interpreter that finds NumPy and, if given, this `frouros`."""
    folder = tmp_path / "packages"
    (folder / "frouros" / "detectors").mkdir(parents=True)
    if frouros is not None:
        (folder / "frouros" / "__init__.py").touch()
        (folder / "frouros" / "detectors" / "__init__.py").touch()
        (folder / "frouros" / "detectors" / "concept_drift.py").write_text(frouros, encoding="utf-8")
    script = tmp_path / "python"
    code = (
        "import runpy, sys; sys.path.insert(0, sys.argv[1]); runpy.run_path(sys.argv[2], run_name='__main__')"
    )
    script.write_text(
        f'#!/bin/sh\nshift\nexec "{sys.executable}" -c "{code}" "{folder}" "$1"\n', encoding="utf-8"
    )
    script.chmod(0o755)
    return script


def test_frouros_in_another_interpreter_is_measured(tmp_path):
    figures, reason = measure_foreign(stand_in(tmp_path, WORKING), FEW, 10_000)
    assert reason == ""
    assert {f.detector for f in figures} == {
        "frouros ADWIN delta=0.002",
        "frouros ADWIN delta=0.3",
        "frouros PageHinkley",
    }
    delays = {f.world: f.value for f in figures if f.measure == "delay"}
    assert delays["bernoulli .90 -> 0.70"] < delays["bernoulli .90 -> 0.85"]


@pytest.mark.parametrize(
    ("frouros", "said"), [(None, "neither frouros"), ("raise RuntimeError('x')", "cannot run")]
)
def test_what_cannot_be_imported_is_skipped_with_a_reason(tmp_path, frouros, said):
    figures, reason = measure_foreign(stand_in(tmp_path, frouros), FEW, 10_000)
    assert figures == []
    assert said in reason


def test_an_interpreter_that_hangs_or_is_none_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_foreign, "TIMEOUT_S", 0.2)
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 30\n", encoding="utf-8")
    sleeper.chmod(0o755)
    assert "no answer within" in measure_foreign(sleeper, FEW, 10_000)[1]
    assert "cannot run" in measure_foreign(tmp_path / "nobody", FEW, 10_000)[1]


def test_without_matplotlib_there_is_a_word_and_no_plot(tmp_path):
    code = (
        "import sys; sys.modules['matplotlib'] = None; sys.modules['matplotlib.figure'] = None\n"
        "from streams.cli import main; main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", "--part", "releases", "--small", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "plumbline[plots]" in done.stderr
    assert not list(tmp_path.glob("*.svg"))
    assert (tmp_path / "evaluation.md").exists()
