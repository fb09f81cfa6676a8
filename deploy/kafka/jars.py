"""The broker's jars: copied by Maven once, then used without a network."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

_DOWNLOAD_LIMIT_S = 600.0


class LocalBrokerError(RuntimeError):
    """Why there is no local broker; the text names the remedy."""


def missing_tools(*, secured: bool = False) -> tuple[str, ...]:
    """Return which of the programs that a local broker needs are not on the path; empty if all are."""
    wanted = ("java", "mvn", "openssl") if secured else ("java", "mvn")
    return tuple(tool for tool in wanted if shutil.which(tool) is None)


def resolve_jars(cache: Path | None = None) -> Path:
    """Return the folder of the broker's jars, which Maven fills on first use.

    Parameters
    ----------
    cache
        Where folders of jars are kept; by default ``$XDG_CACHE_HOME/plumbline/kafka``. A folder is named by
        the digest of ``pom.xml``, so another version never mixes with this one.

    Raises
    ------
    LocalBrokerError
        If the jars are not there and Maven is not, or fails.
    """
    pom = files("deploy.kafka").joinpath("pom.xml")
    home = cache or _cache_home() / "plumbline" / "kafka"
    folder = home / hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    home.mkdir(parents=True, exist_ok=True)
    # Maven's own repository does not stand two writers, and two test processes may come at once.
    with (home / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=home) as scratch, as_file(pom) as pom_path:
                _copy(pom_path, Path(scratch) / "jars")
                (Path(scratch) / "jars").rename(folder)
    return folder


def _cache_home() -> Path:
    named = os.environ.get("XDG_CACHE_HOME", "")
    return Path(named) if named else Path.home() / ".cache"


def _copy(pom: Path, target: Path) -> None:
    command = ["mvn", "--batch-mode", "--quiet", "--strict-checksums", "--file", str(pom)]
    copied = run_tool([*command, "dependency:copy-dependencies", f"-DoutputDirectory={target}"])
    if copied.returncode:
        raise LocalBrokerError(f"Maven cannot bring the broker's jars: {_last_line(copied.stdout)}")
    if not any(target.glob("kafka_*.jar")):
        raise LocalBrokerError("Maven ended well and brought no broker: is its configuration offline?")


def run_tool(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end and return what it said; standard error is part of ``stdout``.

    Raises
    ------
    LocalBrokerError
        If the program is not there, or takes longer than ten minutes.
    """
    try:
        return subprocess.run(  # noqa: S603 - programs and arguments are ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_DOWNLOAD_LIMIT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise LocalBrokerError(f"{command[0]} is not on the path: install it (Java 17, Maven)") from error
    except subprocess.TimeoutExpired as error:
        raise LocalBrokerError(f"{command[0]} did not end within {_DOWNLOAD_LIMIT_S:.0f} s") from error


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if "ERROR" in line and line.strip(" []") != "ERROR"]
    return lines[0] if lines else "it gave no reason"
