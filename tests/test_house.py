"""The house itself: what is shipped, how long files are, and words that must not stand in it."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"detectors", "streams", "dashboards", "deploy", "plumbline"}
MAX_LINES = 350
LONGER_FOR_A_REASON: dict[str, str] = {}


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.fail(f"git cannot list the files of this checkout: {listed.stderr.strip()}")
    return [path for name in listed.stdout.split() if (path := ROOT / name).is_file()]


def test_no_python_file_is_over_350_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert long.keys() == LONGER_FOR_A_REASON.keys(), long


def test_names_say_what_they_are() -> None:
    vague = re.compile(r"(^|_)(utils?|helpers?|common|manager|base|misc)(_|$)")
    assert [path for path in tracked("*.py") if vague.search(path.stem)] == []


def test_no_paths_of_a_machine_and_no_registry_hosts() -> None:
    pattern = re.compile(
        r"/(?:root|home/\w+|work)/|pypi\.org|pythonhosted|registry\.npmjs|repo1?\.maven|deb\.debian"
    )
    texts = tracked("*.py", "*.md", "*.toml", "*.lock", "Makefile", "*.yaml", "*.xml", ".ci/*")
    found = [
        path for path in texts if path != Path(__file__) and pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_the_wheel_holds_the_packages_and_their_data(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    for path in tracked():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(copy)], check=True, timeout=300)
    (wheel,) = tmp_path.glob("plumbline-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    shipped = {name for name in names if not name.endswith(".py")}
    wanted = [path for path in tracked() if path.relative_to(ROOT).parts[0] in PACKAGES]
    missing = [
        str(path.relative_to(ROOT))
        for path in wanted
        if path.suffix not in {".py", ".md"} and str(path.relative_to(ROOT)) not in shipped
    ]
    assert missing == []
